package quota

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"aoaigateway/handler/table"
)

const (
	storeCallTimeout = time.Second            // one store operation
	refusalMemory    = 250 * time.Millisecond // a reading older than this refuses nobody
	storeFailingFor  = time.Second            // soft holds do not wait for a store that failed this lately
	settleTimeout    = 30 * time.Second       // an adjustment is given up after this
)

// writer is the part of a scope that one goroutine owns at a time.
type writer struct {
	name     string
	sent     int64
	latest   *reading // newest reading or write; nil = none to rely on
	pending  *change  // sent, and its fate not known yet
	failures int      // of the store, in a row
	losses   int      // of races, in a row
}

// reading is an entity as it was at some moment.
type reading struct {
	state
	rev    table.Rev
	exists bool
	read   time.Time
}

// run is the scope's only writer; it ends when nothing is queued.
func (c *counter) run() {
	defer c.limiter.activeWriters.ended()
	for c.hasWork() {
		c.step()
	}
}

// more drops what is out of date and tells whether anything is left to do.
func (c *counter) hasWork() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.cancelLateSlots(now)
	if c.pending == nil {
		c.complete(func(u *update) bool { return u.noop(c.limits) })
	}
	late := func(u *update) bool { return now.Sub(u.since) > settleTimeout }
	lost := !c.lease.empty() && now.Sub(c.lease.until) > settleTimeout
	if lost || slices.ContainsFunc(c.queue, late) {
		c.limiter.log.Warn("quota settlement given up", "scope", c.key.Partition, "error", c.lastErr)
		c.complete(late)
	}
	if lost {
		c.lease = lease{}
	}
	if len(c.queue) > 0 || c.needsWrite(now) {
		return true
	}
	if c.pending != nil {
		c.pending, c.latest = nil, nil
		if len(c.concurrent) > 0 {
			c.slots.recorded = -1
			return true
		}
	}
	c.running = false
	c.setTimer()
	return false
}

// resolve takes the ops that match out of the queue. Called with mu held.
func (c *counter) complete(match func(*update) bool) {
	c.queue = slices.DeleteFunc(c.queue, func(u *update) bool {
		if match(u) {
			u.resolved = true
			u.complete(result{})
		}
		return u.resolved
	})
}

// round does one step: find out what became of the last write, or make the next.
func (c *counter) step() {
	if c.pending != nil {
		c.reconcile()
		return
	}
	c.mu.Lock()
	batch := slices.Clone(c.queue)
	c.mu.Unlock()
	if c.latest == nil || !c.arrivals.likelyCurrent(time.Since(c.latest.read)) {
		if !c.load() {
			return
		}
	}
	ch := c.decide(batch)
	switch {
	case ch.stale:
		c.load()
	case ch.dirty:
		c.pending = ch
		c.send()
	default:
		c.finish(ch)
	}
}

// nextID is that of a new change.
func (w *writer) nextID() string {
	w.sent++
	return w.name + "." + strconv.FormatInt(w.sent, base36)
}

// send writes the pending change and finishes it if the answer is clear.
func (c *counter) send() {
	ch := c.pending
	props, err := ch.next.props()
	e := table.Entity{Key: c.key, Rev: ch.base.rev, Props: props}
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), storeCallTimeout)
		defer cancel()
		if ch.base.exists {
			e, err = c.limiter.store.Replace(ctx, e)
		} else {
			e, err = c.limiter.store.Insert(ctx, e)
		}
	}
	switch {
	case err == nil:
		c.failures = 0
		c.latest = &reading{state: ch.next, rev: e.Rev, exists: true, read: time.Now()}
		c.finish(ch)
	case errors.Is(err, table.ErrConflict), errors.Is(err, table.ErrExists), errors.Is(err, table.ErrNotFound):
		// Even these may be the echo of our own write, repeated on the way: read.
	default:
		c.storeFailed(err)
	}
}

// load reads the entity.
func (c *counter) load() bool {
	ctx, cancel := context.WithTimeout(context.Background(), storeCallTimeout)
	defer cancel()
	e, err := c.limiter.store.Get(ctx, c.key)
	r := &reading{state: state{limits: map[string]limitState{}}, read: time.Now()}
	if err == nil {
		r.rev, r.exists = e.Rev, true
		r.state, err = parseState(e)
	}
	if err != nil && !errors.Is(err, table.ErrNotFound) {
		c.storeFailed(err)
		return false
	}
	c.recordOthers(r)
	c.latest, c.failures = r, 0
	return true
}

// meet notes what others wrote since the last reading.
func (c *counter) recordOthers(r *reading) {
	if c.latest == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.arrivals.recordOthers(max(r.writes-c.latest.writes, 0), r.read.Sub(c.latest.read))
}

