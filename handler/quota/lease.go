package quota

import (
	"slices"
	"time"

	"aoaigateway/handler/quota/state"
)

const (
	leaseLife      = 2 * time.Second        // a lease can be used for this long
	leaseThreshold = 4                      // a lease needs this many requests within leaseLife
	leaseShare     = 16                     // a lease is at most 1/leaseShare of what its limit has left
	renewBefore    = leaseLife / 4          // a lease that is in use is renewed this long before its end
	spareSlotLife  = 250 * time.Millisecond // how long free slots are kept that other instances may need
)

// lease is an amount that this instance has charged in advance. The entity does not contain
// its owner, so no other instance can give it back. Its fields are guarded by the counter's
// mu.
type lease struct {
	amounts   []int64   // what is left of the lease in each limit; nil = no lease
	windowIDs []int64   // the windows in which it was charged; shared with holds, so never changed
	slots     int64     // free slots that the entity counts for this writer
	until     time.Time // when the rest is given back
	renewAt   time.Time // when the lease is renewed; zero = at its end
}

func (l *lease) empty() bool {
	return l.slots == 0 && !anyNonZero(l.amounts)
}

// All functions below require that the caller has locked mu.

// holdFromLease makes a hold from the lease if the lease covers it.
func (c *counter) holdFromLease(now time.Time, h *hold) (left []int64, ok bool) {
	if !c.leaseCovers(now, h) {
		return nil, false
	}
	l := &c.lease
	left = make([]int64, len(h.amounts))
	for i, n := range h.amounts {
		l.amounts[i] -= n
		left[i] = c.left[i] + l.amounts[i]
	}
	if h.needsSlot && !h.hasSlot {
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

// leaseCovers reports whether a hold can be made from the lease.
func (c *counter) leaseCovers(now time.Time, h *hold) bool {
	l := &c.lease
	if !now.Before(l.until) || h.needsSlot && !h.hasSlot && l.slots == 0 {
		return false
	}
	for i, n := range h.amounts {
		if n > l.amounts[i] {
			return false
		}
	}
	return true
}

// settleInLease settles a hold against the lease: a surplus is added to the lease, a
// deficit is taken from it. If settling in the entity would give another result, it changes
// nothing and returns false.
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

// extendLease adds to the lease what a change has charged for it, after the write is known
// to be applied.
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

// leaseLifetime returns how long a lease may last: leaseLife, or less if one of its windows
// ends earlier.
func (c *counter) leaseLifetime(windowIDs []int64, now time.Time) time.Duration {
	return state.UntilEnd(now, c.limits, windowIDs, leaseLife)
}
