package quota

import (
	"slices"
	"time"

	"aoaigateway/handler/quota/state"
)

const (
	leaseLife      = 2 * time.Second        // after that nothing is taken from a lease
	leaseThreshold = 4                      // requests within leaseLife that are needed for a lease
	leaseShare     = 16                     // a lease is at most this part of what its limit has left
	renewBefore    = leaseLife / 4          // a lease in use is renewed this long before its end
	spareSlotLife  = 250 * time.Millisecond // of free slots that other instances may be waiting for
)

// lease is an amount that was charged in advance and belongs to this instance alone. The
// entity does not know its owner, so nobody else can take it back. Its fields are guarded
// by the counter's mu.
type lease struct {
	amounts   []int64   // one for each limit; nil = none
	windowIDs []int64   // where they were charged; shared with holds and never changed
	slots     int64     // free slots that the entity counts as this writer's
	until     time.Time // when the rest goes back
	renewAt   time.Time // zero = not before its end
}

func (l *lease) empty() bool {
	return l.slots == 0 && !anyNonZero(l.amounts)
}

// All functions below are called with mu held.

// holdFromLease makes a hold out of the lease, if the lease covers it.
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

// settleInLease settles a hold with the lease alone: what is left over goes into the
// lease, what is missing comes out of it. It reports false, and changes nothing, where
// that would differ from settling in the entity.
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
	if !state.SameWindows(c.limiter.now(), c.limits, h.windowIDs, c.lease.windowIDs) {
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
		if end := now.Add(spareSlotLife); c.lease.slots > c.slots.available/leaseShare && end.Before(c.lease.until) {
			c.lease.until = end
		}
	}
	h.amounts = final
	c.setTimer()
	return true
}

// extendLease adds to the lease what a change charged for it, now that this is certain.
func (c *counter) extendLease(ch *change) {
	l := &ch.lease
	nothing := l.action == leaseReplaced && !anyNonZero(l.charged) && l.slots == 0
	if l.action == leaseUntouched || nothing {
		return
	}
	c.renewLease = false
	amounts := slices.Clone(l.charged)
	if old := c.lease; anyNonZero(old.amounts) {
		if state.SameWindows(ch.next.Time, c.limits, old.windowIDs, l.windowIDs) {
			amounts = plus(amounts, old.amounts)
		} else {
			c.enqueueReturn(old.amounts, old.windowIDs)
		}
	}
	life := c.leaseLifetime(l.windowIDs, ch.next.Time)
	c.lease = lease{amounts: amounts, windowIDs: l.windowIDs, slots: c.lease.slots + l.slots, until: ch.at.Add(life)}
	if life == leaseLife {
		c.lease.renewAt = c.lease.until.Add(-renewBefore)
	}
}

// leaseLifetime ends a lease with the first of its windows at the latest.
func (c *counter) leaseLifetime(windowIDs []int64, now time.Time) time.Duration {
	return state.UntilEnd(now, c.limits, windowIDs, leaseLife)
}
