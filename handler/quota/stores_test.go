package quota_test

import (
	"context"
	"encoding/json"
	"maps"
	"strings"
	"sync"
	"time"

	"aoaigateway/handler/table"
)

// lateStore times out on its first write, and delivers it just before the second.
type lateStore struct {
	*table.Mem
	first *table.Entity
	done  bool
}

func (s *lateStore) Replace(ctx context.Context, e table.Entity) (table.Entity, error) {
	if s.first == nil {
		s.first = &e
		<-ctx.Done()
		return table.Entity{}, ctx.Err()
	}
	if !s.done {
		s.done = true
		_, _ = s.Mem.Replace(ctx, *s.first)
	}
	return s.Mem.Replace(ctx, e)
}

// racingStore has somebody else write just before each of our writes.
type racingStore struct {
	*table.Mem
	mu      sync.Mutex
	stopped bool
}

func (s *racingStore) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
}

func (s *racingStore) race(ctx context.Context, key table.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return
	}
	e, err := s.Get(ctx, key)
	if err == nil {
		e.Props["writes"] = e.Props["writes"].(int64) + 1
		_, _ = s.Mem.Replace(ctx, e)
	}
}

func (s *racingStore) Replace(ctx context.Context, e table.Entity) (table.Entity, error) {
	s.race(ctx, e.Key)
	return s.Mem.Replace(ctx, e)
}

func (s *racingStore) Insert(ctx context.Context, e table.Entity) (table.Entity, error) {
	first := e
	first.Props = maps.Clone(e.Props)
	first.Props["writes"], first.Props["ids"], first.Props["limits"], first.Props["slots"] = int64(1), "other", "{}", ""
	_, _ = s.Mem.Insert(ctx, first)
	return s.Mem.Insert(ctx, e)
}

// windows notes the most that was ever charged in each window, and what was in the end.
type windows struct {
	per        string // notes only these; empty = all
	mu         sync.Mutex
	most, last map[int64]int64
}

func newWindows() *windows { return &windows{most: map[int64]int64{}, last: map[int64]int64{}} }

func (w *windows) note(e table.Entity) {
	var limits map[string]struct{ Window, Charged int64 }
	text, _ := e.Props["limits"].(string)
	if json.Unmarshal([]byte(text), &limits) != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for key, c := range limits {
		if !strings.Contains(key, w.per) {
			continue
		}
		w.most[c.Window] = max(w.most[c.Window], c.Charged)
		w.last[c.Window] = c.Charged
	}
}

// skewedStore has its own idea of the clock's offset, and notes what is written.
type skewedStore struct {
	*table.Mem
	offset time.Duration
	seen   *windows
}

func (s *skewedStore) Offset() time.Duration { return s.offset }

func (s *skewedStore) Replace(ctx context.Context, e table.Entity) (table.Entity, error) {
	got, err := s.Mem.Replace(ctx, e)
	if err == nil {
		s.seen.note(e)
	}
	return got, err
}

// dyingStore is the connection of an instance that is killed at the time dies: later
// operations do not reach the table.
func dyingStore(mem *table.Mem, dies time.Time) *faultyStore {
	return &faultyStore{Mem: mem, f: func(ctx context.Context, op table.Op, key table.Key) (bool, error) {
		if time.Now().Before(dies) {
			return true, nil
		}
		return hang(ctx, op, key)
	}}
}

// faultyStore is the faulty connection of one instance to a table that works for other
// instances.
type faultyStore struct {
	*table.Mem
	mu sync.Mutex
	f  table.Fault
}

func (s *faultyStore) set(f table.Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.f = f
}

func (s *faultyStore) fail(ctx context.Context, op table.Op, key table.Key) error {
	s.mu.Lock()
	f := s.f
	s.mu.Unlock()
	if f == nil {
		return nil
	}
	_, err := f(ctx, op, key)
	return err
}

func (s *faultyStore) Get(ctx context.Context, key table.Key) (table.Entity, error) {
	if err := s.fail(ctx, table.OpGet, key); err != nil {
		return table.Entity{}, err
	}
	return s.Mem.Get(ctx, key)
}

func (s *faultyStore) Insert(ctx context.Context, e table.Entity) (table.Entity, error) {
	if err := s.fail(ctx, table.OpInsert, e.Key); err != nil {
		return table.Entity{}, err
	}
	return s.Mem.Insert(ctx, e)
}

func (s *faultyStore) Replace(ctx context.Context, e table.Entity) (table.Entity, error) {
	if err := s.fail(ctx, table.OpReplace, e.Key); err != nil {
		return table.Entity{}, err
	}
	return s.Mem.Replace(ctx, e)
}

func hang(ctx context.Context, _ table.Op, _ table.Key) (bool, error) {
	<-ctx.Done()
	return false, ctx.Err()
}

// blackHole is a table that accepts every write and stores nothing, so that a test can
// measure the memory of limiters.
type blackHole struct{ *table.Mem }

func (blackHole) Get(context.Context, table.Key) (table.Entity, error) {
	return table.Entity{}, table.ErrNotFound
}

func (blackHole) Insert(_ context.Context, e table.Entity) (table.Entity, error) { return e, nil }

func (blackHole) Replace(_ context.Context, e table.Entity) (table.Entity, error) { return e, nil }
