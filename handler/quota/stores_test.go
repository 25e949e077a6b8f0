package quota_test

import (
	"context"
	"encoding/json"
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
	first.Props = map[string]any{"time": e.Props["time"], "writes": int64(1), "ids": "other", "counters": "{}"}
	_, _ = s.Mem.Insert(ctx, first)
	return s.Mem.Insert(ctx, e)
}

// windows notes the most that was ever charged in each window.
type windows struct {
	mu   sync.Mutex
	most map[int64]int64
}

func (w *windows) note(e table.Entity) {
	var counters map[string]struct{ Window, Charged int64 }
	text, _ := e.Props["counters"].(string)
	if json.Unmarshal([]byte(text), &counters) != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range counters {
		w.most[c.Window] = max(w.most[c.Window], c.Charged)
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
