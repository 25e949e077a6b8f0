package backend

import (
	"context"
	"errors"
	"time"
)

var errHedgeLost = errors.New("backend: another region answered first")

const reasonHedgeLost = "hedge-lost"

// ask runs the first attempt. If that takes longer than is usual for its deployment, ask
// also runs a hedge. At most one of the returned attempts has an answer: the one that
// reached its commit point first. All returned attempts have ended and were reported to
// the states of their deployments.
func (p *Pool) ask(ctx context.Context, call *Call, hold Hold, first *attempt, c *candidates) []*attempt {
	r := &hedging{pool: p, call: call, hold: hold, done: make(chan *attempt, 2)}
	defer r.undo(ctx)
	if hold == nil || !call.Hedge {
		r.attempts = []*attempt{first}
		p.run(ctx, call, first)
	} else {
		r.race(ctx, first, c)
	}
	r.conclude(ctx)
	return r.attempts
}

// hedging is the state of ask. Only the call's goroutine uses it.
type hedging struct {
	pool      *Pool
	call      *Call
	hold      Hold
	attempts  []*attempt
	done      chan *attempt
	running   int
	winner    *attempt
	hedgeHold Hold // nil if no hedge was sent; not read before the hedge has ended
	concluded bool
}

// race runs the first attempt, and a hedge if the first attempt is late.
func (r *hedging) race(ctx context.Context, first *attempt, c *candidates) {
	r.start(ctx, first, func(ctx context.Context) { r.pool.run(ctx, r.call, first) })
	var late <-chan time.Time
	window, _ := first.target.latency(r.call.Stream)
	if after, known := window.p95(); known {
		timer := time.NewTimer(after)
		defer timer.Stop()
		late = timer.C
	}
	for r.running > 0 {
		select {
		case <-late:
			if hedge := c.nextHedge(first, r.call.Stream); hedge != nil {
				r.start(ctx, hedge, func(ctx context.Context) { r.runHedge(ctx, hedge) })
			}
		case a := <-r.done:
			r.finished(a)
		}
	}
	for _, a := range r.attempts {
		if a.panicValue != nil {
			panic(a.panicValue) // repeated here, so that it happens on the call's goroutine
		}
	}
}

// start runs an attempt on a goroutine of its own. The attempt is cancelled if the other
// one wins.
func (r *hedging) start(ctx context.Context, a *attempt, run func(context.Context)) {
	ctx, a.cancel = context.WithCancelCause(ctx)
	r.attempts = append(r.attempts, a)
	r.running++
	go func() {
		defer func() { a.panicValue = recover(); r.done <- a }()
		run(ctx)
	}()
}

// runHedge charges for the hedge and then sends it.
func (r *hedging) runHedge(ctx context.Context, hedge *attempt) {
	hold, err := r.hold.Hedge(ctx)
	if err != nil {
		hedge.failure = failure{outcome: notReserved, reason: "not-reserved", err: err}
		return
	}
	r.hedgeHold = hold
	r.pool.run(ctx, r.call, hedge)
}

// finished handles the end of an attempt. The first attempt with an answer cancels the
// other.
func (r *hedging) finished(a *attempt) {
	r.running--
	switch {
	case a.answer == nil:
		a.cancel(nil)
	case r.winner == nil:
		r.winner = a
		closeAnswer := a.answer.close
		a.answer.close = func() { closeAnswer(); a.cancel(nil) }
		for _, other := range r.attempts {
			if other != a {
				other.cancel(errHedgeLost)
			}
		}
	default:
		a.answer.Close()
		a.answer, a.failure = nil, failure{outcome: hedgeLost, reason: reasonHedgeLost}
		a.sent[len(a.sent)-1].Reason = reasonHedgeLost
	}
}

// conclude reports the attempts to latency windows, and decides which charges stay.
// Both holds have equal amounts, so they may be exchanged: the answer gets the call's
// own hold, and the other attempt gets the hedge's hold.
func (r *hedging) conclude(ctx context.Context) {
	r.concluded = true
	for _, a := range r.attempts {
		if r.call.Hedge && (a.answer != nil && a.answer.Succeeded() || a.failure.outcome == hedgeLost) {
			window, budget := a.target.latency(r.call.Stream)
			window.observe(a.took)
			budget.earn()
		}
		if a.answer != nil || a.failure.outcome == notReserved {
			continue
		}
		keep := decisions[a.failure.outcome].keepCharge
		switch {
		case r.hedgeHold != nil:
			if keep {
				r.hedgeHold.Keep()
			}
			r.hedgeHold.Release(ctx)
			r.hedgeHold = nil
		case keep && r.hold != nil:
			r.hold.Keep()
		}
	}
}

// undo releases what a panic would leave behind: connections and the hedge's charge. The caller of Do releases the call's own hold.
func (r *hedging) undo(ctx context.Context) {
	if r.concluded {
		return
	}
	for _, a := range r.attempts {
		a.failure.discard()
		if a.answer != nil {
			a.answer.Close()
		}
	}
	if r.hedgeHold != nil {
		r.hedgeHold.Release(ctx)
	}
}
