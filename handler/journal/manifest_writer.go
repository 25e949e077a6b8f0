package journal

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"aoaigateway/handler/backoff"
	"aoaigateway/handler/journal/manifest"
	"aoaigateway/handler/table"
)

const (
	writeEvery     = time.Second            // at least, between two writes
	gatherTime     = 500 * time.Millisecond // from a first change to its write, so that a begin and its end share one
	writeTimeout   = 2 * time.Second        // of one write
	touchEvery     = 30 * time.Second
	closeIdleAfter = 100 * time.Second // less than manifest.WriterClaim
	maxWritePause  = 30 * time.Second
)

// manifestWriter writes the manifest entries of a writer's files beside the appends, which never wait for it. It
// repeats a write that failed. It forgets a file that another process has taken, because that process seals it. All
// methods work on nil, which does nothing.
type manifestWriter struct {
	manifest *manifest.Manifest
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

// entry is a manifest entry as it should be. The manifestWriter's mu guards it.
type entry struct {
	manifest.File
	inserted bool
	dirty    bool
	written  time.Time
}

func newManifestWriter(o Options, process string, busy func() bool) *manifestWriter {
	ctx, cancel := context.WithCancel(context.Background())
	m := &manifestWriter{
		manifest: o.Manifest, process: process, logger: o.Logger, busy: busy,
		wake: make(chan struct{}, 1), cancel: cancel, ended: make(chan struct{}),
	}
	go m.run(ctx)
	return m
}

// insert tries once to write an entry before the file has a blob. The file is used without an entry while the table
// cannot be reached. ErrTaken says that it must not be used.
func (m *manifestWriter) insert(ctx context.Context, name string) error {
	if m == nil {
		return nil
	}
	f, _ := manifest.ParseFile(name) // one of the writer's own names
	e := &entry{File: f}
	written, err := m.writeEntry(ctx, m.manifest.Claim, e.File)
	switch {
	case err == nil:
		e.File, e.inserted, e.written = written, true, time.Now()
	case errors.Is(err, manifest.ErrTaken):
		return err
	default:
		e.dirty = true
		m.logger.Warn("a journal file has no manifest entry yet; it follows", "file", name, "error", err)
	}
	m.mu.Lock()
	m.entries = append(m.entries, e)
	m.mu.Unlock()
	if e.dirty {
		m.wakeUp()
	}
	return nil
}

// put writes the entry of f with write, and renews the writer's claim with it.
func (m *manifestWriter) writeEntry(ctx context.Context, write putFunc, f manifest.File) (manifest.File, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	f.Owner, f.Until = m.process, m.manifest.Now().Add(manifest.WriterClaim)
	return write(ctx, f)
}

type putFunc = func(context.Context, manifest.File) (manifest.File, error)

// change applies f to the named file, if it is still known, and has it written soon.
func (m *manifestWriter) change(name string, f func(*manifest.File)) {
	if m == nil {
		return
	}
	m.mu.Lock()
	for _, e := range m.entries {
		if e.Name == name {
			f(&e.File)
			e.dirty = true
		}
	}
	m.mu.Unlock()
	m.wakeUp()
}

func (m *manifestWriter) checkpoint(name string, head manifest.Head) {
	m.change(name, func(f *manifest.File) { f.Head = head })
}

func (m *manifestWriter) seal(name string) {
	m.change(name, func(f *manifest.File) {
		if f.State == manifest.Open {
			f.State = manifest.Sealed
		}
	})
}

func (m *manifestWriter) wakeUp() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// run writes what changed until stop.
func (m *manifestWriter) run(ctx context.Context) {
	defer close(m.ended)
	touch := time.NewTicker(touchEvery)
	defer touch.Stop()
	var last time.Time
	retry := backoff.Backoff{First: writeEvery, Max: maxWritePause}
	for {
		select {
		case <-ctx.Done():
			return
		case <-touch.C:
			m.touch()
			continue
		case <-m.wake:
		}
		if !backoff.Sleep(ctx, max(gatherTime, time.Until(last.Add(writeEvery)))) {
			return
		}
		last = time.Now()
		if m.flush(ctx) {
			retry.Reset()
			continue
		}
		if !retry.Wait(ctx) {
			return
		}
		m.wakeUp()
	}
}

// touch renews the claims on files that requests in flight may still append to, and on those being derived.
func (m *manifestWriter) touch() {
	busy := m.busy()
	m.mu.Lock()
	defer m.mu.Unlock()
	derived := time.Since(m.polled) < touchEvery
	for _, e := range m.entries {
		needed := busy && e.State == manifest.Open || derived && e.State == manifest.Sealed
		if needed && time.Since(e.written) > touchEvery/2 {
			e.dirty = true
			m.wakeUp()
		}
	}
}

// flush writes every entry that changed, and reports whether it wrote all of them.
func (m *manifestWriter) flush(ctx context.Context) bool {
	if m == nil {
		return true
	}
	m.writing.Lock()
	defer m.writing.Unlock()
	m.mu.Lock()
	entries := slices.Clone(m.entries)
	m.mu.Unlock()
	all := true
	for _, e := range entries {
		all = m.write(ctx, e) && all
	}
	return all
}

func (m *manifestWriter) write(ctx context.Context, e *entry) bool {
	m.mu.Lock()
	f, dirty, write := e.File, e.dirty, m.manifest.Claim
	if e.inserted {
		write = m.manifest.Replace
	}
	e.dirty = false
	m.mu.Unlock()
	if !dirty {
		return true
	}
	written, err := m.writeEntry(ctx, write, f)
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case err == nil:
		e.KeepRevision(written)
		e.inserted, e.written = true, time.Now()
		if f.State == manifest.Done {
			m.forget(e)
		}
		return true
	case errors.Is(err, manifest.ErrTaken):
		m.logger.Warn("another process has taken a journal file", "file", f.Name)
		m.forget(e)
		return true
	case errors.Is(err, table.ErrNotFound) && e.inserted:
		m.logger.Error("the manifest entry of a journal file is gone; it is written again", "file", f.Name)
		e.inserted = false
	default:
		m.logger.Warn("a manifest entry could not be written; it is tried again", "file", f.Name, "error", err)
	}
	e.dirty = true
	return false
}

// forget must be called with mu held.
func (m *manifestWriter) forget(e *entry) {
	m.entries = slices.DeleteFunc(m.entries, func(o *entry) bool { return o == e })
}

func (m *manifestWriter) stop() {
	if m != nil {
		m.cancel()
		<-m.ended
	}
}
