package backend

import (
	"context"
	"errors"
	"time"
)

var errHedgeLost = errors.New("another region was faster")

const reasonHedgeLost = "hedge-lost"

// ask runs the first attempt, and a hedge beside it when it is later than it usually is.
// At most one of the attempts it returns has an answer: the first that reached the commit
// point. All of them have ended and are reported.
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

// hedging is the state of ask. It belongs to the call's goroutine.
type hedging struct {
	pool      *Pool
	call      *Call
	hold      Hold
	attempts  []*attempt
	done      chan *attempt
	running   int
	winner    *attempt
	hedgeHold Hold // nil if no hedge was sent; set before the hedge is done
	concluded bool
}

// race runs the first attempt and, if it is late, a hedge.
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
			panic(a.panicValue) // again, on the goroutine of the call
		}
	}
}

// start runs an attempt that another one may overtake.
func (r *hedging) start(ctx context.Context, a *attempt, run func(context.Context)) {
	ctx, a.cancel = context.WithCancelCause(ctx)
	r.attempts = append(r.attempts, a)
	r.running++
	go func() {
		defer func() { a.panicValue = recover(); r.done <- a }()
		run(ctx)
	}()
}

// runHedge charges for the hedge before it sends it.
func (r *hedging) runHedge(ctx context.Context, hedge *attempt) {
	hold, err := r.hold.Hedge(ctx)
	if err != nil {
		hedge.failure = failure{outcome: notReserved, reason: "not-reserved", err: err}
		return
	}
	r.hedgeHold = hold
	r.pool.run(ctx, r.call, hedge)
}

// finished takes in an attempt that has ended. The first answer ends the other attempt.
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

// conclude reports the attempts to breakers and latency windows and decides which charges
// stay. Both holds are equal, so the attempt that did not answer takes the hedge's and the
// answer takes the call's own.
func (r *hedging) conclude(ctx context.Context) {
	r.concluded = true
	for _, a := range r.attempts {
		r.pool.report(a)
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

// undo gives back what a panic would otherwise leave taken: the breakers' passes, the
// connections and the hedge's charge. The call's own hold is its owner's to cancel.
func (r *hedging) undo(ctx context.Context) {
	if r.concluded {
		return
	}
	for _, a := range r.attempts {
		a.pass.Forget()
		a.failure.discard()
		if a.answer != nil {
			a.answer.Close()
		}
	}
	if r.hedgeHold != nil {
		r.hedgeHold.Release(ctx)
	}
}
