package backend

import (
	"slices"
	"sync"
	"time"
)

const (
	latencySize  = 128
	latencyLeast = 20 // observations without which nobody knows what is late

	// Hedges are at most one request in ten, ten behind each other at most: when a region
	// becomes slow for all, its old sample must not double the load.
	hedgeShare = 0.1
	hedgeBurst = 10
)

// lag knows how long the last answers of a deployment took to the commit point.
type latencyWindow struct {
	mu     sync.Mutex
	last   [latencySize]time.Duration
	seen   int
	credit float64 // hedges that may still be made
}

// add takes one in. An attempt that was outrun counts with the time it had: left out, the
// slow ones would be missing, and what counts as late would shrink and shrink.
func (l *latencyWindow) observe(took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last[l.seen%latencySize] = took
	l.seen++
	l.credit = min(l.credit+hedgeShare, hedgeBurst)
}

// late is the time within which 95 of 100 answers began.
func (l *latencyWindow) p95() (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(l.seen, latencySize)
	if n < latencyLeast {
		return 0, false
	}
	sorted := l.last
	slices.Sort(sorted[:n])
	return sorted[(n*95+99)/100-1], true
}

// spend takes leave for one hedge.
func (l *latencyWindow) spend() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.credit < 1 {
		return false
	}
	l.credit--
	return true
}
