package derive_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"sync"
	"testing"
	"time"

	"aoaigateway/handler/blob"
	"aoaigateway/handler/derive"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal"
	"aoaigateway/handler/journal/manifest"
	"aoaigateway/handler/journal/verify"
	"aoaigateway/handler/table"
)

// harness has the stores that outlive processes.
type harness struct {
	t     *testing.T
	blobs *blob.Mem
	store *table.Mem
}

func newHarness(t *testing.T) *harness {
	return &harness{t: t, blobs: &blob.Mem{}, store: table.NewMem()}
}

func (w *harness) manifest() *manifest.Manifest { return manifest.New(w.store) }

// instance is one process: its journal, its worker and its life.
type instance struct {
	*harness
	life   *life
	writer *journal.Writer
	worker *derive.Worker
	sink   *sink
	halt   context.CancelFunc
	halted chan struct{}
}

// life is between a process and its stores.
type life struct {
	mu      sync.Mutex
	dead    bool
	stopped chan struct{} // not nil while stopped
	steps   int
	killAt  int  // 0 = never
	after   bool // the fatal step is still applied
}

var errDead = errors.New("the process is dead")

// step runs one operation of the process on a store, unless it is dead by then.
func (l *life) step(apply func() error) error {
	l.mu.Lock()
	for l.stopped != nil {
		gate := l.stopped
		l.mu.Unlock()
		<-gate
		l.mu.Lock()
	}
	l.steps++
	dead, last := l.dead, l.steps == l.killAt
	if last {
		l.dead = true
	}
	l.mu.Unlock()
	if dead || last && !l.after {
		return errDead
	}
	err := apply()
	if last {
		return errDead
	}
	return err
}

func (l *life) kill() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
}

func (l *life) isDead() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dead
}

func (l *life) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = make(chan struct{})
}

func (l *life) cont() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.stopped)
	l.stopped = nil
}

type mortalBlobs struct {
	blob.Store
	life *life
}

func (b mortalBlobs) Create(ctx context.Context, name string) error {
	return b.life.step(func() error { return b.Store.Create(ctx, name) })
}

func (b mortalBlobs) Append(ctx context.Context, name string, at int64, data []byte) error {
	return b.life.step(func() error { return b.Store.Append(ctx, name, at, data) })
}

func (b mortalBlobs) Seal(ctx context.Context, name string) error {
	return b.life.step(func() error { return b.Store.Seal(ctx, name) })
}

func (b mortalBlobs) Length(ctx context.Context, name string) (n int64, sealed bool, err error) {
	err = b.life.step(func() error { n, sealed, err = b.Store.Length(ctx, name); return err })
	return n, sealed, err
}

func (b mortalBlobs) Open(ctx context.Context, name string, offset int64) (r io.ReadCloser, err error) {
	err = b.life.step(func() error { r, err = b.Store.Open(ctx, name, offset); return err })
	return r, err
}

type mortalStore struct {
	table.Store
	life *life
}

func (s mortalStore) Get(ctx context.Context, k table.Key) (e table.Entity, err error) {
	err = s.life.step(func() error { e, err = s.Store.Get(ctx, k); return err })
	return e, err
}

func (s mortalStore) Insert(ctx context.Context, in table.Entity) (e table.Entity, err error) {
	err = s.life.step(func() error { e, err = s.Store.Insert(ctx, in); return err })
	return e, err
}

func (s mortalStore) Replace(ctx context.Context, in table.Entity) (e table.Entity, err error) {
	err = s.life.step(func() error { e, err = s.Store.Replace(ctx, in); return err })
	return e, err
}

func (s mortalStore) Scan(ctx context.Context, partition string) iter.Seq2[table.Entity, error] {
	if err := s.life.step(func() error { return nil }); err != nil {
		return func(yield func(table.Entity, error) bool) { yield(table.Entity{}, err) }
	}
	return s.Store.Scan(ctx, partition)
}

