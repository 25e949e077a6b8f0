package quota

import (
	"sync"
	"time"
)

// counterID identifies a counter in memory. It is cheaper to build than the entity's key.
type counterID struct {
	compiled   *compiledCounter
	counterKey string
}

const (
	generationSize = 4096        // counters per generation
	idleAfter      = time.Minute // a counter that was not used for this long may be removed from memory
)

// counters keeps recently used counters in memory, in two generations of 4,096. It also
// keeps every counter that is in use, that is one with a lease, a slot or a running write,
// because Close must find it. (An LRU cache would evict such counters too.) When a removed
// counter is needed again, that costs one read. Reservations of the removed counter may
// continue: two counters of one key then behave as two instances do.
type counters struct {
	mu         sync.Mutex // always locked before the mu of a counter
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

// rotate makes the young generation the old one. Idle counters of the previous old
// generation are removed from memory. The caller has locked mu.
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

// each calls visit for all counters.
func (cs *counters) each(visit func(*counter)) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, m := range []map[counterID]*counter{cs.young, cs.old} {
		for _, c := range m {
			visit(c)
		}
	}
}
