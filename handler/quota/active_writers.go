package quota

import (
	"context"
	"sync"
)

// activeWriters counts the counters whose run goroutine is active. It is no sync.WaitGroup,
// because a goroutine may start while Close waits.
type activeWriters struct {
	mu   sync.Mutex
	n    int
	idle chan struct{} // closed when n falls to 0; nil = nobody waits
}

func (w *activeWriters) started() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.n++
}

func (w *activeWriters) ended() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.n--; w.n == 0 && w.idle != nil {
		close(w.idle)
		w.idle = nil
	}
}

func (w *activeWriters) wait(ctx context.Context) error {
	w.mu.Lock()
	if w.n == 0 {
		w.mu.Unlock()
		return nil
	}
	if w.idle == nil {
		w.idle = make(chan struct{})
	}
	idle := w.idle
	w.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
