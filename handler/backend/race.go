package backend

import (
	"context"
	"errors"
	"slices"
	"time"

	"aoaigateway/handler/gateway"
)

var errOutrun = errors.New("another region was faster")

const hedgeLost = "hedge-lost"

// race asks the first region, and beside it a second one when the first is later than it
// usually is. At most one of the efforts it returns has an answer: the first to reach the
// commit point. All of them are over, booked and reported.
func (p *Pool) race(ctx context.Context, call *Call, first *effort, f *field) []*effort {
	if call.Beside == nil {
		p.run(ctx, call, first)
		efforts := []*effort{first}
		p.book(call, efforts, nil)
		return efforts
	}
	r := &race{pool: p, call: call, over: make(chan *effort, 2)}
	r.start(ctx, first, nil)
	var late <-chan time.Time
	if after, known := first.lag(call.Stream).late(); known {
		timer := time.NewTimer(after)
		defer timer.Stop()
		late = timer.C
	}
	for r.running > 0 {
		select {
		case <-late:
			if second := f.beside(first, call.Stream); second != nil {
				r.start(ctx, second, call.Beside)
			}
		case e := <-r.over:
			r.arrived(e)
		}
	}
	for _, e := range r.efforts {
		if e.panicked != nil {
			panic(e.panicked) // on the goroutine whose duty it is
		}
	}
	p.book(call, r.efforts, r.hold)
	return r.efforts
}

// race is owned by the call's goroutine.
type race struct {
	pool    *Pool
	call    *Call
	over    chan *effort
	efforts []*effort
	running int
	won     *effort
	hold    func(kept bool) // the second's own; set before it is over, nil if it was not sent
}

// start runs an effort that may be outrun. hold must be got before it is sent, if given.
func (r *race) start(ctx context.Context, e *effort, hold func(context.Context) (func(bool), error)) {
	ctx, e.cancel = context.WithCancelCause(ctx)
	r.efforts = append(r.efforts, e)
	r.running++
	go func() {
		defer func() { e.panicked = recover(); r.over <- e }()
		if hold != nil {
			release, err := hold(ctx)
			if err != nil {
				e.failed = failure{outcome: held, reason: "not-reserved", err: err}
				return
			}
			r.hold = release
		}
		r.pool.run(ctx, r.call, e)
	}()
}

// arrived has the first answer outrun the other effort.
func (r *race) arrived(e *effort) {
	r.running--
	switch {
	case e.answer == nil:
		e.cancel(nil)
	case r.won == nil:
		r.won = e
		answered := e.answer
		closeIt := answered.close
		answered.close = func() { closeIt(); e.cancel(nil) }
		for _, other := range r.efforts {
			if other != e {
				other.cancel(errOutrun)
			}
		}
	default:
		e.answer.Close()
		e.answer, e.failed = nil, failure{outcome: outrun, reason: hedgeLost}
		e.notes[len(e.notes)-1].Reason = hedgeLost
	}
}

// book enters what efforts came to: attempts in the order of their start, what breakers
// and samples learn, and which holds stay. All holds are alike, so that whichever effort
// is not the answer's takes the second one's.
func (p *Pool) book(call *Call, efforts []*effort, hold func(kept bool)) {
	for _, e := range efforts {
		call.Attempts = append(call.Attempts, e.notes...)
		p.report(e)
		if call.Beside != nil && (e.answer != nil && e.answer.Status < 300 || e.failed.outcome == outrun) {
			e.lag(call.Stream).add(e.took)
		}
		if e.answer != nil || e.failed.outcome == held {
			continue
		}
		kept := decisions[e.failed.outcome].keep
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
