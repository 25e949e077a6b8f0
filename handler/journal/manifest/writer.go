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
	writeEvery    = time.Second            // at least, between two writes
	gatherTime    = 500 * time.Millisecond // from a first change to its write, so that a begin and its end share one
	writeTimeout  = 2 * time.Second        // of one write
	touchEvery    = 30 * time.Second
	maxWritePause = 30 * time.Second
)

// CloseIdleAfter is the time without a line after which a process must close its file, before its claim ends.
const CloseIdleAfter = 100 * time.Second

// Writer writes the entries of one process's files beside the appends, which never wait for it. It repeats a write that
// failed. It forgets a file that another process has taken, because that process seals it. All methods work on nil,
// which does nothing.
type Writer struct {
	manifest *Manifest
	process  string
	logger   *slog.Logger
	busy     func() bool // requests are in flight

	mu      sync.Mutex
	entries []*entry // not done, in the order they were opened
	polled  time.Time

	writing sync.Mutex // held during a flush
	wake    chan struct{}
	cancel  context.CancelFunc
	ended   chan struct{}
}

// entry is a manifest entry as it should be. The writer's mu guards it.
type entry struct {
	File
	inserted bool
	dirty    bool
	written  time.Time
}

// NewWriter returns a writer of the entries of process, and starts it. busy reports whether requests
// are in flight.
func NewWriter(m *Manifest, process string, busy func() bool, logger *slog.Logger) *Writer {
	ctx, cancel := context.WithCancel(context.Background())
	w := &Writer{
		manifest: m, process: process, logger: logger, busy: busy,
		wake: make(chan struct{}, 1), cancel: cancel, ended: make(chan struct{}),
	}
	go w.run(ctx)
	return w
}

// Insert tries once to write an entry before the file has a blob. The file is used without an entry while the table
// cannot be reached. ErrTaken says that it must not be used.
func (w *Writer) Insert(ctx context.Context, name string) error {
	if w == nil {
		return nil
	}
	f, _ := ParseFile(name) // one of the writer's own names
	e := &entry{File: f}
	written, err := w.writeEntry(ctx, w.manifest.Claim, e.File)
	switch {
	case err == nil:
		e.File, e.inserted, e.written = written, true, time.Now()
	case errors.Is(err, ErrTaken):
		return err
	default:
		e.dirty = true
		w.logger.Warn("a journal file has no manifest entry yet; it follows", "file", name, "error", err)
	}
	w.mu.Lock()
	w.entries = append(w.entries, e)
	w.mu.Unlock()
	if e.dirty {
		w.wakeUp()
	}
	return nil
}

// put writes the entry of f with write, and renews the writer's claim with it.
func (w *Writer) writeEntry(ctx context.Context, write putFunc, f File) (File, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	f.Owner, f.Until = w.process, w.manifest.Now().Add(WriterClaim)
	return write(ctx, f)
}

type putFunc = func(context.Context, File) (File, error)

// change applies f to the named file, if it is still known, and has it written soon.
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

// Checkpoint notes the new head of a file.
func (w *Writer) Checkpoint(name string, head Head) {
	w.change(name, func(f *File) { f.Head = head })
}

// Seal notes that nothing more is appended to a file.
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

// run writes what changed until stop.
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

// touch renews the claims on files that requests in flight may still append to, and on those being derived.
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

// Flush writes every entry that changed, and reports whether it wrote all of them.
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
		w.logger.Error("the manifest entry of a journal file is gone; it is written again", "file", f.Name)
		e.inserted = false
	default:
		w.logger.Warn("a manifest entry could not be written; it is tried again", "file", f.Name, "error", err)
	}
	e.dirty = true
	return false
}

// forget must be called with mu held.
func (w *Writer) forget(e *entry) {
	w.entries = slices.DeleteFunc(w.entries, func(o *entry) bool { return o == e })
}

// Stop ends the writing of changes; Flush works after it, too.
func (w *Writer) Stop() {
	if w != nil {
		w.cancel()
		<-w.ended
	}
}

// Files returns the files that are not done, in the order they were opened. The caller must derive from them: the writer
// keeps its claim on sealed files while Files is called.
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

// Finish marks a file as done if it is sealed: everything in it is derived and nothing will follow.
func (w *Writer) Finish(name string) {
	w.change(name, func(f *File) {
		if f.State == Sealed {
			f.State = Done
		}
	})
}
