package backend

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"aoaigateway/handler/breaker"
)

// candidates are the regions that may serve one call, and what became of those that were
// asked. The first-byte timer reads it from a goroutine of its own.
type candidates struct {
	list []target // by priority
	need int64    // tokens

	mu          sync.Mutex
	tried       map[string]bool
	lastOutcome map[string]outcome // of the last attempt at a region
}

func (p *Pool) candidates(call *Call) *candidates {
	return &candidates{list: p.targets(call), need: call.Need, tried: map[string]bool{}, lastOutcome: map[string]outcome{}}
}

// next returns an attempt at the best region that was not tried yet. It takes the smallest
// priority number with a usable region and chooses among its regions by weight. Regions whose
// headroom is too small come last, whatever their priority.
func (c *candidates) next() *attempt {
	c.mu.Lock()
	defer c.mu.Unlock()
	ready := func(t target) bool { return !c.tried[t.Name] && t.breaker.Ready() }
	if a := c.pick(func(t target) bool { return ready(t) && t.headroom.fits(c.need) }); a != nil {
		return a
	}
	return c.pick(ready)
}

// nextHedge returns an attempt beside the first. It is never a probe, never goes to a
// region without headroom, and costs one hedge of the first region's budget.
func (c *candidates) nextHedge(first *attempt, stream bool) *attempt {
	c.mu.Lock()
	defer c.mu.Unlock()
	healthy := func(t target) bool {
		state, _, _ := t.breaker.Status()
		return !c.tried[t.Name] && state == breaker.Closed && t.headroom.fits(c.need)
	}
	_, budget := first.target.latency(stream)
	if !slices.ContainsFunc(c.list, healthy) || !budget.spend() {
		return nil
	}
	return c.pick(healthy)
}

// hasAlternative reports whether another region could be asked.
func (c *candidates) hasAlternative() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.list, func(t target) bool { return !c.tried[t.Name] && t.breaker.Ready() })
}

// record notes how an attempt ended. After a stale connection the region may be asked once
// more, because it has not seen the request.
func (c *candidates) record(a *attempt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	name, now := a.target.Name, a.failure.outcome
	if now == stale && c.lastOutcome[name] != stale {
		delete(c.tried, name)
	}
	c.lastOutcome[name] = now
}

// pick is called with mu held.
func (c *candidates) pick(wanted func(target) bool) *attempt {
	for rest := c.list; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].route.Priority == rest[0].route.Priority {
			n++
		}
		for usable := matching(rest[:n], wanted); len(usable) > 0; {
			i := weighted(usable)
			if pass, ok := usable[i].breaker.Allow(); ok {
				usable[i].headroom.deduct(c.need)
				c.tried[usable[i].Name] = true
				return &attempt{target: usable[i], pass: pass, hasAlternative: c.hasAlternative}
			}
			usable = slices.Delete(usable, i, i+1)
		}
		rest = rest[n:]
	}
	return nil
}

func matching(group []target, wanted func(target) bool) (found []target) {
	for _, t := range group {
		if wanted(t) {
			found = append(found, t)
		}
	}
	return found
}

// weighted returns the index of a random target, each with its weight as its share.
func weighted(usable []target) int {
	sum := 0
	for _, t := range usable {
		sum += max(1, t.route.Weight)
	}
	n := rand.IntN(sum) //nolint:gosec // sharing load needs no secret randomness
	for i, t := range usable {
		if n -= max(1, t.route.Weight); n < 0 {
			return i
		}
	}
	return len(usable) - 1
}

// probeTime is about how long the probe of a half-open breaker takes.
const probeTime = time.Second

// throttling returns the time until a region may answer again, and whether throttling is
// what keeps all of them, or some, from answering.
func (c *candidates) throttling() (wait time.Duration, all, some bool) {
	wait, all = math.MaxInt64, len(c.list) > 0
	for _, t := range c.list {
		state, w, busy := t.breaker.Status()
		if state == breaker.HalfOpen {
			w = probeTime
		}
		last := c.lastOutcome[t.Name]
		busy = busy && state != breaker.Closed || last == throttled
		all, some = all && busy, some || busy
		if state != breaker.Closed || last != throttled && last != denied && last != unsent {
			wait = min(wait, w)
		}
	}
	if wait == math.MaxInt64 {
		wait = 0
	}
	return (wait + time.Millisecond - 1).Truncate(time.Millisecond), all, some // rounded up: a short wait must not read as 0 ms
}
