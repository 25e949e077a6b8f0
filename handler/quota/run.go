package quota

import (
	"slices"
	"time"

	"aoaigateway/handler/backoff"
)

const (
	refusalMemory   = 250 * time.Millisecond // an older reading must not be used to refuse a request
	storeFailingFor = time.Second            // for this long after a failure, soft holds do not wait for the store
	settleTimeout   = 30 * time.Second       // a settlement that could not be written for this long is given up
)

// run is the only goroutine that writes the counter's entity. It ends when there is nothing
// left to write.
func (c *counter) run() {
	defer c.limiter.activeWriters.ended()
	for c.hasWork() {
		c.step()
	}
}

// hasWork removes updates that need no write or are too old, and reports whether there is
// anything left to write.
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
		c.limiter.log.Warn("quota settlements could not be written for 30 s and were given up",
			"counter", c.writer.key.Partition, "error", c.lastErr)
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

// drop completes the matching updates without a write. The caller has locked mu.
func (c *counter) drop(match func(*update) bool) {
	c.queue = slices.DeleteFunc(c.queue, func(u *update) bool {
		if match(u) {
			u.resolved = true
			u.complete(result{})
		}
		return u.resolved
	})
}

// step finds out the outcome of the pending write, or makes the next write.
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

// send sends the pending change. If the store's answer is not clear, the next step calls
// reconcile.
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

// reconcile reads the entity to find out whether the pending change was applied.
func (c *counter) reconcile() {
	if !c.load() {
		return
	}
	ch := c.pending
	switch ch.write.outcome(c.writer.latest) {
	case applied:
		c.finish(ch)
	case notYet: // the write may still be on its way, so nothing else may be sent
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

// assumeLess handles a change whose outcome cannot be found out, so that no limit is
// exceeded: holds and charges are made again, refunds are not.
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

// finish completes the updates of a change that is known to be applied.
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
	case u.checks && d.denied != nil:
		u.complete(result{err: quotaRefusal(*d.denied)})
	case u.checks:
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

// serveFromLease makes holds from the new lease for requests that arrived while it was
// written.
func (c *counter) serveFromLease() {
	now := time.Now()
	for _, u := range c.queue {
		if u.resolved || !u.makesHold() {
			continue
		}
		if left, ok := c.holdFromLease(now, u.hold); ok {
			u.resolved = true
			u.complete(result{left: left})
		}
	}
}

// lostRace handles a conflict with another writer: it refuses holds that have waited too
// long, and pauses.
func (c *counter) lostRace() {
	c.endWaits(func(u *update) bool { return time.Since(u.since) >= softHoldWait }, contentionError(c.firstHard()))
	c.pause(&c.conflicts)
}

func (c *counter) storeAnswered() {
	c.failing = false
	c.failures.Reset()
}

// storeFailed handles a failure of the store: soft holds stop waiting for it, and the
// writer pauses.
func (c *counter) storeFailed(err error) {
	c.mu.Lock()
	if !c.failing {
		c.limiter.log.Warn("the quota table cannot be read or written", "counter", c.writer.key.Partition, "error", err)
	}
	c.failing, c.lastErr = true, err
	c.failingUntil = time.Now().Add(storeFailingFor)
	c.mu.Unlock()
	if !c.hard {
		c.endWaits(func(*update) bool { return true }, nil)
	}
	c.pause(&c.failures)
}

// endWaits ends the wait of the matching holds: with hardErr if the counter has a hard
// limit, otherwise in degraded mode. A hold in the pending write stays in the queue.
func (c *counter) endWaits(match func(*update) bool, hardErr error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, u := range slices.Clone(c.queue) {
		switch {
		case u.final != nil || u.completed || !match(u):
			continue
		case c.hard && !u.checks: // a check that meets conflicts refuses nothing
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

// pause waits for a random time, so that instances that failed at the same moment do not
// retry at the same moment.
func (c *counter) pause(b *backoff.Backoff) {
	time.Sleep(backoff.Jitter(b.Next()))
}
