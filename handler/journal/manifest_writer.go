package journal

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"aoaigateway/handler/table"
)

// The keeper's times.
const (
	writeEvery     = time.Second            // between two writes, at least
	gatherTime     = 500 * time.Millisecond // from a first change to its write: a begin has its end's company
	writeTimeout   = 2 * time.Second        // of one write
	touchEvery     = 30 * time.Second
	closeIdleAfter = 100 * time.Second // less than WriterLives
	maxWritePause  = 30 * time.Second
)

// keeper writes the rows of a writer's files, beside the appends and never in their way.
// What it could not write it writes later; a file whose row another has taken it forgets,
// since whoever has it seals it. All methods work on nil, which keeps nothing.
type manifestWriter struct {
	manifest *Manifest
	process  string
	logger   *slog.Logger
	busy     func() bool // requests are in flight

	mu      sync.Mutex
	entries []*entry // not done, in the order they were opened
	polled  time.Time

	writing sync.Mutex // held over a flush
	wake    chan struct{}
	cancel  context.CancelFunc
	ended   chan struct{}
}

// kept is a row as it should be, under the keeper's lock.
type entry struct {
	File
	inserted bool
	dirty    bool
	written  time.Time
}

func newManifestWriter(o Options, process string, busy func() bool) *manifestWriter {
	ctx, cancel := context.WithCancel(context.Background())
	k := &manifestWriter{
		manifest: o.Manifest, process: process, logger: o.Logger, busy: busy,
		wake: make(chan struct{}, 1), cancel: cancel, ended: make(chan struct{}),
	}
	go k.run(ctx)
	return k
}

// insert tries once to have a row before the file has a blob. The file goes on without
// one while the store is away; ErrTaken says that it must not be used.
func (k *manifestWriter) insert(ctx context.Context, name string) error {
	if k == nil {
		return nil
	}
	f, _ := ParseName(name) // our own names
	c := &entry{File: f}
	row, err := k.put(ctx, c.File, false)
	switch {
	case err == nil:
		c.File, c.inserted, c.written = row, true, time.Now()
	case errors.Is(err, ErrTaken):
		return err
	default:
		c.dirty = true
		k.logger.Warn("journal file has no row yet", "file", name, "error", err)
	}
	k.mu.Lock()
	k.entries = append(k.entries, c)
	k.mu.Unlock()
	if c.dirty {
		k.wakeUp()
	}
	return nil
}

// put writes the row, claiming for the writer as long as one write claims.
func (k *manifestWriter) put(ctx context.Context, f File, inserted bool) (File, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	f.Owner, f.Until = k.process, k.manifest.Now().Add(WriterClaim)
	if inserted {
		return k.manifest.Replace(ctx, f)
	}
	row, err := k.manifest.Insert(ctx, f)
	if !errors.Is(err, table.ErrExists) {
		return row, err
	}
	stored, err := k.manifest.Get(ctx, f)
	switch {
	case err != nil:
		return f, err
	case stored.Owner != k.process && stored.Owner != "":
		return f, ErrTaken
	}
	f.rev, f.Adopted = stored.rev, stored.Adopted
	return k.manifest.Replace(ctx, f)
}

// change applies f to the named file, if it is still kept, and has it written soon.
func (k *manifestWriter) change(name string, f func(*File)) {
	if k == nil {
		return
	}
	k.mu.Lock()
	for _, c := range k.entries {
		if c.Name == name {
			f(&c.File)
			c.dirty = true
		}
	}
	k.mu.Unlock()
	k.wakeUp()
}

func (k *manifestWriter) checkpoint(name string, seq, length int64, hash string) {
	k.change(name, func(f *File) { f.Seq, f.Length, f.Hash = seq, length, hash })
}

func (k *manifestWriter) seal(name string) {
	k.change(name, func(f *File) {
		if f.State == Open {
			f.State = Sealed
		}
	})
}

