package backend

import (
	"slices"
	"sync"
	"time"
)

const (
	latencySize  = 128
	latencyLeast = 20 // with fewer observations the p95 is unknown
)

// latencyWindow holds how long the last answers of a deployment took until their commit
// points.
type latencyWindow struct {
	mu   sync.Mutex
	last [latencySize]time.Duration
	seen int
}

// observe adds one duration. An attempt that lost to a hedge is added with the time that it
// had until then. Without these slow attempts the p95 would fall, and ever more requests
// would count as late.
func (w *latencyWindow) observe(took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last[w.seen%latencySize] = took
	w.seen++
}

// p95 returns the time within which 95 % of the recent answers began.
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
