package quota

import (
	"slices"
	"time"

	"aoaigateway/handler/policy"
)

// change is one compare-and-swap: frozen, so that it can be sent again as it is.
type change struct {
	base       *reading
	next       state
	id         string
	at         time.Time // ours, when it was decided
	decisions  []decision
	admitted   int
	refused    int
	adjusted   bool
	freesSlots bool    // slots
	newSlots   int64   // slots of those admitted
	charged    []int64 // what was admitted, and the size of the lease

	leaseAction  leaseAction
	wantsLease   bool // somebody needs more, and may have it
	returnsLease bool // the lease, or some of it, goes back
	dirty        bool // the entity must be written
	stale        bool // it says something of an old reading: read, and decide again

	left         []int64 // in the entity after it
	leaseSize    []int64 // of the lease after it
	leaseCharged []int64 // taken ahead: the lease's, once it is certain
	windowIDs    []int64 // where that was charged
	spareSlots   int64   // slots taken ahead
	slots        int64   // what it says of ours
	available    int64   // slots that could still be had after it
}

type decision struct {
	update    *update
	windowIDs []int64
	denied    *denial
	left      []int64
}

// How a change treats the lease.
type leaseAction int

const (
	leaseUntouched leaseAction = iota // as it is
	leaseResized                      // it stays in use, and the change makes it larger or smaller
	leaseReplaced                     // all of it goes back, and the change takes a new one
)

// decide applies a batch to the newest reading, and the lease with it.
func (c *counter) decide(batch []*update) *change {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := &change{base: c.latest, next: c.latest.clone(), at: time.Now()}
	ch.next.advance(c.limiter.now())
	ch.leaseAction = c.chooseLeaseAction(ch, batch)
	if ch.leaseAction != leaseUntouched && c.lease.amounts != nil {
		ch.returnsLease = ch.next.adjust(c.limits, negative(c.lease.amounts), c.lease.windowIDs)
	}
	for _, u := range batch {
		c.apply(ch, u)
	}
	makes, age := wantsHold(batch), time.Since(c.latest.read)
	ch.stale = ch.refused > 0 && age > refusalMemory || makes && ch.admitted == 0 && age > leaseLife
	if ch.stale || c.canWait(ch) {
		return ch
	}
	ch.wantsLease = (c.renewLease || makes) && ch.refused == 0 && !c.returnLease
	c.renewLease = false
	c.chargeLease(ch)
	c.countSlots(ch)
	c.withdrawLease(ch)
	ch.id = c.nextID()
	ch.next.recordWrite(ch.id)
	ch.next.prune()
	return ch
}

// handle chooses what becomes of the lease: it stays in use only while that disturbs
// nobody, and is used up before more is asked for.
func (c *counter) chooseLeaseAction(ch *change, batch []*update) leaseAction {
	switch {
	case wantsHold(batch):
		return leaseReplaced
	case c.lease.empty():
		return leaseUntouched
	case c.returnLease || !c.arrivals.warrantsLease(ch.at):
		return leaseReplaced
	case !c.renewLease && ch.at.Before(c.lease.until):
		return leaseUntouched
	case !ch.at.Before(c.lease.until) || !ch.next.sameWindows(c.limits, c.lease.windowIDs, ch.next.windowIDs(c.limits)):
		return leaseReplaced
	}
	return leaseResized
}

// mayWait tells whether a change does nothing but refuse, and send back a lease that was
// too small: while the refusal is remembered, that can wait.
func (c *counter) canWait(ch *change) bool {
	return ch.refused > 0 && ch.admitted == 0 && !ch.adjusted && !ch.freesSlots && !c.needsWrite(ch.at) && ch.at.Sub(c.leaseReturned) < refusalMemory
}

// makes tells whether somebody waits for a hold.
func wantsHold(batch []*update) bool {
	return slices.ContainsFunc(batch, func(u *update) bool { return u.final == nil && !u.hold.ended })
}

func (c *counter) apply(ch *change, u *update) {
	d := decision{update: u}
	switch {
	case u.final != nil:
		ch.adjusted = ch.next.adjust(c.limits, u.deltas(c.limits), u.hold.windowIDs) || ch.adjusted
		ch.freesSlots = ch.freesSlots || u.freesSlot
	case u.hold.ended:
		return
	default:
		c.admit(ch, &d)
	}
	ch.decisions = append(ch.decisions, d)
}

// admit decides about one hold.
func (c *counter) admit(ch *change, d *decision) {
	h, slot := d.update.hold, int64(0)
	if h.needsSlot && !h.hasSlot {
		slot = 1
		if room, tightest := ch.next.freeSlots(c.concurrent, c.name, c.slots.inUse+ch.newSlots); room < 1 {
			d.denied = &denial{limit: tightest, wait: time.Second}
			ch.refused++
			return
		}
	}
	if d.windowIDs, d.denied = ch.next.admit(c.limits, h.amounts); d.denied != nil {
		ch.refused++
		return
	}
	ch.newSlots += slot
	d.left = ch.next.left(c.limits)
	if slot > 0 || anyNonZero(h.amounts) {
		ch.admitted++
		ch.charged = plus(ch.charged, h.amounts)
	}
}

