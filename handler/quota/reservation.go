package quota

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/policy"
)

// ErrPending says that a settlement had not reached the store in time and goes on in the
// background; nothing need be done.
var ErrPending = errors.New("quota: settling goes on in the background")

// Reservation is what one request holds. It belongs to the request's goroutine.
type Reservation struct {
	cost  Cost
	model policy.Model
	holds []counterHold // one for each scope, in their fixed order
	kept  bool          // the present attempt's hold stays
	ended bool          // settled or cancelled

	done chan struct{} // closed once lost is set; nil = nothing can be lost
	lost atomic.Pointer[gateway.Error]
}

// part is a reservation in one scope, for the present attempt.
type counterHold struct {
	counter *counter
	hold    *hold
	result
}

// take makes a hold in every scope, or in none. Further attempts count as no request and
// need no slot.
func (r *Reservation) reserve(ctx context.Context, requests int64) error {
	parts := slices.Clone(r.holds)
	for i := range parts {
		p := &parts[i]
		p.hold = &hold{amounts: r.amounts(p.counter.limits, requests)}
		if requests > 0 {
			r.requestSlot(p.counter, p.hold)
		}
		if p.result = p.counter.reserve(ctx, p.hold); p.err != nil {
			for _, earlier := range parts[:i] {
				earlier.counter.settle(earlier.hold, make([]int64, len(earlier.hold.amounts)))
			}
			return p.err
		}
	}
	r.holds, r.kept = parts, false
	return nil
}

// wantSlot has the hold take a slot where one is needed.
func (r *Reservation) requestSlot(s *counter, h *hold) {
	h.needsSlot = len(s.concurrent) > 0
	for _, l := range s.concurrent {
		if l.Hard {
			h.onLost = func() { r.loseSlot(l) }
			return
		}
	}
}

func (r *Reservation) loseSlot(l policy.Limit) {
	if r.lost.CompareAndSwap(nil, slotLostError(l)) {
		close(r.done)
	}
}

// Done is closed when a hard limit on concurrent requests could not be renewed in time:
// then the request must be cut, for others may soon take its place. It is nil, and so
// never ready, when nothing can be lost.
func (r *Reservation) Done() <-chan struct{} { return r.done }

// Err says why Done is closed; nil before.
func (r *Reservation) Err() error {
	if e := r.lost.Load(); e != nil {
		return e
	}
	return nil
}

// amounts is what an attempt holds in each limit.
func (r *Reservation) amounts(limits []policy.Limit, requests int64) []int64 {
	out := make([]int64, len(limits))
	for i, l := range limits {
		out[i] = r.amount(l, requests)
	}
	return out
}

// amount is what an attempt holds in one limit. A soft limit never holds more than it has
// when full, or a long prompt could never pass.
func (r *Reservation) amount(l policy.Limit, requests int64) int64 {
	estimate, bound := r.cost.Estimate, r.cost.Bound
	switch l.Unit {
	case policy.Requests:
		return requests
	case policy.Cost:
		estimate = min(r.model.Price.Most(estimate, r.cost.EstimateOutput), maxCost)
		bound = max(min(r.model.Price.Most(bound, r.cost.BoundOutput), maxCost), estimate)
	case policy.Tokens, policy.Concurrent:
	}
	if l.Hard {
		return bound
	}
	return min(estimate, l.Amount)
}

// Again is called before each further attempt. If the one before was kept, it holds the
// cost once more, or returns the *gateway.Error that refuses; else the hold is still
// there. It counts no request.
func (r *Reservation) Again(ctx context.Context) error {
	if r.ended || !r.kept {
		return nil
	}
	old := r.holds
	if err := r.reserve(ctx, 0); err != nil {
		return err
	}
	for i, p := range old {
		p.counter.transferSlot(p.hold, r.holds[i].hold)
		if p.degraded {
			p.counter.settle(p.hold, p.hold.amounts)
		}
	}
	return nil
}

