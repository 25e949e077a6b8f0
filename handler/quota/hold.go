package quota

import (
	"context"
	"slices"
	"time"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/policy"
)

// hold is what one attempt was charged in one scope. Its fields belong to the scope's mu.
type hold struct {
	amounts []int64 // one for each limit that counts in windows
	stamps  []int64 // where they were charged
	charged bool    // the entity has it
	over    bool    // an adjustment follows: if the entity has it not yet, it must not get it

	slot   bool   // it needs one, or has one
	inside bool   // it is counted among the scope's slots
	lost   func() // says that a hard limit's slot was lost; nil = there is no such limit
}

// op is one change that waits for the scope's writer: a hold to make, or one to adjust
// to the amounts in final. All fields belong to the scope's mu.
type op struct {
	hold   *hold
	final  []int64 // nil = make the hold
	frees  bool    // a slot
	since  time.Time
	gone   bool // no longer queued
	redone bool // may have been applied unseen: its refunds must not be applied again

	done chan struct{} // closed when the fields below are set
	said bool
	granted
}

// granted is what became of a hold.
type granted struct {
	err    error
	unsure bool    // went on without the store
	left   []int64 // what each limit could still give
}

// How long callers wait.
const (
	hardWait   = 2 * time.Second        // for a hard limit's store
	softWait   = time.Second            // for a soft limit's store, and for a contended entity
	settleWait = 200 * time.Millisecond // for a settlement, at the end of an answer
)

// settled is the channel of settlements that need no store.
var settled = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// take makes a hold out of the lease, or waits for the store as long as the scope's
// limits are worth.
func (s *scope) take(ctx context.Context, h *hold) granted {
	s.mu.Lock()
	now := time.Now()
	s.used = now
	s.demand.note(now, h.amounts)
	if left, ok := s.spend(now, h); ok {
		s.mu.Unlock()
		return granted{left: left}
	}
	if !s.hard && now.Before(s.failingUntil) {
		g := s.alone(now, h)
		s.mu.Unlock()
		return g
	}
	o := s.enqueue(&op{hold: h})
	s.mu.Unlock()
	patience := softWait
	if s.hard {
		patience = hardWait
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-o.done:
	case <-timer.C:
		s.giveUp(o, nil)
	case <-ctx.Done():
		s.giveUp(o, ctx.Err())
	}
	return o.granted
}

// giveUp ends the wait for a hold, unless its result came just now. cause is why the
// caller left; nil = the store took too long.
func (s *scope) giveUp(o *op, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case o.said:
	case cause != nil:
		s.refuse(o, gateway.ClientConnectionFailure.Because(cause))
	case s.hard:
		s.refuse(o, storeAway(s.firstHard(), s.lastErr))
	default:
		s.goAlone(o)
	}
}

// refuse and goAlone end the wait for a hold that may still be on its way to the entity.
// Called with mu held.
func (s *scope) refuse(o *op, err error) {
	o.say(granted{err: err})
	s.cancel(o.hold)
}

func (s *scope) goAlone(o *op) {
	g := s.alone(time.Now(), o.hold)
	if g.err != nil {
		s.refuse(o, g.err)
		return
	}
	o.say(g)
}

// cancel gives a hold back, whether or not the entity has it. Called with mu held.
func (s *scope) cancel(h *hold) *op {
	o := &op{hold: h, final: make([]int64, len(h.amounts)), frees: h.slot}
	s.leave(h)
	h.over = true
	return s.enqueue(o)
}

// adjust changes a hold to final, in the lease if that is as good, else in the entity and
// in the background; the channel is closed when that is done, or was given up. The hold
// is over with it, and so is its slot.
func (s *scope) adjust(h *hold, final []int64) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.over {
		return settled
	}
	h.over = true
	if s.absorb(time.Now(), h, final) {
		return settled
	}
	o := &op{hold: h, final: final, frees: h.inside}
	s.leave(h)
	return s.enqueue(o).done
}

// move hands a slot on to a further attempt.
func (s *scope) move(from, to *hold) {
	s.mu.Lock()
	defer s.mu.Unlock()
	to.slot, to.inside, to.lost = from.slot, from.inside, from.lost
	if _, ok := s.slots.cut[from]; ok {
		delete(s.slots.cut, from)
		s.slots.cut[to] = to.lost
	}
	from.slot, from.inside = false, false
}

// enqueue is called with mu held. It starts the writer if none runs.
func (s *scope) enqueue(o *op) *op {
	o.since, o.done = time.Now(), make(chan struct{})
	s.queue = append(s.queue, o)
	s.start()
	return o
}

// say, deltas and pointless are called with the scope's mu held.
func (o *op) say(g granted) {
	if !o.said {
		o.said, o.granted = true, g
		close(o.done)
	}
}

// deltas is what the entity must still be changed by.
func (o *op) deltas(limits []policy.Limit) []int64 {
	d := slices.Clone(o.final)
	for i := range limits {
		if o.hold.charged {
			d[i] -= o.hold.amounts[i]
		}
		if o.redone {
			d[i] = max(d[i], 0)
		}
	}
	return d
}

// pointless tells whether the entity needs no change for this op. Called while no change
// is pending, so that charged is the truth.
func (o *op) pointless(limits []policy.Limit) bool {
	if o.final == nil {
		return o.hold.over
	}
	return !o.frees && !some(o.deltas(limits))
}
