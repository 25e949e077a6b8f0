package quota

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/policy"
)

// ErrPending reports that a settlement has not reached the store in time. It goes on in
// the background, and the caller has nothing to do.
var ErrPending = errors.New("quota: the settlement goes on in the background")

// Reservation is what one request holds. It belongs to the request's goroutine.
type Reservation struct {
	cost  Cost
	model policy.Model
	holds []counterHold // one for each counter, in their fixed order
	kept  bool          // the present attempt's hold stays charged
	ended bool          // settled or released

	done chan struct{} // closed once lost is set; nil = no slot can be lost
	lost atomic.Pointer[gateway.Error]
}

// counterHold is the present attempt's hold in one counter.
type counterHold struct {
	counter *counter
	hold    *hold
	result
}

// reserve makes a hold in every counter, or in none. Further attempts do not count as
// requests and need no slot.
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

// requestSlot marks the hold as one that needs a slot, if the counter has a limit on
// concurrent requests.
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

// Done is closed when the slot in a hard limit on concurrent requests could not be renewed
// in time. Then the request must end, because another request may soon take the slot. Done
// is nil, and so never ready, without such a limit.
func (r *Reservation) Done() <-chan struct{} { return r.done }

// Err is the reason why Done is closed; nil before.
func (r *Reservation) Err() error {
	if e := r.lost.Load(); e != nil {
		return e
	}
	return nil
}

// amounts are what an attempt holds in each limit.
func (r *Reservation) amounts(limits []policy.Limit, requests int64) []int64 {
	out := make([]int64, len(limits))
	for i, l := range limits {
		out[i] = r.amount(l, requests)
	}
	return out
}

// amount is what an attempt holds in one limit. A soft limit never holds more than its
// whole amount: otherwise a long prompt could never pass.
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

// Again is called before each further attempt. If the attempt before it was kept, Again
// holds the cost once more, or returns the *gateway.Error that refuses it. Otherwise the
// attempt before has left its hold. A further attempt does not count as a request.
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

// Keep is called when the present attempt was sent, was not refused, and brought no usage:
// the service may have used tokens for it, so its hold stays charged.
func (r *Reservation) Keep() { r.kept = true }

// Hedge holds the request's cost once more, for an attempt beside the present one, or
// returns the *gateway.Error that refuses it. It does not count as a request and takes no
// slot. The new reservation is settled or released on its own. Another goroutine may call
// Hedge while the request's goroutine does not use the reservation.
func (r *Reservation) Hedge(ctx context.Context) (*Reservation, error) {
	hedge := &Reservation{cost: r.cost, model: r.model, holds: slices.Clone(r.holds)}
	if err := hedge.reserve(ctx, 0); err != nil {
		return nil, err
	}
	return hedge, nil
}

// Settle replaces the hold by what was used. Only the first call counts. It waits up to
// 200 ms for the store, even when ctx has ended; after that it returns ErrPending and goes
// on in the background. A kept attempt keeps at least its hold, and so does an estimated
// usage in hard limits. Overage is charged to the current window.
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

// Release gives back what was not kept. After Settle it does nothing, so callers defer it.
// The request stays counted in limits on requests. It waits as Settle does.
func (r *Reservation) Release(ctx context.Context) {
	_ = r.finish(ctx, func(l policy.Limit, held int64) int64 {
		if r.kept || l.Unit == policy.Requests {
			return held
		}
		return 0
	})
}

// finish changes every hold to what final returns, and waits briefly for the store.
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

// Degraded reports whether a soft limit admitted the request without its store.
func (r *Reservation) Degraded() bool {
	return slices.ContainsFunc(r.holds, func(p counterHold) bool { return p.degraded })
}

// Left is what a limit had left after the reservation.
type Left struct {
	Limit  string // the limit's name; empty = there is no such limit, or its store cannot be reached
	Amount int64
	Left   int64
}

// Remaining is the tightest limit of each sort, for response headers.
type Remaining struct {
	Tokens   Left // per minute
	Requests Left // per minute
	Quota    Left // tokens per anything longer
}

// Remaining returns what the limits had left after this reservation.
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
			case l.Unit == policy.Requests:
				to = &out.Requests
			default:
				continue
			}
			if to.Limit == "" || left < to.Left {
				*to = Left{Limit: l.Name, Amount: l.Amount, Left: left}
			}
		}
	}
	return out
}
