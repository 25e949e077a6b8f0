package quota

import (
	"slices"
	"time"

	"aoaigateway/handler/quota/state"
)

// change is what one compare-and-swap of the entity does for a batch of updates.
type change struct {
	base  *reading
	next  state.Counter
	write *write // nil until the change is sent

	at        time.Time // when it was decided, by the clock of this machine
	decisions []decision
	stale     bool // the reading is too old for this decision: read again and decide again
	dirty     bool // the entity must be written

	admitted, refused int     // numbers of holds
	adjusted          bool    // a settlement or refund changed the entity
	freesSlots        bool    // a settlement or refund gives a slot back
	newSlots          int64   // slots for the admitted holds
	charged           []int64 // charged for the admitted holds and for the new lease

	lease     leaseChange
	left      []int64 // what each limit has left in the entity after the write
	slots     int64   // slots that the entity counts for this writer after the write
	available int64   // slots that all instances could still take after the write
}

// leaseChange is what a change does to the lease.
type leaseChange struct {
	action    leaseAction
	wanted    bool    // a lease pays, and may be taken
	returned  bool    // all or a part of the lease is given back
	size      []int64 // the size of the lease after the change
	charged   []int64 // added to the lease after the write is known to be applied
	windowIDs []int64 // the windows of these charges
	slots     int64   // free slots that are added to the lease
}

type leaseAction int

const (
	leaseUntouched leaseAction = iota
	leaseResized               // the lease stays in use and becomes larger or smaller
	leaseReplaced              // the whole lease is given back, and a new one may be taken
)

// decision is the result of a change for one update.
type decision struct {
	update    *update
	windowIDs []int64       // the windows in which a hold was charged
	denied    *state.Denial // why a hold was refused; nil = admitted
	left      []int64
}

// decide applies a batch of updates, and changes of the lease, to the newest reading.
func (c *counter) decide(batch []*update) *change {
	c.mu.Lock()
	defer c.mu.Unlock()
	latest := c.writer.latest
	ch := &change{base: latest, next: latest.Clone(), at: time.Now()}
	ch.next.Advance(c.limiter.now())
	ch.lease.action = c.chooseLeaseAction(ch, batch)
	if ch.lease.action != leaseUntouched && c.lease.amounts != nil {
		ch.lease.returned = ch.next.Adjust(c.limits, negative(c.lease.amounts), c.lease.windowIDs)
	}
	for _, u := range batch {
		c.apply(ch, u)
	}
	needsHold, age := wantsHold(batch), time.Since(latest.at)
	ch.stale = ch.refused > 0 && age > refusalMemory || needsHold && ch.admitted == 0 && age > leaseLife
	if ch.stale || c.canWait(ch) {
		return ch
	}
	ch.lease.wanted = ch.lease.action != leaseUntouched && (c.renewLease || needsHold) && ch.refused == 0 && !c.returnLease
	c.renewLease = false
	c.chargeLease(ch)
	c.countSlots(ch)
	c.withdrawLease(ch)
	return ch
}

// chooseLeaseAction keeps the lease if that disadvantages no other request. Waiting holds
// are served from the whole lease before more is charged.
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
	case !ch.at.Before(c.lease.until) || !state.SameWindows(ch.next.Time, c.limits, c.lease.windowIDs, ch.next.WindowIDs(c.limits)):
		return leaseReplaced
	}
	return leaseResized
}

// canWait reports whether the write may be delayed, because the change only refuses holds
// and gives back a lease that was too small.
func (c *counter) canWait(ch *change) bool {
	return ch.refused > 0 && ch.admitted == 0 && !ch.adjusted && !ch.freesSlots &&
		!c.needsWrite(ch.at) && ch.at.Sub(c.leaseReturned) < refusalMemory
}

// wantsHold reports whether the batch contains a hold that is to be made.
func wantsHold(batch []*update) bool {
	return slices.ContainsFunc(batch, (*update).makesHold)
}

func (c *counter) apply(ch *change, u *update) {
	d := decision{update: u}
	switch {
	case u.final != nil:
		ch.adjusted = ch.next.Adjust(c.limits, u.deltas(c.limits), u.hold.windowIDs) || ch.adjusted
		ch.freesSlots = ch.freesSlots || u.freesSlot
	case u.hold.ended:
		return
	case u.checks:
		c.check(ch, &d)
	default:
		c.admit(ch, &d)
	}
	ch.decisions = append(ch.decisions, d)
}

// admit admits or refuses one hold.
func (c *counter) admit(ch *change, d *decision) {
	h, slot := d.update.hold, int64(0)
	if h.needsSlot && !h.hasSlot {
		slot = 1
		if free, tightest := ch.next.FreeSlots(c.concurrent, c.writer.name, c.slots.inUse+ch.newSlots); free < 1 {
			d.denied = &state.Denial{Limit: tightest, Wait: time.Second}
			ch.refused++
			return
		}
	}
	if d.windowIDs, d.denied = ch.next.Admit(c.limits, h.amounts); d.denied != nil {
		ch.refused++
		return
	}
	ch.newSlots += slot
	d.left = ch.next.Left(c.limits)
	if slot > 0 || anyNonZero(h.amounts) {
		ch.admitted++
		ch.charged = plus(ch.charged, h.amounts)
	}
}