// takeAhead charges the new lease: nothing when a limit is near, or when the old one came
// to its end and nobody asks.
func (c *counter) chargeLease(ch *change) {
	if ch.wantsLease {
		ch.leaseSize = c.arrivals.leaseSize(ch.at, ch.next.left(c.limits))
	}
	if ch.leaseSize != nil {
		ch.next.charge(c.limits, ch.leaseSize)
		ch.charged = plus(ch.charged, ch.leaseSize)
	} else {
		ch.leaseSize = make([]int64, len(c.limits))
	}
	ch.windowIDs, ch.left = ch.next.windowIDs(c.limits), ch.next.left(c.limits)
}

// countSlots says how many slots the entity is to count as ours: those in use, and a few
// more while requests come quickly and the limits are far.
func (c *counter) countSlots(ch *change) {
	if len(c.concurrent) == 0 {
		return
	}
	inUse := c.slots.inUse + ch.newSlots
	room, _ := ch.next.freeSlots(c.concurrent, c.name, inUse)
	switch {
	case ch.leaseAction == leaseUntouched:
		ch.spareSlots = c.lease.slots
	case ch.wantsLease && c.arrivals.warrantsLease(ch.at):
		ch.spareSlots = max(min(c.slots.peak-inUse, room/leaseShare), 0)
	}
	ch.slots, ch.available = inUse+ch.spareSlots, room-ch.spareSlots
	ch.next.setSlots(c.name, ch.slots)
}

// commit tells whether the entity must be written, and takes out of the lease what the
// change gives back. If the change comes to nothing, that is an adjustment like any other.
func (c *counter) withdrawLease(ch *change) {
	ours := ch.base.slots[c.name].n
	ch.dirty = ch.adjusted || ch.admitted > 0 || ch.slots != ours || ch.slots > 0 && ch.at.Sub(c.slots.renewedAt) >= slotRenew
	switch ch.leaseAction {
	case leaseUntouched:
		ch.spareSlots = 0
	case leaseResized:
		ch.dirty = ch.dirty || !slices.Equal(ch.leaseSize, c.lease.amounts)
		c.resizeLease(ch)
	case leaseReplaced:
		if ch.dirty = ch.dirty || ch.returnsLease || anyNonZero(ch.leaseSize); ch.returnsLease {
			c.leaseReturned = ch.at
			c.returnFromLease(ch, c.lease.amounts, c.lease.windowIDs)
		}
		c.lease, c.returnLease, ch.leaseCharged = lease{}, false, ch.leaseSize
	}
}

// resize changes the lease in place.
func (c *counter) resizeLease(ch *change) {
	back := make([]int64, len(ch.leaseSize))
	ch.leaseCharged = make([]int64, len(ch.leaseSize))
	for i, n := range ch.leaseSize {
		back[i] = max(c.lease.amounts[i]-n, 0)
		ch.leaseCharged[i] = max(n-c.lease.amounts[i], 0)
		c.lease.amounts[i] -= back[i]
	}
	if anyNonZero(back) {
		c.returnFromLease(ch, back, c.lease.windowIDs)
	}
	more := ch.spareSlots - c.lease.slots
	c.lease.slots += min(more, 0)
	ch.spareSlots = max(more, 0)
}

// giveBack makes an op of what c returns of the lease.
func (c *counter) returnFromLease(ch *change, amounts, windowIDs []int64) {
	h := &hold{amounts: amounts, windowIDs: windowIDs, charged: true, ended: true}
	u := c.enqueue(&update{hold: h, final: make([]int64, len(amounts))})
	ch.decisions = append(ch.decisions, decision{update: u})
}

// receive puts what a change took ahead into the lease, now that it is certain.
func (c *counter) extendLease(ch *change) {
	if ch.leaseAction == leaseUntouched || ch.leaseAction == leaseReplaced && !anyNonZero(ch.leaseCharged) && ch.spareSlots == 0 {
		return
	}
	c.renewLease = false
	amounts, slots := ch.leaseCharged, c.lease.slots+ch.spareSlots
	if old := c.lease; anyNonZero(old.amounts) {
		if ch.next.sameWindows(c.limits, old.windowIDs, ch.windowIDs) {
			amounts = plus(amounts, old.amounts)
		} else {
			h := &hold{amounts: old.amounts, windowIDs: old.windowIDs, charged: true, ended: true}
			c.enqueue(&update{hold: h, final: make([]int64, len(old.amounts))})
		}
	}
	life := c.leaseLifetime(ch.windowIDs, ch.next.time)
	c.lease = lease{amounts: amounts, windowIDs: ch.windowIDs, slots: slots, until: ch.at.Add(life)}
	if life == leaseLife {
		c.lease.renewAt = c.lease.until.Add(-renewBefore)
	}
}

// stamps is where the state would charge now.
func (s *state) windowIDs(limits []policy.Limit) []int64 {
	windowIDs := make([]int64, len(limits))
	for i, l := range limits {
		windowIDs[i] = s.limit(l).windowID(l)
	}
	return windowIDs
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

func anyNonZero(amounts []int64) bool {
	return slices.ContainsFunc(amounts, func(n int64) bool { return n != 0 })
}
