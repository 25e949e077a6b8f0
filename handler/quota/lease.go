package quota

import "time"

const (
	renewBefore   = leaseLife / 4          // a lease in use is renewed that long before its end
	spareSlotLife = 250 * time.Millisecond // of free slots that others may be waiting for
)

// lease is an amount that was charged ahead, and belongs to this instance alone: the
// entity knows no owners, and nobody takes it back. Its fields belong to the scope's mu.
type lease struct {
	amounts   []int64   // one for each limit; nil = none
	windowIDs []int64   // where they were charged; shared with holds, never changed
	slots     int64     // free ones that the entity counts as ours
	until     time.Time // from then on it goes back
	renewAt   time.Time // zero = not before its end
}

func (l *lease) empty() bool {
	return l.slots == 0 && !anyNonZero(l.amounts)
}

// All below are called with mu held.

// spend makes a hold out of the lease, if that covers it.
func (c *counter) holdFromLease(now time.Time, h *hold) (left []int64, ok bool) {
	l := &c.lease
	takesSlot := h.needsSlot && !h.hasSlot
	if !now.Before(l.until) || takesSlot && l.slots == 0 {
		return nil, false
	}
	for i, n := range h.amounts {
		if n > l.amounts[i] {
			return nil, false
		}
	}
	left = make([]int64, len(h.amounts))
	for i, n := range h.amounts {
		l.amounts[i] -= n
		left[i] = c.left[i] + l.amounts[i]
	}
	if takesSlot {
		l.slots--
		c.takeSlot(h)
	}
	h.charged, h.windowIDs = true, l.windowIDs
	if !l.renewAt.IsZero() && now.After(l.renewAt) && !c.renewLease {
		c.renewLease = true
		c.startWriter()
	}
	return left, true
}

// absorb settles a hold with the lease alone: what is over goes into it, what is missing
// comes out of it. It does nothing if that would not be the same as settling in the entity.
func (c *counter) settleInLease(now time.Time, h *hold, final []int64) bool {
	if !h.charged || !c.arrivals.warrantsLease(now) || c.returnLease {
		return false
	}
	open := now.Before(c.lease.until)
	if c.lease.empty() {
		until := now.Add(c.leaseLifetime(h.windowIDs, c.limiter.now()))
		if !now.Before(until) {
			return false
		}
		c.lease, open = lease{amounts: make([]int64, len(c.limits)), windowIDs: h.windowIDs, until: until}, true
	}
	here := state{time: c.limiter.now()}
	if !here.sameWindows(c.limits, h.windowIDs, c.lease.windowIDs) {
		return false
	}
	for i, n := range final {
		if more := n - h.amounts[i]; more > 0 && (!open || more > c.lease.amounts[i]) {
			return false
		}
	}
	for i, n := range final {
		c.lease.amounts[i] += h.amounts[i] - n
	}
	if h.hasSlot {
		c.releaseSlot(h)
		c.lease.slots++
		if c.lease.slots > c.slots.available/leaseShare {
			c.lease.until = earlier(c.lease.until, now.Add(spareSlotLife))
		}
	}
	h.amounts = final
	c.setTimer()
	return true
}

// lifetime is how long a lease may live that was charged at stamps: never past a window.
func (c *counter) leaseLifetime(windowIDs []int64, now time.Time) time.Duration {
	life := leaseLife
	for i, l := range c.limits {
		if !isBucket(l) {
			life = min(life, windowEnd(l.Per, time.Unix(windowIDs[i], 0).UTC()).Sub(now))
		}
	}
	return life
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
