package manifest

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"aoaigateway/handler/backoff"
	"aoaigateway/handler/table"
)

const (
	writeEvery    = time.Second            // the least time between two writes of an entry
	gatherTime    = 500 * time.Millisecond // time from the first change to the write, so that a request's begin and end often share a write
	writeTimeout  = 2 * time.Second        // time limit of one write
	touchEvery    = 30 * time.Second
	maxWritePause = 30 * time.Second
)

// CloseIdleAfter is how long a file without new lines may stay open. It is shorter than the
// time for which the writer owns the file.
const CloseIdleAfter = 100 * time.Second

// Writer writes the manifest entries of one process's files in the background; appends
// never wait for it. It repeats writes that fail. It stops writing the entry of a file that
// another process has taken, because that process seals the file. All methods may be called
// on nil and then do nothing.
type Writer struct {
	manifest *Manifest
	process  string
	logger   *slog.Logger
	busy     func() bool // reports whether requests are in flight

	mu      sync.Mutex
	entries []*entry // entries of files that are not done, in the order in which the files were opened
	polled  time.Time

	writing sync.Mutex // held while changed entries are written
	wake    chan struct{}
	cancel  context.CancelFunc
	ended   chan struct{}
}

// entry is the wanted content of a manifest entry. It is guarded by the writer's mu.
type entry struct {
	File
	inserted bool
	dirty    bool
	written  time.Time
}

// NewWriter starts a writer of the manifest entries of process. busy reports whether
// requests are in flight.
func NewWriter(m *Manifest, process string, busy func() bool, logger *slog.Logger) *Writer {
	ctx, cancel := context.WithCancel(context.Background())
	w := &Writer{
		manifest: m, process: process, logger: logger, busy: busy,
		wake: make(chan struct{}, 1), cancel: cancel, ended: make(chan struct{}),
	}
	go w.run(ctx)
	return w
}

// Insert tries once to insert the entry of a file, before the blob is created. If the table
// cannot be reached, it returns nil and the file may be used without an entry. ErrTaken
// means that the file must not be used.
func (w *Writer) Insert(ctx context.Context, name string) error {
	if w == nil {
		return nil
	}
	f, _ := ParseFile(name) // cannot fail: the writer itself made the name
	e := &entry{File: f}
	written, err := w.writeEntry(ctx, w.manifest.Claim, e.File)
	switch {
	case err == nil:
		e.File, e.inserted, e.written = written, true, time.Now()
	case errors.Is(err, ErrTaken):
		return err
	default:
		e.dirty = true
		w.logger.Warn("the manifest entry of a journal file could not be inserted; the gateway tries again", "file", name, "error", err)
	}
	w.mu.Lock()
	w.entries = append(w.entries, e)
	w.mu.Unlock()
	if e.dirty {
		w.wakeUp()
	}
	return nil
}

// writeEntry writes the entry of f with the function write. The same write renews the
// ownership of the file.
func (w *Writer) writeEntry(ctx context.Context, write putFunc, f File) (File, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	f.Owner, f.Until = w.process, w.manifest.Now().Add(WriterClaim)
	return write(ctx, f)
}

type putFunc = func(context.Context, File) (File, error)

// change applies f to the entry of the named file, if the writer still has it. The entry is
// written soon.
func (w *Writer) change(name string, f func(*File)) {
	if w == nil {
		return
	}
	w.mu.Lock()
	for _, e := range w.entries {
		if e.Name == name {
			f(&e.File)
			e.dirty = true
		}
	}
	w.mu.Unlock()
	w.wakeUp()
}

// Checkpoint sets a new checkpoint of a file.
func (w *Writer) Checkpoint(name string, head Head) {
	w.change(name, func(f *File) { f.Head = head })
}

// Seal marks a file as one to which nothing more is appended.
func (w *Writer) Seal(name string) {
	w.change(name, func(f *File) {
		if f.State == Open {
			f.State = Sealed
		}
	})
}

