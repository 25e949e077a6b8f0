package quota

import (
	"slices"
	"time"

	"aoaigateway/handler/policy"
)

// change is one compare-and-swap: frozen, so that it can be sent again as it is.
type change struct {
	base      *reading
	next      state
	id        string
	at        time.Time // ours, when it was decided
	decisions []decision
	admitted  int
	refused   int
	adjusted  bool
	frees     bool    // slots
	entering  int64   // slots of those admitted
	took      []int64 // what was admitted, and the size of the lease

	how     handling
	asked   bool // somebody needs more, and may have it
	returns bool // the lease, or some of it, goes back
	dirty   bool // the entity must be written
	stale   bool // it says something of an old reading: read, and decide again

	left   []int64 // in the entity after it
	size   []int64 // of the lease after it
	leased []int64 // taken ahead: the lease's, once it is certain
	stamps []int64 // where that was charged
	spare  int64   // slots taken ahead
	slots  int64   // what it says of ours
	room   int64   // slots that could still be had after it
}

type decision struct {
	op     *op
	stamps []int64
	no     *refusal
	left   []int64
}

// How a change treats the lease.
type handling int

const (
	leave handling = iota // as it is
	keep                  // it stays in use, and the change makes it larger or smaller
	fold                  // all of it goes back, and the change takes a new one
)

// decide applies a batch to the newest reading, and the lease with it.
func (s *scope) decide(batch []*op) *change {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &change{base: s.cached, next: s.cached.clone(), at: time.Now()}
	c.next.advance(s.limiter.now())
	c.how = s.handle(c, batch)
	if c.how != leave && s.hand.amounts != nil {
		c.returns = c.next.adjust(s.limits, negative(s.hand.amounts), s.hand.stamps)
	}
	for _, o := range batch {
		s.apply(c, o)
	}
	makes, age := makes(batch), time.Since(s.cached.read)
	c.stale = c.refused > 0 && age > refusalMemory || makes && c.admitted == 0 && age > leaseLife
	if c.stale || s.mayWait(c) {
		return c
	}
	c.asked = (s.renew || makes) && c.refused == 0 && !s.flush
	s.renew = false
	s.takeAhead(c)
	s.countSlots(c)
	s.commit(c)
	c.id = s.nextID()
	c.next.wrote(c.id)
	c.next.prune()
	return c
}

// handle chooses what becomes of the lease: it stays in use only while that disturbs
// nobody, and is used up before more is asked for.
func (s *scope) handle(c *change, batch []*op) handling {
	switch {
	case makes(batch):
		return fold
	case s.hand.empty():
		return leave
	case s.flush || !s.demand.busy(c.at):
		return fold
	case !s.renew && c.at.Before(s.hand.until):
		return leave
	case !c.at.Before(s.hand.until) || !c.next.same(s.limits, s.hand.stamps, c.next.stamps(s.limits)):
		return fold
	}
	return keep
}

// mayWait tells whether a change does nothing but refuse, and send back a lease that was
// too small: while the refusal is remembered, that can wait.
func (s *scope) mayWait(c *change) bool {
	return c.refused > 0 && c.admitted == 0 && !c.adjusted && !c.frees && !s.due(c.at) && c.at.Sub(s.returned) < refusalMemory
}

// makes tells whether somebody waits for a hold.
func makes(batch []*op) bool {
	return slices.ContainsFunc(batch, func(o *op) bool { return o.final == nil && !o.hold.over })
}

func (s *scope) apply(c *change, o *op) {
	d := decision{op: o}
	switch {
	case o.final != nil:
		c.adjusted = c.next.adjust(s.limits, o.deltas(s.limits), o.hold.stamps) || c.adjusted
		c.frees = c.frees || o.frees
	case o.hold.over:
		return
	default:
		s.admit(c, &d)
	}
	c.decisions = append(c.decisions, d)
}

// admit decides about one hold.
func (s *scope) admit(c *change, d *decision) {
	h, slot := d.op.hold, int64(0)
	if h.slot && !h.inside {
		slot = 1
		if room, tightest := c.next.room(s.concurrent, s.name, s.slots.n+c.entering); room < 1 {
			d.no = &refusal{limit: tightest, wait: time.Second}
			c.refused++
			return
		}
	}
	if d.stamps, d.no = c.next.admit(s.limits, h.amounts); d.no != nil {
		c.refused++
		return
	}
	c.entering += slot
	d.left = c.next.left(s.limits)
	if slot > 0 || some(h.amounts) {
		c.admitted++
		c.took = plus(c.took, h.amounts)
	}
}

