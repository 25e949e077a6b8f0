package backend

import (
	"math/rand/v2"
	"slices"
	"sync"

	"aoaigateway/handler/breaker"
)

// field is where one call can go and where it has been. Whoever waits for a silent
// region looks at it from a goroutine of its own.
type candidates struct {
	list []target // by priority
	need int64    // tokens

	mu          sync.Mutex
	tried       map[string]bool
	lastOutcome map[string]outcome // what the last effort at a region came to
}

func (p *Pool) candidates(call *Call) *candidates {
	return &candidates{list: p.targets(call), need: call.Need, tried: map[string]bool{}, lastOutcome: map[string]outcome{}}
}

// next takes leave for an effort at the best untried target: the lowest priority that
// has an open one, there by weight. Targets that are about to refuse for load are passed
// by, whatever their priority, while any other is open.
func (f *candidates) next() *attempt {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, roomy := range []bool{true, false} {
		e := f.pick(func(t target) bool {
			return !f.tried[t.Name] && t.breaker.Ready() && (!roomy || t.headroom.fits(f.need))
		})
		if e != nil {
			return e
		}
	}
	return nil
}

// beside takes leave for an effort beside the first: it is no probe, goes nowhere that is
// about to refuse, and is not made when there were many of late.
func (f *candidates) nextHedge(first *attempt, stream bool) *attempt {
	f.mu.Lock()
	defer f.mu.Unlock()
	healthy := func(t target) bool {
		state, _, _ := t.breaker.Status()
		return !f.tried[t.Name] && state == breaker.Closed && t.headroom.fits(f.need)
	}
	if !slices.ContainsFunc(f.list, healthy) || !first.latency(stream).spend() {
		return nil
	}
	return f.pick(healthy)
}

// another says whether somebody else could be asked.
func (f *candidates) hasAlternative() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(f.list, func(t target) bool { return !f.tried[t.Name] && t.breaker.Ready() })
}

// learn notes what an effort came to. After a stale connection the region can be asked
// once more: it has not seen the request.
func (f *candidates) record(e *attempt) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name, now := e.target.Name, e.failure.outcome
	if now == stale && f.lastOutcome[name] != stale {
		delete(f.tried, name)
	}
	f.lastOutcome[name] = now
}

// pick is called with mu held.
func (f *candidates) pick(wanted func(target) bool) *attempt {
	for rest := f.list; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].route.Priority == rest[0].route.Priority {
			n++
		}
		for open := matching(rest[:n], wanted); len(open) > 0; {
			i := weighted(open)
			if pass, ok := open[i].breaker.Allow(); ok {
				open[i].headroom.deduct(f.need)
				f.tried[open[i].Name] = true
				return &attempt{target: open[i], pass: pass, hasAlternative: f.hasAlternative}
			}
			open = slices.Delete(open, i, i+1)
		}
		rest = rest[n:]
	}
	return nil
}

func matching(group []target, wanted func(target) bool) (open []target) {
	for _, t := range group {
		if wanted(t) {
			open = append(open, t)
		}
	}
	return open
}

func weighted(open []target) int {
	sum := 0
	for _, t := range open {
		sum += max(1, t.route.Weight)
	}
	n := rand.IntN(sum) //nolint:gosec // sharing load needs no secret randomness
	for i, t := range open {
		if n -= max(1, t.route.Weight); n < 0 {
			return i
		}
	}
	return len(open) - 1
}
