package backend

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"aoaigateway/handler/deployment"
)

// candidates are the regions that may serve one call, with the outcomes of their attempts.
// Fields below mu are guarded by it, because timers of attempts use them on other
// goroutines.
type candidates struct {
	list []target // by priority
	need int64    // tokens that the call needs, as in Call.Need

	mu    sync.Mutex
	asked []asked // for each element of list
}

// asked is what a call has done with one of its candidates.
type asked struct {
	tried bool
	fresh bool // the next attempt needs a new connection
	ended bool // last and wait are set
	last  outcome
	wait  time.Duration
}

func (p *Pool) candidates(call *Call) *candidates {
	list := p.targetsOf(call)
	return &candidates{list: list, need: call.Need, asked: make([]asked, len(list))}
}

// rank says how good a candidate is; the smallest is the best.
type rank int

const (
	rankOpen        rank = iota
	rankRecovering       // enough requests are under way to show whether it works again
	rankFull             // its headroom is smaller than the call's need
	rankUnavailable      // asked only if there is no other region
	rankThrottled        // asked only if there is no other region
	rankNever            // refuses until a time that it stated itself
)

func (t target) rank(now time.Time, need int64) rank {
	access, missing := t.access(now, need)
	switch {
	case access == deployment.Refused:
		return rankNever
	case access == deployment.Throttled:
		return rankThrottled
	case access == deployment.Unavailable, missing:
		return rankUnavailable
	case !t.headroom.fits(now, need):
		return rankFull
	case access == deployment.Recovering:
		return rankRecovering
	default:
		return rankOpen
	}
}

// next returns an attempt at the best region that was not tried yet, or nil. Among regions
// of the same rank, those with the smallest priority number win, and one of them is chosen
// at random by weight.
func (c *candidates) next() *attempt {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pick(rankThrottled)
}

// nextHedge returns an attempt beside the first, or nil. A hedge goes only to a region that
// is open and has headroom, and takes one hedge from the budget of the first region.
func (c *candidates) nextHedge(first *attempt, stream bool) *attempt {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, budget := first.target.latency(stream)
	if !c.has(rankOpen) || !budget.spend() {
		return nil
	}
	return c.pick(rankOpen)
}

// hasAlternative reports whether another region could serve the call.
func (c *candidates) hasAlternative() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.has(rankFull)
}

// has requires that the caller has locked mu.
func (c *candidates) has(worst rank) bool {
	now := time.Now()
	for i, t := range c.list {
		if !c.asked[i].tried && t.rank(now, c.need) <= worst {
			return true
		}
	}
	return false
}

// pick returns an attempt at the best region whose rank is not above worst. It requires that
// the caller has locked mu.
func (c *candidates) pick(worst rank) *attempt {
	now, best, weights := time.Now(), -1, 0
	for i, t := range c.list {
		if c.asked[i].tried {
			continue
		}
		r := t.rank(now, c.need)
		if r > worst {
			continue
		}
		weight := max(1, t.route.Weight)
		if r < worst || best < 0 || t.route.Priority < c.list[best].route.Priority {
			worst, best, weights = r, i, weight
			continue
		}
		if t.route.Priority > c.list[best].route.Priority {
			continue
		}
		weights += weight
		if rand.IntN(weights) < weight { //nolint:gosec // sharing load needs no secret randomness
			best = i
		}
	}
	if best < 0 {
		return nil
	}
	t := c.list[best]
	c.asked[best].tried = true
	t.admit(now, c.need)
	t.headroom.deduct(c.need)
	return &attempt{target: t, index: best, fresh: c.asked[best].fresh, hasAlternative: c.hasAlternative}
}

// record stores the outcome of an attempt. After the outcome stale the region may be tried
// once more, on a new connection.
func (c *candidates) record(a *attempt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := &c.asked[a.index]
	now := asked{tried: true, ended: true, last: a.failure.outcome, wait: a.failure.wait}
	if now.last == stale && (!was.ended || was.last != stale) {
		now.tried, now.fresh = false, true
	}
	*was = now
}

// throttling returns the time until a region may answer again. all = every region is
// throttled; some = at least one is.
func (c *candidates) throttling() (wait time.Duration, all, some bool) {
	now := time.Now()
	lacks := func(a asked) bool { return a.ended && a.last == missing }
	wait, all = math.MaxInt64, slices.ContainsFunc(c.asked, func(a asked) bool { return !lacks(a) })
	for i, t := range c.list {
		if lacks(c.asked[i]) {
			continue
		}
		last, w := c.asked[i], t.until(now, c.need).Sub(now)
		access, _ := t.access(now, c.need)
		busy := access >= deployment.Throttled
		if last.ended && last.last == throttled {
			busy, w = true, max(w, last.wait)
		}
		all, some = all && busy, some || busy
		if w > 0 || !last.ended || last.last != denied && last.last != unsent {
			wait = min(wait, w)
		}
	}
	if wait == math.MaxInt64 {
		wait = 0
	}
	return (wait + time.Millisecond - 1).Truncate(time.Millisecond), all, some // rounded up, so that a short wait is not shown as 0 ms
}