// takeAhead charges the new lease: nothing when a limit is near, or when the old one came
// to its end and nobody asks.
func (s *scope) takeAhead(c *change) {
	if c.asked {
		c.size = s.demand.lease(c.at, c.next.left(s.limits))
	}
	if c.size != nil {
		c.next.charge(s.limits, c.size)
		c.took = plus(c.took, c.size)
	} else {
		c.size = make([]int64, len(s.limits))
	}
	c.stamps, c.left = c.next.stamps(s.limits), c.next.left(s.limits)
}

// countSlots says how many slots the entity is to count as ours: those in use, and a few
// more while requests come quickly and the limits are far.
func (s *scope) countSlots(c *change) {
	if len(s.concurrent) == 0 {
		return
	}
	inUse := s.slots.n + c.entering
	room, _ := c.next.room(s.concurrent, s.name, inUse)
	switch {
	case c.how == leave:
		c.spare = s.hand.slots
	case c.asked && s.demand.busy(c.at):
		c.spare = max(min(s.slots.peak-inUse, room/portion), 0)
	}
	c.slots, c.room = inUse+c.spare, room-c.spare
	c.next.setSlots(s.name, c.slots)
}

// commit tells whether the entity must be written, and takes out of the lease what the
// change gives back. If the change comes to nothing, that is an adjustment like any other.
func (s *scope) commit(c *change) {
	ours := c.base.slots[s.name].n
	c.dirty = c.adjusted || c.admitted > 0 || c.slots != ours || c.slots > 0 && c.at.Sub(s.slots.renewed) >= slotRenew
	switch c.how {
	case leave:
		c.spare = 0
	case keep:
		c.dirty = c.dirty || !slices.Equal(c.size, s.hand.amounts)
		s.resize(c)
	case fold:
		if c.dirty = c.dirty || c.returns || some(c.size); c.returns {
			s.returned = c.at
			s.giveBack(c, s.hand.amounts, s.hand.stamps)
		}
		s.hand, s.flush, c.leased = lease{}, false, c.size
	}
}

// resize changes the lease in place.
func (s *scope) resize(c *change) {
	back := make([]int64, len(c.size))
	c.leased = make([]int64, len(c.size))
	for i, n := range c.size {
		back[i] = max(s.hand.amounts[i]-n, 0)
		c.leased[i] = max(n-s.hand.amounts[i], 0)
		s.hand.amounts[i] -= back[i]
	}
	if some(back) {
		s.giveBack(c, back, s.hand.stamps)
	}
	more := c.spare - s.hand.slots
	s.hand.slots += min(more, 0)
	c.spare = max(more, 0)
}

// giveBack makes an op of what c returns of the lease.
func (s *scope) giveBack(c *change, amounts, stamps []int64) {
	h := &hold{amounts: amounts, stamps: stamps, charged: true, over: true}
	o := s.enqueue(&op{hold: h, final: make([]int64, len(amounts))})
	c.decisions = append(c.decisions, decision{op: o})
}

// receive puts what a change took ahead into the lease, now that it is certain.
func (s *scope) receive(c *change) {
	if c.how == leave || c.how == fold && !some(c.leased) && c.spare == 0 {
		return
	}
	s.renew = false
	amounts, slots := c.leased, s.hand.slots+c.spare
	if old := s.hand; some(old.amounts) {
		if c.next.same(s.limits, old.stamps, c.stamps) {
			amounts = plus(amounts, old.amounts)
		} else {
			h := &hold{amounts: old.amounts, stamps: old.stamps, charged: true, over: true}
			s.enqueue(&op{hold: h, final: make([]int64, len(old.amounts))})
		}
	}
	life := s.lifetime(c.stamps, c.next.time)
	s.hand = lease{amounts: amounts, stamps: c.stamps, slots: slots, until: c.at.Add(life)}
	if life == leaseLife {
		s.hand.renewAt = s.hand.until.Add(-renewBefore)
	}
}

// stamps is where the state would charge now.
func (s *state) stamps(limits []policy.Limit) []int64 {
	stamps := make([]int64, len(limits))
	for i, l := range limits {
		stamps[i] = s.counter(l).stamp(l)
	}
	return stamps
}

func negative(amounts []int64) []int64 {
	out := make([]int64, len(amounts))
	for i, n := range amounts {
		out[i] = -n
	}
	return out
}

func plus(a, b []int64) []int64 {
	out := slices.Clone(b)
	for i, n := range a {
		out[i] += n
	}
	return out
}

func some(amounts []int64) bool {
	return slices.ContainsFunc(amounts, func(n int64) bool { return n != 0 })
}
