package backend

import (
	"slices"
	"sync"
	"time"
)

const (
	latencySize  = 128
	latencyLeast = 20 // observations below which there is no p95
)

// latencyWindow holds how long the last answers of a deployment took to the commit point.
type latencyWindow struct {
	mu   sync.Mutex
	last [latencySize]time.Duration
	seen int
}

// observe adds one answer. An attempt that lost to a hedge counts with the time it had:
// without the slow ones the window would shrink, and with it what counts as late.
func (w *latencyWindow) observe(took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last[w.seen%latencySize] = took
	w.seen++
}

// p95 is the time within which 95 of 100 answers began.
func (w *latencyWindow) p95() (_ time.Duration, known bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := min(w.seen, latencySize)
	if n < latencyLeast {
		return 0, false
	}
	sorted := w.last
	slices.Sort(sorted[:n])
	return sorted[(n*95+99)/100-1], true
}