func (k *manifestWriter) wakeUp() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// run writes what changed until stop.
func (k *manifestWriter) run(ctx context.Context) {
	defer close(k.ended)
	touch := time.NewTicker(touchEvery)
	defer touch.Stop()
	var last time.Time
	retry := writeEvery
	for {
		select {
		case <-ctx.Done():
			return
		case <-touch.C:
			k.touch()
			continue
		case <-k.wake:
		}
		if !pauseFor(ctx, max(gatherTime, time.Until(last.Add(writeEvery)))) {
			return
		}
		last = time.Now()
		if k.flush(ctx) {
			retry = writeEvery
			continue
		}
		if !pauseFor(ctx, retry) {
			return
		}
		retry = min(2*retry, maxWritePause)
		k.wakeUp()
	}
}

// touch renews the claims on files that requests in flight may still append to, and on
// those that are being derived.
func (k *manifestWriter) touch() {
	busy := k.busy()
	k.mu.Lock()
	defer k.mu.Unlock()
	derived := time.Since(k.polled) < touchEvery
	for _, c := range k.entries {
		if (busy && c.State == Open || derived && c.State == Sealed) && time.Since(c.written) > touchEvery/2 {
			c.dirty = true
			k.wakeUp()
		}
	}
}

// flush writes every row that is not as it should be, and reports whether all are then.
func (k *manifestWriter) flush(ctx context.Context) bool {
	if k == nil {
		return true
	}
	k.writing.Lock()
	defer k.writing.Unlock()
	k.mu.Lock()
	files := slices.Clone(k.entries)
	k.mu.Unlock()
	all := true
	for _, c := range files {
		all = k.write(ctx, c) && all
	}
	return all
}

func (k *manifestWriter) write(ctx context.Context, c *entry) bool {
	k.mu.Lock()
	f, inserted, dirty := c.File, c.inserted, c.dirty
	c.dirty = false
	k.mu.Unlock()
	if !dirty {
		return true
	}
	row, err := k.put(ctx, f, inserted)
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case err == nil:
		c.rev, c.Adopted, c.Until, c.Owner = row.rev, row.Adopted, row.Until, row.Owner
		c.inserted, c.written = true, time.Now()
		if f.State == Done {
			k.forget(c)
		}
		return true
	case errors.Is(err, ErrTaken):
		k.logger.Warn("journal file was taken over", "file", f.Name)
		k.forget(c)
		return true
	case errors.Is(err, table.ErrNotFound) && inserted:
		k.logger.Error("journal file's row is gone", "file", f.Name)
		c.inserted = false
	default:
		k.logger.Warn("journal row was not written", "file", f.Name, "error", err)
	}
	c.dirty = true
	return false
}

// forget is called with mu held.
func (k *manifestWriter) forget(c *entry) {
	k.entries = slices.DeleteFunc(k.entries, func(o *entry) bool { return o == c })
}

func (k *manifestWriter) stop() {
	if k != nil {
		k.cancel()
		<-k.ended
	}
}

// Files returns the writer's files that are not done, in the order they were opened, as
// far as they are durable. To ask is to say that they are being derived from.
func (w *Writer) Files() []File {
	k := w.manifest
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.polled = time.Now()
	var files []File
	for _, c := range k.entries {
		files = append(files, c.File)
	}
	return files
}

// Advance moves the cursor of one of the writer's files to offset. The manifest follows within about a second.
func (w *Writer) Advance(name string, offset int64) {
	w.manifest.change(name, func(f *File) { f.Processed = max(f.Processed, offset) })
}

// Finish marks one of the writer's files as done if it is sealed: everything in it is derived and nothing will follow.
func (w *Writer) Finish(name string) {
	w.manifest.change(name, func(f *File) {
		if f.State == Sealed {
			f.State = Done
		}
	})
}

// Sync writes the rows as they should be by now; it works after Close too.
func (w *Writer) Sync(ctx context.Context) bool { return w.manifest.flush(ctx) }

func pauseFor(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