func (w *Writer) wakeUp() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run writes changed entries until Stop is called.
func (w *Writer) run(ctx context.Context) {
	defer close(w.ended)
	touch := time.NewTicker(touchEvery)
	defer touch.Stop()
	var last time.Time
	retry := backoff.Backoff{First: writeEvery, Max: maxWritePause}
	for {
		select {
		case <-ctx.Done():
			return
		case <-touch.C:
			w.touch()
			continue
		case <-w.wake:
		}
		if !backoff.Sleep(ctx, max(gatherTime, time.Until(last.Add(writeEvery)))) {
			return
		}
		last = time.Now()
		if w.Flush(ctx) {
			retry.Reset()
			continue
		}
		if !retry.Wait(ctx) {
			return
		}
		w.wakeUp()
	}
}

// touch renews the ownership of the files that are still needed: those that requests in
// flight may still be appended to, and those that are being derived from.
func (w *Writer) touch() {
	busy := w.busy()
	w.mu.Lock()
	defer w.mu.Unlock()
	derived := time.Since(w.polled) < touchEvery
	for _, e := range w.entries {
		needed := busy && e.State == Open || derived && e.State == Sealed
		if needed && time.Since(e.written) > touchEvery/2 {
			e.dirty = true
			w.wakeUp()
		}
	}
}

// Flush writes every changed entry. It reports whether it could write all of them.
func (w *Writer) Flush(ctx context.Context) bool {
	if w == nil {
		return true
	}
	w.writing.Lock()
	defer w.writing.Unlock()
	w.mu.Lock()
	entries := slices.Clone(w.entries)
	w.mu.Unlock()
	all := true
	for _, e := range entries {
		all = w.write(ctx, e) && all
	}
	return all
}

func (w *Writer) write(ctx context.Context, e *entry) bool {
	w.mu.Lock()
	f, dirty, write := e.File, e.dirty, w.manifest.Claim
	if e.inserted {
		write = w.manifest.Replace
	}
	e.dirty = false
	w.mu.Unlock()
	if !dirty {
		return true
	}
	written, err := w.writeEntry(ctx, write, f)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil:
		e.keepRevision(written)
		e.inserted, e.written = true, time.Now()
		if f.State == Done {
			w.forget(e)
		}
		return true
	case errors.Is(err, ErrTaken):
		w.logger.Warn("another process has taken a journal file", "file", f.Name)
		w.forget(e)
		return true
	case errors.Is(err, table.ErrNotFound) && e.inserted:
		w.logger.Error("the manifest entry of a journal file was deleted; the gateway inserts it again", "file", f.Name)
		e.inserted = false
	default:
		w.logger.Warn("a manifest entry could not be written; the gateway tries again", "file", f.Name, "error", err)
	}
	e.dirty = true
	return false
}

// forget requires that the caller has locked mu.
func (w *Writer) forget(e *entry) {
	w.entries = slices.DeleteFunc(w.entries, func(o *entry) bool { return o == e })
}

// Stop ends the background writing. Flush still works afterwards.
func (w *Writer) Stop() {
	if w != nil {
		w.cancel()
		<-w.ended
	}
}

// Files returns the files that are not done, in the order in which they were opened. The
// caller must derive from them: the process owns sealed files only as long as Files is
// called again and again.
func (w *Writer) Files() (files []File) {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.polled = time.Now()
	for _, e := range w.entries {
		files = append(files, e.File)
	}
	return files
}

// Advance moves the cursor of a file to offset.
func (w *Writer) Advance(name string, offset int64) {
	w.change(name, func(f *File) { f.Processed = max(f.Processed, offset) })
}

// Finish marks a file as done if it is sealed. The caller must have derived everything in
// it.
func (w *Writer) Finish(name string) {
	w.change(name, func(f *File) {
		if f.State == Sealed {
			f.State = Done
		}
	})
}
