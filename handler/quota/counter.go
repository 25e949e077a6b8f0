package quota

import (
	"slices"
	"sync"
	"time"

	"aoaigateway/handler/backoff"
	"aoaigateway/handler/policy"
)

// counter is this instance's view of one entity of the table, and the queue of requests
// that wait for it.
type counter struct {
	limiter    *Limiter
	limits     []policy.Limit // limits that count in windows
	concurrent []policy.Limit
	hard       bool // at least one limit in limits or concurrent is hard

	mu           sync.Mutex
	queue        []*update // in order of arrival
	running      bool      // the goroutine of run is active
	lastUse      time.Time
	failingUntil time.Time // the store has failed recently: until then soft holds do not wait for it
	lastErr      error
	arrivals     arrivalRate

	lease         lease
	left          []int64 // what the entity had left at the last write or reading, without the lease
	renewLease    bool    // renew the lease now, before its end
	returnLease   bool    // give the lease back now, before its end
	leaseReturned time.Time
	slots         slotUse
	degraded      degraded
	timer         *time.Timer
	timerAt       time.Time // when timer fires; zero = the timer is not set

	// Only run uses the fields below, and at most one run is active.
	writer    writer
	pending   *change         // the change that was sent and whose outcome is not known yet; nil = none
	failing   bool            // the store has failed and no call has succeeded since
	failures  backoff.Backoff // pauses after failures of the store
	conflicts backoff.Backoff // pauses after conflicts with other writers
}

func newCounter(l *Limiter, p *compiledCounter, counterKey string) *counter {
	return &counter{
		limiter: l, limits: p.limits, concurrent: p.concurrent, hard: p.hard(), lastUse: time.Now(),
		writer:    writer{store: l.store, key: entityKey(p.product, p.by, counterKey), name: l.newWriterName()},
		failures:  backoff.Backoff{First: 20 * time.Millisecond, Max: 500 * time.Millisecond},
		conflicts: backoff.Backoff{First: 4 * time.Millisecond, Max: 128 * time.Millisecond},
	}
}

// firstHard returns the limit that the refusal names if the counter as a whole refuses.
func (c *counter) firstHard() policy.Limit {
	for _, limits := range [][]policy.Limit{c.limits, c.concurrent} {
		if i := slices.IndexFunc(limits, func(l policy.Limit) bool { return l.Hard }); i >= 0 {
			return limits[i]
		}
	}
	return policy.Limit{}
}

// idle reports whether the counter can be removed from memory: all that would be lost is
// its last reading.
func (c *counter) idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.running && c.lease.empty() && c.slots.inUse == 0
}

// The functions from here to setTimer require that the caller has locked mu.

// enqueue adds an update, and starts run if it is not active.
func (c *counter) enqueue(u *update) *update {
	u.since, u.done = time.Now(), make(chan struct{})
	c.queue = append(c.queue, u)
	c.startWriter()
	return u
}

func (c *counter) startWriter() {
	if !c.running {
		c.running = true
		c.limiter.activeWriters.started()
		go c.run()
	}
}

// needsWrite reports whether the lease or the slots require a write although no request
// waits.
func (c *counter) needsWrite(now time.Time) bool {
	if !c.lease.empty() && (c.renewLease || c.returnLease) || c.slots.recorded != c.slots.inUse+c.lease.slots {
		return true
	}
	at := c.nextWriteAt()
	return !at.IsZero() && !now.Before(at)
}

// nextWriteAt returns when the lease ends or the slots must be renewed, whichever is
// earlier; zero = neither.
func (c *counter) nextWriteAt() (at time.Time) {
	if !c.lease.empty() {
		at = c.lease.until
	}
	if c.slots.inUse+c.lease.slots > 0 {
		if renew := c.slots.renewedAt.Add(slotRenew); at.IsZero() || renew.Before(at) {
			at = renew
		}
	}
	return at
}

// setTimer starts run when its next write is due. If none is due it stops the timer, which
// would keep an unused counter in memory.
func (c *counter) setTimer() {
	at := c.nextWriteAt()
	switch {
	case at.IsZero():
		if !c.timerAt.IsZero() {
			c.timer.Stop()
		}
	case !c.timerAt.IsZero() && !at.Before(c.timerAt):
		return
	case c.timer == nil:
		c.timer = time.AfterFunc(time.Until(at), c.wake)
	default:
		c.timer.Reset(time.Until(at))
	}
	c.timerAt = at
}

func (c *counter) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timerAt = time.Time{}
	if c.needsWrite(time.Now()) {
		c.startWriter()
	} else {
		c.setTimer()
	}
}

// flush gives the lease back before its end.
func (c *counter) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.lease.empty() {
		c.returnLease = true
		c.startWriter()
	}
}
