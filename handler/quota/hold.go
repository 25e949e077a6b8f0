package quota

import (
	"context"
	"slices"
	"time"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/policy"
)

// hold is what one attempt was charged in one counter. Its fields are guarded by the
// counter's mu.
type hold struct {
	amounts   []int64 // one for each limit that counts in windows
	windowIDs []int64 // where they were charged
	charged   bool    // the entity contains it
	ended     bool    // an adjustment follows; a hold that is not charged yet must not be charged any more

	needsSlot bool   // or has one already
	hasSlot   bool   // it is counted in slotUse.inUse
	onLost    func() // reports that a hard limit's slot was lost; nil = there is no such limit
}

// update waits for the counter's writer: a hold that is to be made, or a hold that is to
// be adjusted to the amounts in final. All fields are guarded by the counter's mu.
type update struct {
	hold         *hold
	final        []int64 // nil = make the hold
	freesSlot    bool
	since        time.Time
	resolved     bool // it leaves the queue
	mayBeApplied bool // perhaps the entity contains it already, so its refunds must not be made again

	done      chan struct{} // closed when the fields below are set
	completed bool
	result
}

// result is what became of a hold.
type result struct {
	err      error
	degraded bool    // made without the store
	left     []int64 // what each limit has left
}

// How long requests wait.
const (
	hardHoldWait = 2 * time.Second        // for a hard limit's store
	softHoldWait = time.Second            // for a soft limit's store, and for a contended entity
	settleWait   = 200 * time.Millisecond // for a settlement, at the end of an answer
)

// alreadySettled is the channel of settlements that need no store.
var alreadySettled = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// reserve makes a hold out of the lease, or waits for the store.
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

// stopWaiting ends the wait for a hold whose result has not come. cause is the error of
// the caller's context; nil = the store took too long.
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

// refuse ends the wait for a hold that may still be part of the pending write. Called with
// mu held.
func (c *counter) refuse(u *update, err error) {
	u.complete(result{err: err})
	c.cancel(u.hold)
}

// degrade lets a request go on without the store. Called with mu held.
func (c *counter) degrade(u *update) {
	g := c.reserveDegraded(time.Now(), u.hold)
	if g.err != nil {
		c.refuse(u, g.err)
		return
	}
	u.complete(g)
}

// cancel gives a hold back, whether or not the entity contains it. Called with mu held.
func (c *counter) cancel(h *hold) {
	u := &update{hold: h, final: make([]int64, len(h.amounts)), freesSlot: h.needsSlot}
	c.releaseSlot(h)
	h.ended = true
	c.enqueue(u)
}

// settle changes a hold to final, in the lease if that has the same effect, otherwise in
// the entity and in the background. The channel is closed when that is done or was given
// up. It ends the hold and frees its slot.
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

// complete, deltas and noop are called with the counter's mu held.

func (u *update) complete(g result) {
	if !u.completed {
		u.completed, u.result = true, g
		close(u.done)
	}
}

// deltas are the changes that the entity still needs.
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

// noop reports whether the entity needs no change for this update. It is called while no
// change is pending, because only then charged is certain.
func (u *update) noop(limits []policy.Limit) bool {
	if u.final == nil {
		return u.hold.ended
	}
	return !u.freesSlot && !anyNonZero(u.deltas(limits))
}
