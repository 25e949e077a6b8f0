package quota

import (
	"slices"
	"sync"
	"time"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/policy"
	"aoaigateway/handler/table"
)

// scope is one entity as this instance sees it.
type counter struct {
	limiter    *Limiter
	key        table.Key
	limits     []policy.Limit // that count in windows
	concurrent []policy.Limit
	hard       bool // one of all these is

	mu           sync.Mutex
	queue        []*update // in the order they came; the writer removes what is resolved
	running      bool      // a writer runs
	lastUse      time.Time
	failingUntil time.Time // the store failed lately: soft holds do not wait for it
	lastErr      error

	arrivals      arrivalRate
	lease         lease   // what may be held without asking the store
	left          []int64 // in the entity, beside the lease, when it was last known
	renewLease    bool    // the lease is to be renewed before its end
	returnLease   bool    // the lease is to go back
	leaseReturned time.Time
	degraded      degraded
	slots         slotUse
	timer         *time.Timer
	timerAt       time.Time // when timer fires; zero = it does not

	writer // owned by run, of which there is never more than one
}

func newCounter(l *Limiter, p *compiledCounter, value string) *counter {
	return &counter{
		limiter: l, key: entityKey(p.product, p.by, value), limits: p.limits, concurrent: p.concurrent, hard: p.hard(), lastUse: time.Now(),
		writer: writer{name: l.newWriterName()},
	}
}

// firstHard is the limit to name when the scope as a whole refuses.
func (c *counter) firstHard() policy.Limit {
	for _, limits := range [][]policy.Limit{c.limits, c.concurrent} {
		if i := slices.IndexFunc(limits, func(l policy.Limit) bool { return l.Hard }); i >= 0 {
			return limits[i]
		}
	}
	return policy.Limit{}
}

// idle tells whether nothing would be lost but a reading if the scope were forgotten.
func (c *counter) idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.running && c.lease.empty() && c.slots.inUse == 0
}

// start is called with mu held, when there is something for the writer to do.
func (c *counter) startWriter() {
	if !c.running {
		c.running = true
		c.limiter.activeWriters.started()
		go c.run()
	}
}

// due, dueAt and arm are called with mu held.

// due tells whether the lease or the slots need a write that nobody asked for.
func (c *counter) needsWrite(now time.Time) bool {
	if !c.lease.empty() && (c.renewLease || c.returnLease) || c.slots.recorded != c.slots.inUse+c.lease.slots {
		return true
	}
	at := c.nextWriteAt()
	return !at.IsZero() && !now.Before(at)
}

// dueAt is when the lease ends or the slots are to be renewed; zero = never.
func (c *counter) nextWriteAt() (at time.Time) {
	if !c.lease.empty() {
		at = c.lease.until
	}
	if c.slots.inUse+c.lease.slots > 0 {
		if r := c.slots.renewedAt.Add(slotRenew); at.IsZero() || r.Before(at) {
			at = r
		}
	}
	return at
}

// arm sees to it that the writer is woken when something becomes due. A timer that is not
// needed is stopped: it would keep a forgotten scope in memory.
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

// flushNow has the lease go back, whatever its end.
func (c *counter) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.lease.empty() {
		c.returnLease = true
		c.startWriter()
	}
}

// holders are the requests that have a slot in a scope. Its fields belong to the scope's mu.
type slotUse struct {
	inUse     int64            // of them
	peak      int64            // the most at a time, since the lease was last renewed
	available int64            // more slots that all processes together could have, when last known
	onLost    map[*hold]func() // says that a slot was lost; only under hard limits
	recorded  int64            // what the entity counts, as far as we know; -1 = not known
	renewedAt time.Time        // the last certain write was decided then
}

// enter and leave are called with mu held.
func (c *counter) takeSlot(h *hold) {
	if !h.needsSlot || h.hasSlot {
		return
	}
	h.hasSlot = true
	c.slots.inUse++
	c.slots.peak = max(c.slots.peak, c.slots.inUse)
	if h.onLost != nil {
		if c.slots.onLost == nil {
			c.slots.onLost = map[*hold]func(){}
		}
		c.slots.onLost[h] = h.onLost
	}
}

func (c *counter) releaseSlot(h *hold) {
	if h.hasSlot {
		h.hasSlot = false
		c.slots.inUse--
		delete(c.slots.onLost, h)
	}
}

// cutLate gives up slots that could not be renewed: before others may take them, the
// requests that had them are told. Called with mu held.
func (c *counter) cancelLateSlots(now time.Time) {
	if c.slots.inUse+c.lease.slots == 0 && now.Sub(c.slots.renewedAt) > slotLife {
		c.slots.recorded = 0 // nobody believes it any more
	}
	if len(c.slots.onLost) == 0 || now.Sub(c.slots.renewedAt) < slotLostAfter {
		return
	}
	c.limiter.log.Warn("quota slots lost", "scope", c.key.Partition, "requests", len(c.slots.onLost), "error", c.lastErr)
	for h, lost := range c.slots.onLost {
		c.releaseSlot(h)
		lost()
	}
	c.lease.slots = 0
}

// slotsLost is what a request hears whose slot could not be renewed.
func slotLostError(l policy.Limit) *gateway.Error {
	return gateway.ConcurrencySlotLost.
		New("The gateway could not renew this request's slot in the limit %s, so it ended the request. Try again in 1 second.", l.Name).
		WithLimit(l.Name).WithRetry(time.Second)
}
