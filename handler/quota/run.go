package quota

import (
	"slices"
	"time"

	"aoaigateway/handler/backoff"
)

const (
	refusalMemory   = 250 * time.Millisecond // an older reading refuses nobody
	storeFailingFor = time.Second            // after a failure, soft holds do not wait for the store
	settleTimeout   = 30 * time.Second       // then an adjustment is given up
)

// run is the counter's only writing goroutine. It ends when nothing is left to write.
func (c *counter) run() {
	defer c.limiter.activeWriters.ended()
	for c.hasWork() {
		c.step()
	}
}

// hasWork drops what is out of date and reports whether there is anything left to write.
func (c *counter) hasWork() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.cancelLateSlots(now)
	if c.pending == nil {
		c.drop(func(u *update) bool { return u.noop(c.limits) })
	}
	late := func(u *update) bool { return now.Sub(u.since) > settleTimeout }
	leaseIsLate := !c.lease.empty() && now.Sub(c.lease.until) > settleTimeout
	if leaseIsLate || slices.ContainsFunc(c.queue, late) {
		c.limiter.log.Warn("a quota settlement was given up", "counter", c.writer.key.Partition, "error", c.lastErr)
		c.drop(late)
	}
	if leaseIsLate {
		c.lease = lease{}
	}
	if len(c.queue) > 0 || c.needsWrite(now) {
		return true
	}
	if c.pending != nil {
		c.pending, c.writer.latest = nil, nil
		if len(c.concurrent) > 0 {
			c.slots.recorded = unknownSlots
			return true
		}
	}
	c.running = false
	c.setTimer()
	return false
}

// drop completes the matching updates without a write. Called with mu held.
func (c *counter) drop(match func(*update) bool) {
	c.queue = slices.DeleteFunc(c.queue, func(u *update) bool {
		if match(u) {
			u.resolved = true
			u.complete(result{})
		}
		return u.resolved
	})
}

// step finds out what became of the last write, or makes the next one.
func (c *counter) step() {
	if c.pending != nil {
		c.reconcile()
		return
	}
	c.mu.Lock()
	batch := slices.Clone(c.queue)
	c.mu.Unlock()
	latest := c.writer.latest
	if (latest == nil || !c.arrivals.likelyCurrent(time.Since(latest.at))) && !c.load() {
		return
	}
	ch := c.decide(batch)
	switch {
	case ch.stale:
		c.load()
	case ch.dirty:
		ch.write, c.pending = c.writer.newWrite(ch.base, ch.next), ch
		c.send()
	default:
		c.finish(ch)
	}
}

func (c *counter) load() bool {
	before := c.writer.latest
	if err := c.writer.load(); err != nil {
		c.storeFailed(err)
		return false
	}
	c.storeAnswered()
	if now := c.writer.latest; before != nil {
		c.mu.Lock()
		c.arrivals.recordOthers(max(now.Writes-before.Writes, 0), now.at.Sub(before.at))
		c.mu.Unlock()
	}
	return true
}

// send sends the pending change. Without a clear answer the next step reconciles.
func (c *counter) send() {
	done, err := c.writer.send(c.pending.write)
	switch {
	case err != nil:
		c.storeFailed(err)
	case done:
		c.storeAnswered()
		c.finish(c.pending)
	}
}

// reconcile reads the entity to find out what became of the pending change.
func (c *counter) reconcile() {
	if !c.load() {
		return
	}
	ch := c.pending
	switch ch.write.outcome(c.writer.latest) {
	case applied:
		c.finish(ch)
	case notYet: // the write may still arrive, so only the same bytes may be sent
		c.pause(&c.conflicts)
		c.send()
	case notApplied:
		c.pending = nil
		c.lostRace()
	case unknown:
		c.pending = nil
		c.assumeLess(ch)
		c.lostRace()
	}
}

// assumeLess treats a change whose outcome cannot be known in the way that grants less:
// its holds and charges are made again, its refunds are not.
func (c *counter) assumeLess(ch *change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range ch.decisions {
		d.update.mayBeApplied = true
	}
	if len(c.concurrent) > 0 {
		c.slots.recorded = unknownSlots
	}
}

// finish completes the updates of a change that is now certain.
func (c *counter) finish(ch *change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending, c.failingUntil, c.degraded.budget = nil, time.Time{}, nil
	c.conflicts.Reset()
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

// serveFromLease makes holds out of the new lease for requests that came meanwhile.
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

// lostRace ends the wait of holds that waited long enough, and pauses.
func (c *counter) lostRace() {
	c.endWaits(func(u *update) bool { return time.Since(u.since) >= softHoldWait }, contentionError(c.firstHard()))
	c.pause(&c.conflicts)
}

func (c *counter) storeAnswered() {
	c.failing = false
	c.failures.Reset()
}

// storeFailed records a failure of the store, lets soft holds go on without it, and pauses.
func (c *counter) storeFailed(err error) {
	c.mu.Lock()
	if !c.failing {
		c.limiter.log.Warn("the quota table failed", "counter", c.writer.key.Partition, "error", err)
	}
	c.failing, c.lastErr = true, err
	c.failingUntil = time.Now().Add(storeFailingFor)
	c.mu.Unlock()
	if !c.hard {
		c.endWaits(func(*update) bool { return true }, nil)
	}
	c.pause(&c.failures)
}

// endWaits ends the wait of the matching holds: under hard limits with hardErr, otherwise
// in degraded mode. A hold that is part of the pending write stays queued.
func (c *counter) endWaits(match func(*update) bool, hardErr error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, u := range slices.Clone(c.queue) {
		switch {
		case u.final != nil || u.completed || !match(u):
			continue
		case c.hard:
			c.refuse(u, hardErr)
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

// pause waits for a random time, so that instances which failed together do not meet again.
func (c *counter) pause(b *backoff.Backoff) {
	time.Sleep(backoff.Jitter(b.Next()))
}