// sink keeps what a process's consumer accepted, as Log Analytics would: outside of it.
type sink struct {
	life *life
	err  error // of every Take, when set

	mu     sync.Mutex
	fresh  []gateway.Entry
	replay []gateway.Entry
	closed []string
}

func (s *sink) Take(_ context.Context, _ string, entries []gateway.Entry) error {
	return s.accept(&s.fresh, entries)
}

func (s *sink) Replay(_ context.Context, _ string, entries []gateway.Entry) error {
	return s.accept(&s.replay, entries)
}

func (s *sink) accept(into *[]gateway.Entry, entries []gateway.Entry) error {
	return s.life.step(func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.err == nil {
			*into = append(*into, entries...)
		}
		return s.err
	})
}

func (s *sink) Close(_ context.Context, file string) error {
	return s.life.step(func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.closed = append(s.closed, file)
		return nil
	})
}

// got counts the entries of each id by type.
func (s *sink) got() map[string]map[gateway.LineType]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]map[gateway.LineType]int{}
	for _, e := range s.fresh {
		if all[e.ID] == nil {
			all[e.ID] = map[gateway.LineType]int{}
		}
		all[e.ID][e.Type]++
	}
	return all
}

func (w *harness) start(l *life) *instance {
	i := &instance{harness: w, life: l, sink: &sink{life: l}}
	blobs, rows := mortalBlobs{w.blobs, l}, manifest.New(mortalStore{w.store, l})
	logger := slog.New(slog.NewTextHandler(w.t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
	i.writer = journal.New(journal.Options{Blobs: blobs, Manifest: rows, Logger: logger})
	i.worker = derive.New(derive.Options{
		Journal: i.writer, Manifest: rows, Blobs: blobs, Consumers: []derive.Consumer{i.sink}, Logger: logger,
	})
	ctx, halt := context.WithCancel(context.Background())
	i.halt, i.halted = halt, make(chan struct{})
	go func() { defer close(i.halted); i.worker.Run(ctx) }()
	return i
}

// end stops the process's goroutines: in good order, or without a trace if it is dead.
func (i *instance) end() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if i.life.isDead() {
		cancel()
	}
	_ = i.writer.Close(ctx)
	i.halt()
	<-i.halted
	i.worker.Finish(ctx)
}

const prompt = `{"messages":[{"role":"user","content":"what is it"}]}`

func beginLine(id string) []byte {
	return fmt.Appendf(nil, `{"type":"begin","id":%q,"request":{"size":%d,"sha256":"x","json":%s}}`, id, len(prompt), prompt)
}

func endLine(id string) []byte {
	return fmt.Appendf(nil, `{"type":"end","id":%q,"outcome":"complete","request":{"size":%d,"sha256":"x"}}`, id, len(prompt))
}

// begin and end report whether the line was durable in time.
func (i *instance) begin(id string) bool {
	p, err := i.writer.AppendBegin(id, beginLine(id))
	return err == nil && durable(p)
}

func (i *instance) finish(id string) bool {
	p, err := i.writer.AppendEnd(id, endLine(id))
	return err == nil && durable(p)
}

func durable(p *journal.Pending) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	return p.Wait(ctx) == nil
}

func (i *instance) recoverFiles() string {
	i.t.Helper()
	line, err := i.worker.Recover(context.Background())
	if err != nil {
		i.t.Fatal(err)
	}
	return line
}

func (w *harness) files() (all []manifest.File) {
	w.t.Helper()
	days, err := w.manifest().Days(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, d := range days {
		for f, err := range w.manifest().Day(context.Background(), d.Time) {
			if err != nil {
				w.t.Fatal(err)
			}
			all = append(all, f)
		}
	}
	return all
}

// wantSound verifies the journal.
func (w *harness) wantSound() verify.Report {
	w.t.Helper()
	r, err := verify.Run(context.Background(), w.manifest(), w.blobs, time.Time{}, time.Time{})
	if err != nil || len(r.Breaks) > 0 {
		w.t.Errorf("verify: %v %v", r.Breaks, err)
	}
	return r
}
