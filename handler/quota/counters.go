package quota

import (
	"sync"
	"time"
)

// scopeKey finds a scope without making its entity's key.
type counterID struct {
	compiled   *compiledCounter
	counterKey string
}

const (
	generationSize = 4096        // scopes that are new or used again, until the older half is forgotten
	idleAfter      = time.Minute // what is idle for longer is forgotten first
)

// scopes remembers about the last 2 × 4,096 scopes, and those at work. A forgotten one
// costs a read when it comes back. Reservations may go on using it: two scopes of one key
// are as two instances are.
type counters struct {
	mu         sync.Mutex // taken before a scope's
	young, old map[counterID]*counter
}

func (cs *counters) get(l *Limiter, p *compiledCounter, value string) *counter {
	key := counterID{p, value}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	found, ok := cs.young[key]
	if ok {
		return found
	}
	if found, ok = cs.old[key]; ok {
		delete(cs.old, key)
	} else {
		found = newCounter(l, p, value)
	}
	if cs.young == nil || len(cs.young) >= generationSize {
		cs.rotate()
	}
	cs.young[key] = found
	return found
}

// turn makes the young old and forgets the old. Called with mu held.
func (cs *counters) rotate() {
	keep := map[counterID]*counter{}
	for key, one := range cs.young {
		if !one.idle() || time.Since(one.lastUsed()) <= idleAfter {
			keep[key] = one
		}
	}
	for key, one := range cs.old {
		if !one.idle() {
			keep[key] = one
		}
	}
	cs.young, cs.old = map[counterID]*counter{}, keep
}

func (c *counter) lastUsed() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lastUse
}

// each visits all scopes.
func (cs *counters) each(visit func(*counter)) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, m := range []map[counterID]*counter{cs.young, cs.old} {
		for _, one := range m {
			visit(one)
		}
	}
}
