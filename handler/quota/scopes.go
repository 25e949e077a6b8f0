package quota

import (
	"sync"
	"time"
)

// scopeKey finds a scope without making its entity's key.
type scopeKey struct {
	plan  *scopePlan
	value string
}

const (
	generation = 4096        // scopes that are new or used again, until the older half is forgotten
	idleAfter  = time.Minute // what is idle for longer is forgotten first
)

// scopes remembers about the last 2 × 4,096 scopes, and those at work. A forgotten one
// costs a read when it comes back. Reservations may go on using it: two scopes of one key
// are as two instances are.
type scopes struct {
	mu         sync.Mutex // taken before a scope's
	young, old map[scopeKey]*scope
}

func (s *scopes) get(l *Limiter, p *scopePlan, value string) *scope {
	key := scopeKey{p, value}
	s.mu.Lock()
	defer s.mu.Unlock()
	found, ok := s.young[key]
	if ok {
		return found
	}
	if found, ok = s.old[key]; ok {
		delete(s.old, key)
	} else {
		found = newScope(l, p, value)
	}
	if s.young == nil || len(s.young) >= generation {
		s.turn()
	}
	s.young[key] = found
	return found
}

// turn makes the young old and forgets the old. Called with mu held.
func (s *scopes) turn() {
	keep := map[scopeKey]*scope{}
	for key, one := range s.young {
		if !one.idle() || time.Since(one.lastUsed()) <= idleAfter {
			keep[key] = one
		}
	}
	for key, one := range s.old {
		if !one.idle() {
			keep[key] = one
		}
	}
	s.young, s.old = map[scopeKey]*scope{}, keep
}

func (s *scope) lastUsed() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

// each visits all scopes.
func (s *scopes) each(visit func(*scope)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range []map[scopeKey]*scope{s.young, s.old} {
		for _, one := range m {
			visit(one)
		}
	}
}
