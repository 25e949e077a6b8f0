package quota

import (
	"context"
	"errors"
	"slices"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/policy"
)

// ErrPending says that a settlement had not reached the store in time and goes on in the
// background; nothing need be done.
var ErrPending = errors.New("quota: settling goes on in the background")

// Reservation is what one request holds. It belongs to the request's goroutine.
type Reservation struct {
	cost  Cost
	parts []part // one for each scope, in their fixed order
	kept  bool   // the present attempt's hold stays
	over  bool   // settled or cancelled
}

// part is a reservation in one scope, for the present attempt.
type part struct {
	scope *scope
	hold  *hold
	granted
}

// take makes a hold in every scope, or in none.
func (r *Reservation) take(ctx context.Context, requests int64) error {
	parts := slices.Clone(r.parts)
	for i := range parts {
		p := &parts[i]
		p.hold, p.granted = p.scope.take(ctx, amounts(p.scope.limits, r.cost, requests))
		if p.err != nil {
			for _, earlier := range parts[:i] {
				earlier.scope.adjust(earlier.hold, make([]int64, len(earlier.scope.limits)))
			}
			return p.err
		}
	}
	r.parts, r.kept = parts, false
	return nil
}

// Again is called before each further attempt. If the one before was kept, it holds the
// cost once more, or returns the *gateway.Error that refuses; else the hold is still
// there. It counts no request.
func (r *Reservation) Again(ctx context.Context) error {
	if r.over || !r.kept {
		return nil
	}
	old := r.parts
	if err := r.take(ctx, 0); err != nil {
		return err
	}
	for _, p := range old {
		if p.unsure {
			p.scope.adjust(p.hold, p.hold.amounts)
		}
	}
	return nil
}

// Keep says that the present attempt was sent, was not refused, and brought no usage: its
// charge stays whatever comes.
func (r *Reservation) Keep() { r.kept = true }

// Settle turns the hold into what was used, once. It waits up to 200 ms for the store,
// also when ctx has ended; after that it returns ErrPending and goes on in the
// background. Under an estimated usage, and for an attempt that was kept, hard limits
// keep at least what they hold; so do soft ones for a kept attempt. What exceeds the
// hold is charged to the current window.
func (r *Reservation) Settle(ctx context.Context, u gateway.Usage) error {
	used := min(max(u.Total, 0), maxCost)
	return r.end(ctx, func(l policy.Limit, held int64) int64 {
		switch {
		case l.Unit == policy.Requests:
			return held
		case r.kept || l.Hard && u.Estimated:
			return max(held, used)
		}
		return used
	})
}

// Cancel gives back what was not kept; after Settle it does nothing, so callers defer
// it. Requests stay counted. It waits as Settle does.
func (r *Reservation) Cancel(ctx context.Context) {
	_ = r.end(ctx, func(l policy.Limit, held int64) int64 {
		if r.kept || l.Unit == policy.Requests {
			return held
		}
		return 0
	})
}

// end changes every hold to what final says and waits for the store a little.
func (r *Reservation) end(ctx context.Context, final func(l policy.Limit, held int64) int64) error {
	if r.over {
		return nil
	}
	r.over = true
	var waits []<-chan struct{}
	for _, p := range r.parts {
		amounts := slices.Clone(p.hold.amounts)
		for i, l := range p.scope.limits {
			amounts[i] = final(l, amounts[i])
		}
		if p.unsure || !slices.Equal(amounts, p.hold.amounts) {
			waits = append(waits, p.scope.adjust(p.hold, amounts))
		}
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
func (r *Reservation) Unsure() bool {
	return slices.ContainsFunc(r.parts, func(p part) bool { return p.unsure })
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
	for _, p := range r.parts {
		for i, left := range p.left {
			l := p.scope.limits[i]
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