// Keep says that the present attempt was sent, was not refused, and brought no usage: its
// charge stays whatever comes.
func (r *Reservation) Keep() { r.kept = true }

// Hedge holds the request's cost once more, for an attempt that runs beside the present
// one, or returns the *gateway.Error that refuses it. It counts no request and takes no
// slot. The new reservation is settled or cancelled on its own; it may be made on another
// goroutine while the first one rests.
func (r *Reservation) Hedge(ctx context.Context) (*Reservation, error) {
	hedge := &Reservation{cost: r.cost, model: r.model, holds: slices.Clone(r.holds)}
	if err := hedge.reserve(ctx, 0); err != nil {
		return nil, err
	}
	return hedge, nil
}

// Settle turns the hold into what was used, once. It waits up to 200 ms for the store,
// also when ctx has ended; after that it returns ErrPending and goes on in the
// background. Under an estimated usage, and for an attempt that was kept, hard limits
// keep at least what they hold; so do soft ones for a kept attempt. What exceeds the
// hold is charged to the current window.
func (r *Reservation) Settle(ctx context.Context, u gateway.Usage) error {
	tokens := min(max(u.Total, 0), maxCost)
	cost := min(r.model.Price.Of(u), maxCost)
	return r.finish(ctx, func(l policy.Limit, held int64) int64 {
		used := tokens
		switch l.Unit {
		case policy.Requests:
			return held
		case policy.Cost:
			used = cost
		case policy.Tokens, policy.Concurrent:
		}
		if r.kept || l.Hard && u.Estimated {
			return max(held, used)
		}
		return used
	})
}

// Cancel gives back what was not kept; after Settle it does nothing, so callers defer
// it. Requests stay counted. It waits as Settle does.
func (r *Reservation) Release(ctx context.Context) {
	_ = r.finish(ctx, func(l policy.Limit, held int64) int64 {
		if r.kept || l.Unit == policy.Requests {
			return held
		}
		return 0
	})
}

// end changes every hold to what final says and waits for the store a little.
func (r *Reservation) finish(ctx context.Context, final func(l policy.Limit, held int64) int64) error {
	if r.ended {
		return nil
	}
	r.ended = true
	var waits []<-chan struct{}
	for _, p := range r.holds {
		amounts := slices.Clone(p.hold.amounts)
		for i, l := range p.counter.limits {
			amounts[i] = final(l, amounts[i])
		}
		if p.degraded || p.hold.needsSlot || !slices.Equal(amounts, p.hold.amounts) {
			if done := p.counter.settle(p.hold, amounts); done != alreadySettled {
				waits = append(waits, done)
			}
		}
	}
	if waits == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWait)
	defer cancel()
	for _, done := range waits {
		select {
		case <-done:
		case <-ctx.Done():
			return ErrPending
		}
	}
	return nil
}

// Unsure tells whether a soft limit let the request go on without its store.
func (r *Reservation) Degraded() bool {
	return slices.ContainsFunc(r.holds, func(p counterHold) bool { return p.degraded })
}

// Left is what a limit could still give when the reservation was made.
type Left struct {
	Limit  string // the limit's name; empty = there is no such limit, or its store is away
	Amount int64
	Left   int64
}

// Remaining is the tightest limit of each sort, for response headers.
type Remaining struct {
	Tokens   Left // per minute
	Requests Left // per minute
	Quota    Left // tokens per anything longer
}

// Remaining returns what was left beside this reservation.
func (r *Reservation) Remaining() Remaining {
	var out Remaining
	for _, p := range r.holds {
		for i, left := range p.left {
			l := p.counter.limits[i]
			var to *Left
			switch {
			case l.Per != policy.Minute && l.Unit == policy.Tokens:
				to = &out.Quota
			case l.Per != policy.Minute:
				continue
			case l.Unit == policy.Tokens:
				to = &out.Tokens
			default:
				to = &out.Requests
			}
			if to.Limit == "" || left < to.Left {
				*to = Left{Limit: l.Name, Amount: l.Amount, Left: left}
			}
		}
	}
	return out
}
