package quota

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/policy"
)

// ErrPending reports that the settlement had not reached the store when Settle returned. It
// continues in the background; the caller need not do anything.
var ErrPending = errors.New("quota: the settlement is not stored yet and continues in the background")

// Reservation is what one request holds. Only the request's goroutine may use it.
type Reservation struct {
	cost  Cost
	model policy.Model
	holds []counterHold // one hold for each counter, in the fixed order of counters
	kept  bool          // Keep was called: the hold of the present attempt stays charged
	ended bool          // Settle or Release was called

	done chan struct{} // closed after lost is set; nil = the request has no slot that it can lose
	lost atomic.Pointer[gateway.Error]
}

// counterHold is the hold of the present attempt in one counter.
type counterHold struct {
	counter *counter
	hold    *hold
	result
}

// reserve makes a hold in every counter, or in none. For a further attempt, requests is 0
// and no slot is needed.
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

// requestSlot marks the hold as needing a slot if the counter has a limit on concurrent
// requests.
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

// Done returns a channel that is closed if the request's slot in a hard limit on concurrent
// requests could not be renewed in time. The request must then end, because another request
// may soon take the slot. Without such a limit the channel is nil.
func (r *Reservation) Done() <-chan struct{} { return r.done }

// Err returns why Done is closed, or nil while it is open.
func (r *Reservation) Err() error {
	if e := r.lost.Load(); e != nil {
		return e
	}
	return nil
}

// amounts returns what an attempt holds in each limit.
func (r *Reservation) amounts(limits []policy.Limit, requests int64) []int64 {
	out := make([]int64, len(limits))
	for i, l := range limits {
		out[i] = r.amount(l, requests)
	}
	return out
}

// amount returns what an attempt holds in one limit. In a soft limit it is at most the
// whole amount of the limit; otherwise a very long prompt would always be refused.
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

// Again must be called before each further attempt. If Keep was called for the previous
// attempt, Again holds the cost once more, or returns the *gateway.Error that refuses this.
// Otherwise the new attempt takes over the hold. A further attempt does not count as a
// request.
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

// Keep is called when an attempt was sent and neither refused nor answered with its usage.
// The service may have used tokens, so the hold of this attempt stays charged.
func (r *Reservation) Keep() { r.kept = true }

// Hedge makes a second reservation of the same cost, for an attempt beside the present one,
// or returns the *gateway.Error that refuses it. It does not count as a request and takes
// no slot. The second reservation is settled or released separately. Another goroutine may
// call Hedge while the request's goroutine does not use the reservation.
func (r *Reservation) Hedge(ctx context.Context) (*Reservation, error) {
	hedge := &Reservation{cost: r.cost, model: r.model, holds: slices.Clone(r.holds)}
	if err := hedge.reserve(ctx, 0); err != nil {
		return nil, err
	}
	return hedge, nil
}

// Settle replaces the hold by the usage u. Only the first call has an effect. It waits up
// to 200 ms for the store, even after ctx has ended; then it returns ErrPending and
// continues in the background. An attempt for which Keep was called stays charged with at
// least its hold, and so does estimated usage in hard limits. Overage is charged to the
// current window.
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

// Release gives back all holds except those that Keep marked. After Settle it does nothing,
// so callers can defer it. Limits on requests still count the request. Release waits as
// long as Settle does.
func (r *Reservation) Release(ctx context.Context) {
	_ = r.finish(ctx, func(l policy.Limit, held int64) int64 {
		if r.kept || l.Unit == policy.Requests {
			return held
		}
		return 0
	})
}

// finish changes every hold to the amount that final returns, and waits up to settleWait
// for the store.
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

// Degraded reports whether a soft limit admitted the request in degraded mode.
func (r *Reservation) Degraded() bool {
	return slices.ContainsFunc(r.holds, func(p counterHold) bool { return p.degraded })
}

// Left is what one limit had left after the reservation.
type Left struct {
	Limit  string // name of the limit; empty = there is no such limit, or its store cannot be reached
	Amount int64
	Left   int64
}

// Remaining has, for each kind of limit, the one with the least left. It is for response
// headers.
type Remaining struct {
	Tokens   Left // limits on tokens per minute
	Requests Left // limits on requests per minute
	Quota    Left // limits on tokens per longer period
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
