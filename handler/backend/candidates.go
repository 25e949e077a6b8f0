package backend

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"aoaigateway/handler/breaker"
)

// candidates are the regions that may serve one call, with the outcomes of their attempts.
// Fields below mu are guarded by it, because timers of attempts use them on other
// goroutines.
type candidates struct {
	list []target // by priority
	need int64    // tokens that the call needs, as in Call.Need

	mu          sync.Mutex
	tried       map[string]bool
	lastOutcome map[string]outcome // by region's name: the outcome of its last attempt
}

func (p *Pool) candidates(call *Call) *candidates {
	return &candidates{list: p.targets(call), need: call.Need, tried: map[string]bool{}, lastOutcome: map[string]outcome{}}
}

// next returns an attempt at the best region that was not tried yet. It considers regions
// whose breakers let requests pass. Among these, those with the smallest priority number
// win, and one of them is chosen at random by weight. Regions with too little headroom come
// last, whatever their priority.
func (c *candidates) next() *attempt {
	c.mu.Lock()
	defer c.mu.Unlock()
	ready := func(t target) bool { return !c.tried[t.Name] && t.breaker.Ready() }
	if a := c.pick(func(t target) bool { return ready(t) && t.headroom.fits(c.need) }); a != nil {
		return a
	}
	return c.pick(ready)
}

// nextHedge returns an attempt beside the first, or nil. A hedge is never a breaker's
// probe, never goes to a region without headroom, and takes one hedge from the budget of
// the first region.
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

// hasAlternative reports whether another region could serve the call.
func (c *candidates) hasAlternative() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.list, func(t target) bool { return !c.tried[t.Name] && t.breaker.Ready() })
}

// record stores the outcome of an attempt. After the outcome stale the region may be tried
// once more, because it has not seen the request.
func (c *candidates) record(a *attempt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	name, now := a.target.Name, a.failure.outcome
	if now == stale && c.lastOutcome[name] != stale {
		delete(c.tried, name)
	}
	c.lastOutcome[name] = now
}

// pick requires that the caller has locked mu.
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

// weighted returns the index of a random target. Each target's chance is proportional to
// its weight.
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

// probeTime is about how long a half-open breaker's probe takes. While a probe runs,
// clients are told to wait this long.
const probeTime = time.Second

// throttling returns the time until a region may answer again. all = every region is
// throttled; some = at least one is.
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
	return (wait + time.Millisecond - 1).Truncate(time.Millisecond), all, some // rounded up, so that a short wait is not shown as 0 ms
}
