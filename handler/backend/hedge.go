package backend

import (
	"context"
	"errors"
	"slices"
	"time"

	"aoaigateway/handler/gateway"
)

var errHedgeLost = errors.New("another region was faster")

const reasonHedgeLost = "hedge-lost"

// race asks the first region, and beside it a second one when the first is later than it
// usually is. At most one of the efforts it returns has an answer: the first to reach the
// commit point. All of them are over, booked and reported.
func (p *Pool) ask(ctx context.Context, call *Call, first *attempt, f *candidates) []*attempt {
	if call.Beside == nil {
		p.attempt(ctx, call, first)
		efforts := []*attempt{first}
		p.conclude(call, efforts, nil)
		return efforts
	}
	r := &hedging{pool: p, call: call, done: make(chan *attempt, 2)}
	r.start(ctx, first, nil)
	var late <-chan time.Time
	if after, known := first.latency(call.Stream).p95(); known {
		timer := time.NewTimer(after)
		defer timer.Stop()
		late = timer.C
	}
	for r.running > 0 {
		select {
		case <-late:
			if second := f.nextHedge(first, call.Stream); second != nil {
				r.start(ctx, second, call.Beside)
			}
		case e := <-r.done:
			r.finished(e)
		}
	}
	for _, e := range r.attempts {
		if e.panicValue != nil {
			panic(e.panicValue) // on the goroutine whose duty it is
		}
	}
	p.conclude(call, r.attempts, r.hold)
	return r.attempts
}

// race is owned by the call's goroutine.
type hedging struct {
	pool     *Pool
	call     *Call
	done     chan *attempt
	attempts []*attempt
	running  int
	winner   *attempt
	hold     func(kept bool) // the second's own; set before it is over, nil if it was not sent
}

// start runs an effort that may be outrun. hold must be got before it is sent, if given.
func (r *hedging) start(ctx context.Context, e *attempt, hold func(context.Context) (func(bool), error)) {
	ctx, e.cancel = context.WithCancelCause(ctx)
	r.attempts = append(r.attempts, e)
	r.running++
	go func() {
		defer func() { e.panicValue = recover(); r.done <- e }()
		if hold != nil {
			release, err := hold(ctx)
			if err != nil {
				e.failure = failure{outcome: notReserved, reason: "not-reserved", err: err}
				return
			}
			r.hold = release
		}
		r.pool.attempt(ctx, r.call, e)
	}()
}

// arrived has the first answer outrun the other effort.
func (r *hedging) finished(e *attempt) {
	r.running--
	switch {
	case e.answer == nil:
		e.cancel(nil)
	case r.winner == nil:
		r.winner = e
		answered := e.answer
		closeIt := answered.close
		answered.close = func() { closeIt(); e.cancel(nil) }
		for _, other := range r.attempts {
			if other != e {
				other.cancel(errHedgeLost)
			}
		}
	default:
		e.answer.Close()
		e.answer, e.failure = nil, failure{outcome: hedgeLost, reason: reasonHedgeLost}
		e.tries[len(e.tries)-1].Reason = reasonHedgeLost
	}
}

// book enters what efforts came to: attempts in the order of their start, what breakers
// and samples learn, and which holds stay. All holds are alike, so that whichever effort
// is not the answer's takes the second one's.
func (p *Pool) conclude(call *Call, efforts []*attempt, hold func(kept bool)) {
	for _, e := range efforts {
		call.Attempts = append(call.Attempts, e.tries...)
		p.report(e)
		if call.Beside != nil && (e.answer != nil && e.answer.Status < 300 || e.failure.outcome == hedgeLost) {
			e.latency(call.Stream).observe(e.took)
		}
		if e.answer != nil || e.failure.outcome == notReserved {
			continue
		}
		kept := decisions[e.failure.outcome].keepCharge
		switch {
		case hold != nil:
			hold(kept)
			hold = nil
		case kept && call.Kept != nil:
			call.Kept()
		}
	}
	if len(efforts) > 1 {
		slices.SortStableFunc(call.Attempts, func(a, b gateway.Attempt) int { return a.Start.Compare(b.Start) })
	}
}
