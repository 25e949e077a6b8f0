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
	amounts []int64 // one for each limit of the scope
	stamps  []int64 // where they were charged
	charged bool    // the entity has it
	over    bool    // an adjustment follows: if the entity has it not yet, it must not get it
}

// op is one change that waits for the scope's writer: a hold to make, or one to adjust
// to the amounts in final. All fields belong to the scope's mu.
type op struct {
	hold   *hold
	final  []int64 // nil = make the hold
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

// take holds amounts, and waits for it as long as the scope's limits are worth.
func (s *scope) take(ctx context.Context, amounts []int64) (*hold, granted) {
	s.mu.Lock()
	if !s.hard && time.Now().Before(s.failingUntil) {
		s.mu.Unlock()
		return &hold{amounts: amounts}, granted{unsure: true}
	}
	o := s.enqueue(&op{hold: &hold{amounts: amounts}})
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
	return o.hold, o.granted
}

// giveUp ends the wait for a hold, unless its result came just now. cause is why the
// caller left; nil = the store took too long.
func (s *scope) giveUp(o *op, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case o.said:
		return
	case cause != nil:
		o.say(granted{err: &gateway.Error{Kind: gateway.ClientGone, Message: "The client left while its limits were checked.", Err: cause}})
	case !s.hard:
		o.say(granted{unsure: true})
		return
	default:
		o.say(granted{err: storeAway(s.firstHard(), s.lastErr)})
	}
	o.hold.over = true
	s.enqueue(&op{hold: o.hold, final: make([]int64, len(o.hold.amounts))})
}

// adjust changes a hold to final, in the background; the channel is closed when the
// store has it, or when it was given up.
func (s *scope) adjust(h *hold, final []int64) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	h.over = true
	return s.enqueue(&op{hold: h, final: final}).done
}

// enqueue is called with mu held. It starts the writer if none runs.
func (s *scope) enqueue(o *op) *op {
	o.since, o.done = time.Now(), make(chan struct{})
	s.queue = append(s.queue, o)
	s.used = o.since
	if !s.running {
		s.running = true
		s.limiter.writers.started()
		go s.run()
	}
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
	return !slices.ContainsFunc(o.deltas(limits), func(d int64) bool { return d != 0 })
}
