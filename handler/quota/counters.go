package quota

import (
	"sync"
	"time"
)

// counterID finds a counter without building its entity's key.
type counterID struct {
	compiled   *compiledCounter
	counterKey string
}

const (
	generationSize = 4096        // counters per generation
	idleAfter      = time.Minute // a counter without use for longer is forgotten first
)

// counters keeps the counters of the last 4,096 to 8,192 keys in two generations, and
// besides them every counter that is in use: one with a lease, a slot or a running write
// must be reachable for Close. (An LRU cache would drop those too.) A forgotten counter
// costs one read when its key comes back. Reservations may go on using it: two counters
// of one key behave as two instances do.
type counters struct {
	mu         sync.Mutex // locked before a counter's
	young, old map[counterID]*counter
}

func (cs *counters) get(l *Limiter, p *compiledCounter, counterKey string) *counter {
	id := counterID{p, counterKey}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	found, ok := cs.young[id]
	if ok {
		return found
	}
	if found, ok = cs.old[id]; ok {
		delete(cs.old, id)
	} else {
		found = newCounter(l, p, counterKey)
	}
	if cs.young == nil || len(cs.young) >= generationSize {
		cs.rotate()
	}
	cs.young[id] = found
	return found
}

// rotate makes the young generation the old one, and forgets what is idle in the old one.
// Called with mu held.
func (cs *counters) rotate() {
	keep := map[counterID]*counter{}
	for id, c := range cs.young {
		if !c.idle() || time.Since(c.lastUsed()) <= idleAfter {
			keep[id] = c
		}
	}
	for id, c := range cs.old {
		if !c.idle() {
			keep[id] = c
		}
	}
	cs.young, cs.old = map[counterID]*counter{}, keep
}

func (c *counter) lastUsed() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lastUse
}

// each visits all counters.
func (cs *counters) each(visit func(*counter)) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, m := range []map[counterID]*counter{cs.young, cs.old} {
		for _, c := range m {
			visit(c)
		}
	}
}