// reconcile finds out by reading what became of the pending change.
func (c *counter) reconcile() {
	if !c.load() {
		return
	}
	ch, now := c.pending, c.latest
	switch {
	case slices.Contains(now.ids, ch.id):
		c.finish(ch)
	case now.exists == ch.base.exists && now.rev == ch.base.rev:
		// Not applied, but it may still be under way: only the same bytes may be sent.
		c.pause(&c.losses, 4*time.Millisecond, 128*time.Millisecond)
		c.send()
	case now.remembersSince(ch.base.state):
		c.pending = nil
		c.endLostRace()
	default:
		c.pending = nil
		c.assumeLess(ch)
		c.endLostRace()
	}
}

// unknown says of a change of which nothing can be known any more what grants less:
// holds and charges are made again, refunds are not.
func (c *counter) assumeLess(ch *change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range ch.decisions {
		d.update.mayBeApplied = true
	}
	if len(c.concurrent) > 0 {
		c.slots.recorded = -1
	}
}

// finish tells everybody what a change that is now certain did for them.
func (c *counter) finish(ch *change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending, c.losses, c.failingUntil, c.degraded.budget = nil, 0, time.Time{}, nil
	for _, d := range ch.decisions {
		c.conclude(d)
	}
	if ch.left != nil {
		c.left, c.slots.peak = ch.left, c.slots.inUse
		c.slots.recorded, c.slots.available = ch.slots, ch.available
	}
	if anyNonZero(ch.charged) {
		c.degraded.lastCharged = ch.charged
	}
	if ch.dirty {
		c.slots.renewedAt = ch.at
	}
	c.extendLease(ch)
	c.serveFromLease()
	c.queue = slices.DeleteFunc(c.queue, func(u *update) bool { return u.resolved })
}

func (c *counter) conclude(d decision) {
	u := d.update
	u.resolved = true
	switch {
	case u.final != nil:
		u.complete(result{})
	case d.denied != nil:
		c.degraded.recordDecision(time.Now(), d.denied)
		u.complete(result{err: quotaRefusal(*d.denied)})
	default:
		c.degraded.recordDecision(time.Now(), nil)
		u.hold.charged, u.hold.windowIDs = true, d.windowIDs
		if !u.hold.ended {
			c.takeSlot(u.hold)
		}
		u.complete(result{left: d.left})
	}
}

// serve makes holds for those who came meanwhile out of the new lease.
func (c *counter) serveFromLease() {
	now := time.Now()
	for _, u := range c.queue {
		if u.resolved || u.final != nil || u.hold.ended {
			continue
		}
		if left, ok := c.holdFromLease(now, u.hold); ok {
			u.resolved = true
			u.complete(result{left: left})
		}
	}
}

// contended lets go, after a lost race, of those who waited long enough, and pauses.
func (c *counter) endLostRace() {
	c.endWaits(func(u *update) bool { return time.Since(u.since) >= softHoldWait }, contentionError(c.firstHard()))
	c.pause(&c.losses, 4*time.Millisecond, 128*time.Millisecond)
}

// failed notes that the store is away, lets soft holds go on without it, and pauses.
func (c *counter) storeFailed(err error) {
	c.mu.Lock()
	if c.failures == 0 {
		c.limiter.log.Warn("quota store failed", "scope", c.key.Partition, "error", err)
	}
	c.lastErr = err
	c.failingUntil = time.Now().Add(storeFailingFor)
	c.mu.Unlock()
	if !c.hard {
		c.endWaits(func(*update) bool { return true }, nil)
	}
	c.pause(&c.failures, 20*time.Millisecond, 500*time.Millisecond)
}

// release ends the wait of those who match: hard ones hear hard, soft ones go on without
// the store. What is on its way to the entity stays queued.
func (c *counter) endWaits(match func(*update) bool, hard error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, u := range slices.Clone(c.queue) {
		switch {
		case u.final != nil || u.completed || !match(u):
			continue
		case c.hard:
			c.refuse(u, hard)
		default:
			c.degrade(u)
		}
		u.resolved = !c.isPending(u)
	}
	c.queue = slices.DeleteFunc(c.queue, func(u *update) bool { return u.resolved })
}

func (c *counter) isPending(u *update) bool {
	return c.pending != nil && slices.ContainsFunc(c.pending.decisions, func(d decision) bool { return d.update == u })
}

// pause waits a random time that doubles in the mean with each in a row, so that
// instances do not meet again.
func (c *counter) pause(row *int, first, most time.Duration) {
	mean := min(first<<min(*row, 10), most)
	*row++
	time.Sleep(mean/2 + rand.N(mean)) //nolint:gosec // a pause needs no secrecy
}
