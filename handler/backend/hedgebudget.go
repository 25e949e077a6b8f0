package backend

import "sync"

// Hedges are at most one request in ten, and at most ten in a row: when a region becomes
// slow for all, its old latency window must not double the load.
const (
	hedgeShare = 0.1
	hedgeBurst = 10
)

// hedgeBudget is how many hedges a deployment may still cause.
type hedgeBudget struct {
	mu   sync.Mutex
	left float64
}

// earn adds the share of one answer.
func (b *hedgeBudget) earn() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left = min(b.left+hedgeShare, hedgeBurst)
}

// spend takes one hedge. It reports false when none is left.
func (b *hedgeBudget) spend() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}