// check finds out whether the limits would admit a hold, and charges nothing. The present
// lease counts as free, because a hold would get it.
func (c *counter) check(ch *change, d *decision) {
	h, trial := d.update.hold, ch.next.Clone()
	if c.lease.amounts != nil && !ch.lease.returned {
		trial.Adjust(c.limits, negative(c.lease.amounts), c.lease.windowIDs)
	}
	if h.needsSlot {
		if free, tightest := trial.FreeSlots(c.concurrent, c.writer.name, c.slots.inUse+ch.newSlots); free < 1 {
			d.denied = &state.Denial{Limit: tightest, Wait: time.Second}
		}
	}
	if d.denied == nil {
		_, d.denied = trial.Admit(c.limits, h.amounts)
	}
	if d.denied != nil {
		ch.refused++
	}
}

// chargeLease charges the new lease. It charges nothing if a limit is almost used up, or if
// the old lease has ended and no request needs a new one.
func (c *counter) chargeLease(ch *change) {
	l := &ch.lease
	if l.wanted {
		l.size = c.arrivals.leaseSize(ch.at, ch.next.Left(c.limits))
	}
	if l.size != nil {
		ch.next.Charge(c.limits, l.size)
		ch.charged = plus(ch.charged, l.size)
	} else {
		l.size = make([]int64, len(c.limits))
	}
	l.windowIDs, ch.left = ch.next.WindowIDs(c.limits), ch.next.Left(c.limits)
}

// countSlots decides how many slots the entity counts for this writer: those in use, and a
// few free ones if requests are frequent and the limits have enough left.
func (c *counter) countSlots(ch *change) {
	if len(c.concurrent) == 0 {
		return
	}
	inUse := c.slots.inUse + ch.newSlots
	free, _ := ch.next.FreeSlots(c.concurrent, c.writer.name, inUse)
	switch {
	case ch.lease.action == leaseUntouched:
		ch.lease.slots = c.lease.slots
	case ch.lease.wanted && c.arrivals.warrantsLease(ch.at):
		ch.lease.slots = max(min(c.slots.peak-inUse, free/leaseShare), 0)
	}
	ch.slots, ch.available = inUse+ch.lease.slots, free-ch.lease.slots
	ch.next.SetSlots(c.writer.name, ch.slots)
}

// withdrawLease decides whether the entity must be written, and takes out of the lease what
// the change gives back. The giving back is an update of its own, so that it is done later
// if this change is not applied.
func (c *counter) withdrawLease(ch *change) {
	recorded := ch.base.Slots(c.writer.name)
	ch.dirty = ch.adjusted || ch.admitted > 0 || ch.slots != recorded ||
		ch.slots > 0 && ch.at.Sub(c.slots.renewedAt) >= slotRenew
	switch ch.lease.action {
	case leaseUntouched:
		ch.lease.slots = 0
	case leaseResized:
		ch.dirty = ch.dirty || !slices.Equal(ch.lease.size, c.lease.amounts)
		c.resizeLease(ch)
	case leaseReplaced:
		if ch.dirty = ch.dirty || ch.lease.returned || anyNonZero(ch.lease.size); ch.lease.returned {
			c.leaseReturned = ch.at
			c.returnFromLease(ch, c.lease.amounts)
		}
		c.lease, c.returnLease, ch.lease.charged = lease{}, false, ch.lease.size
	}
}

// resizeLease takes a surplus out of the lease at once. An addition is made after the write
// is known to be applied.
func (c *counter) resizeLease(ch *change) {
	back := make([]int64, len(ch.lease.size))
	ch.lease.charged = make([]int64, len(ch.lease.size))
	for i, n := range ch.lease.size {
		back[i] = max(c.lease.amounts[i]-n, 0)
		ch.lease.charged[i] = max(n-c.lease.amounts[i], 0)
		c.lease.amounts[i] -= back[i]
	}
	if anyNonZero(back) {
		c.returnFromLease(ch, back)
	}
	more := ch.lease.slots - c.lease.slots
	c.lease.slots += min(more, 0)
	ch.lease.slots = max(more, 0)
}

// returnFromLease adds an update to this change that gives a part of the lease back.
func (c *counter) returnFromLease(ch *change, amounts []int64) {
	u := c.enqueueReturn(amounts, c.lease.windowIDs)
	ch.decisions = append(ch.decisions, decision{update: u})
}

func (c *counter) enqueueReturn(amounts, windowIDs []int64) *update {
	h := &hold{amounts: amounts, windowIDs: windowIDs, charged: true, ended: true}
	return c.enqueue(&update{hold: h, final: make([]int64, len(amounts))})
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
