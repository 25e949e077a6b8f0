package quota

import (
	"context"
	"slices"
	"time"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/policy"
)

// hold is what one attempt has charged in one counter. Its fields are guarded by the
// counter's mu.
type hold struct {
	amounts   []int64 // one for each limit that counts in windows
	windowIDs []int64 // the windows in which they were charged
	charged   bool    // the entity contains the charge
	ended     bool    // no longer needed; if it is not charged yet, it must not be charged

	needsSlot bool   // a limit on concurrent requests applies: the hold needs a slot, or has one
	hasSlot   bool   // it is counted in slotUse.inUse
	onLost    func() // called when the hold loses its slot in a hard limit; nil = no such limit
}

// update waits in the counter's queue. It makes a hold, changes a hold to the amounts in
// final, or only checks whether a hold would be admitted. All fields are guarded by the
// counter's mu.
type update struct {
	hold         *hold
	final        []int64 // nil = make the hold, or check it
	checks       bool    // only check whether the hold would be admitted; charge nothing
	freesSlot    bool
	since        time.Time
	resolved     bool // remove it from the queue
	mayBeApplied bool // the entity may contain the update already, so a refund must not be made again

	done      chan struct{} // closed when the fields below are set
	completed bool
	result
}

// result is the result of making a hold.
type result struct {
	err      error
	degraded bool    // admitted without the store
	left     []int64 // what each limit has left
}

// How long a request waits at most.
const (
	hardHoldWait = 2 * time.Second        // for the store, in a hard limit
	softHoldWait = time.Second            // for the store in a soft limit, and for an entity that others keep changing
	settleWait   = 200 * time.Millisecond // for a settlement at the end of an answer
)

// alreadySettled is the closed channel that settle returns when no write is needed.
var alreadySettled = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// reserve makes a hold from the lease if possible. Otherwise it waits for a write to the
// store.
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
	return c.await(ctx, u)
}

// await waits for the result of an update that makes or checks a hold.
func (c *counter) await(ctx context.Context, u *update) result {
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

// stopWaiting ends the wait for a hold that has no result yet. cause is the error of the
// caller's context; nil = the store took too long.
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

// refuse ends the wait for a hold with an error. The pending write may contain the hold;
// then it is given back. The caller has locked mu.
func (c *counter) refuse(u *update, err error) {
	u.complete(result{err: err})
	if !u.checks {
		c.cancel(u.hold)
	}
}

// degrade ends the wait for a hold and admits the request in degraded mode. The caller has
// locked mu.
func (c *counter) degrade(u *update) {
	if u.checks {
		u.complete(result{})
		return
	}
	g := c.reserveDegraded(time.Now(), u.hold)
	if g.err != nil {
		c.refuse(u, g.err)
		return
	}
	u.complete(g)
}

// cancel gives a hold back, whether or not the entity contains its charge. The caller has
// locked mu.
func (c *counter) cancel(h *hold) {
	u := &update{hold: h, final: make([]int64, len(h.amounts)), freesSlot: h.needsSlot}
	c.releaseSlot(h)
	h.ended = true
	c.enqueue(u)
}

// settle changes a hold to the amounts in final and frees its slot. It uses the lease if
// the result is the same; otherwise the entity is written in the background. The channel is
// closed when the change is done or was given up.
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

// complete, makesHold, deltas and noop require that the caller has locked the counter's mu.

func (u *update) complete(g result) {
	if !u.completed {
		u.completed, u.result = true, g
		close(u.done)
	}
}

// makesHold reports whether the update is to charge a hold.
func (u *update) makesHold() bool { return u.final == nil && !u.checks && !u.hold.ended }

// deltas returns what must be added to the entity in each limit.
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

// noop reports whether the update needs no change of the entity. It must not be called
// while a change is pending, because until then charged is not certain.
func (u *update) noop(limits []policy.Limit) bool {
	if u.final == nil {
		return u.hold.ended
	}
	return !u.freesSlot && !anyNonZero(u.deltas(limits))
}
