package backend

import "sync"

// Hedges are at most one request in ten, and at most ten in a row. When a region becomes
// slow for all requests, its old latency window would otherwise cause a hedge for each,
// which doubles the load.
const (
	hedgeShare = 0.1
	hedgeBurst = 10
)

// hedgeBudget is how many hedges a deployment may cause.
type hedgeBudget struct {
	mu   sync.Mutex
	left float64
}

// earn adds the share of a hedge that one answer earns.
func (b *hedgeBudget) earn() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left = min(b.left+hedgeShare, hedgeBurst)
}

// spend takes one hedge from the budget. It returns false if there is none.
func (b *hedgeBudget) spend() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}
