package quota

import (
	"context"
	"slices"
	"time"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/policy"
)

// hold is what one attempt was charged in one scope. Its fields belong to the scope's mu.
type hold struct {
	amounts   []int64 // one for each limit that counts in windows
	windowIDs []int64 // where they were charged
	charged   bool    // the entity has it
	ended     bool    // an adjustment follows: if the entity has it not yet, it must not get it

	needsSlot bool   // it needs one, or has one
	hasSlot   bool   // it is counted among the scope's slots
	onLost    func() // says that a hard limit's slot was lost; nil = there is no such limit
}

// op is one change that waits for the scope's writer: a hold to make, or one to adjust
// to the amounts in final. All fields belong to the scope's mu.
type update struct {
	hold         *hold
	final        []int64 // nil = make the hold
	freesSlot    bool    // a slot
	since        time.Time
	resolved     bool // no longer queued
	mayBeApplied bool // may have been applied unseen: its refunds must not be applied again

	done      chan struct{} // closed when the fields below are set
	completed bool
	result
}

// granted is what became of a hold.
type result struct {
	err      error
	degraded bool    // went on without the store
	left     []int64 // what each limit could still give
}

// How long callers wait.
const (
	hardHoldWait = 2 * time.Second        // for a hard limit's store
	softHoldWait = time.Second            // for a soft limit's store, and for a contended entity
	settleWait   = 200 * time.Millisecond // for a settlement, at the end of an answer
)

// settled is the channel of settlements that need no store.
var alreadySettled = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// take makes a hold out of the lease, or waits for the store as long as the scope's
// limits are worth.
func (c *counter) reserve(ctx context.Context, h *hold) result {
	c.mu.Lock()
	now := time.Now()
	c.lastUse = now
	c.arrivals.record(now, h.amounts)
	if left, ok := c.holdFromLease(now, h); ok {
		c.mu.Unlock()
		return result{left: left}
	}
	if !c.hard && now.Before(c.failingUntil) {
		g := c.reserveDegraded(now, h)
		c.mu.Unlock()
		return g
	}
	u := c.enqueue(&update{hold: h})
	c.mu.Unlock()
	wait := softHoldWait
	if c.hard {
		wait = hardHoldWait
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-u.done:
	case <-timer.C:
		c.stopWaiting(u, nil)
	case <-ctx.Done():
		c.stopWaiting(u, ctx.Err())
	}
	return u.result
}

// giveUp ends the wait for a hold, unless its result came just now. cause is why the
// caller left; nil = the store took too long.
func (c *counter) stopWaiting(u *update, cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case u.completed:
	case cause != nil:
		c.refuse(u, gateway.ClientConnectionFailure.Because(cause))
	case c.hard:
		c.refuse(u, storeUnavailable(c.firstHard(), c.lastErr))
	default:
		c.degrade(u)
	}
}

// refuse and goAlone end the wait for a hold that may still be on its way to the entity.
// Called with mu held.
func (c *counter) refuse(u *update, err error) {
	u.complete(result{err: err})
	c.cancel(u.hold)
}

func (c *counter) degrade(u *update) {
	g := c.reserveDegraded(time.Now(), u.hold)
	if g.err != nil {
		c.refuse(u, g.err)
		return
	}
	u.complete(g)
}

// cancel gives a hold back, whether or not the entity has it. Called with mu held.
func (c *counter) cancel(h *hold) *update {
	u := &update{hold: h, final: make([]int64, len(h.amounts)), freesSlot: h.needsSlot}
	c.releaseSlot(h)
	h.ended = true
	return c.enqueue(u)
}

// adjust changes a hold to final, in the lease if that is as good, else in the entity and
// in the background; the channel is closed when that is done, or was given up. The hold
// is over with it, and so is its slot.
func (c *counter) settle(h *hold, final []int64) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.ended {
		return alreadySettled
	}
	h.ended = true
	if c.settleInLease(time.Now(), h, final) {
		return alreadySettled
	}
	u := &update{hold: h, final: final, freesSlot: h.hasSlot}
	c.releaseSlot(h)
	return c.enqueue(u).done
}

// move hands a slot on to a further attempt.
func (c *counter) transferSlot(from, to *hold) {
	c.mu.Lock()
	defer c.mu.Unlock()
	to.needsSlot, to.hasSlot, to.onLost = from.needsSlot, from.hasSlot, from.onLost
	if _, ok := c.slots.onLost[from]; ok {
		delete(c.slots.onLost, from)
		c.slots.onLost[to] = to.onLost
	}
	from.needsSlot, from.hasSlot = false, false
}

// enqueue is called with mu held. It starts the writer if none runs.
func (c *counter) enqueue(u *update) *update {
	u.since, u.done = time.Now(), make(chan struct{})
	c.queue = append(c.queue, u)
	c.startWriter()
	return u
}

// say, deltas and pointless are called with the scope's mu held.
func (u *update) complete(g result) {
	if !u.completed {
		u.completed, u.result = true, g
		close(u.done)
	}
}

// deltas is what the entity must still be changed by.
func (u *update) deltas(limits []policy.Limit) []int64 {
	d := slices.Clone(u.final)
	for i := range limits {
		if u.hold.charged {
			d[i] -= u.hold.amounts[i]
		}
		if u.mayBeApplied {
			d[i] = max(d[i], 0)
		}
	}
	return d
}

// pointless tells whether the entity needs no change for this op. Called while no change
// is pending, so that charged is the truth.
func (u *update) noop(limits []policy.Limit) bool {
	if u.final == nil {
		return u.hold.ended
	}
	return !u.freesSlot && !anyNonZero(u.deltas(limits))
}
