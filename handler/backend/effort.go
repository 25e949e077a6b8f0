package backend

import (
	"context"
	"errors"
	"net/http"
	"time"

	"aoaigateway/handler/breaker"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/openai"
)

// effort is one region's part in a call: one attempt, or a second where that can help.
// Two may run side by side, so that each keeps its own books.
type effort struct {
	target  target
	pass    breaker.Pass
	another func() bool // says whether somebody else could be asked

	answer *Answer
	failed failure // when there is no answer
	notes  []gateway.Attempt
	took   time.Duration // of the last attempt

	cancel   context.CancelCauseFunc // nil unless it may be outrun
	panicked any
}

// options tell an effort's attempts apart.
type options struct {
	plain bool // without the usage we asked for
	renew bool // with a newer secret
}

// run asks the region, a second time where that can help: with a renewed secret after a
// 401, without stream_options after a 400 that names them.
func (p *Pool) run(ctx context.Context, call *Call, e *effort) {
	_, plain := p.noUsage.Load(e.target.place())
	plain = plain && call.PlainBody != nil
	p.once(ctx, call, e, options{plain: plain})
	if refused := e.failed; refused.outcome == denied && refused.answer.Status == http.StatusUnauthorized && e.target.Credential != ManagedIdentity {
		p.once(ctx, call, e, options{plain: plain, renew: true})
		if e.failed.outcome == unsent { // the old one was refused, and that is the trouble
			e.failed = refused
		} else {
			refused.discard()
		}
	}
	if e.answer != nil && e.answer.Status == http.StatusBadRequest && call.PlainBody != nil && !plain && openai.RefusesStreamOptions(e.answer.Whole) {
		e.answer.Close()
		p.once(ctx, call, e, options{plain: true})
		if e.answer != nil && e.answer.Status < 300 { // else the client's own stream_options were meant
			p.noUsage.Store(e.target.place(), struct{}{})
		}
	}
}

// once makes one attempt and notes it.
func (p *Pool) once(ctx context.Context, call *Call, e *effort, o options) {
	start, t := time.Now(), e.target
	note := gateway.Attempt{Region: t.Name, Deployment: t.deployment, APIVersion: call.version(t), Start: start.UTC()}
	e.answer, e.failed = p.exchange(ctx, call, e, o)
	if e.answer == nil && ctx.Err() != nil {
		e.failed.outcome, e.failed.reason = clientGone, "client-cancelled"
		if errors.Is(context.Cause(ctx), errOutrun) {
			e.failed.outcome, e.failed.reason = outrun, hedgeLost
		}
	}
	e.took = time.Since(start)
	if a := cmpAnswer(e.answer, e.failed.answer); a != nil {
		note.Status = a.Status
		note.RequestID = a.Header.Get("Apim-Request-Id")
	}
	note.Millis, note.Reason = e.took.Milliseconds(), e.failed.reason
	e.notes = append(e.notes, note)
	if e.failed.reason != "" && e.failed.outcome != outrun {
		p.options.Logger.Info("attempt failed", "region", t.Name, "deployment", t.deployment, "reason", e.failed.reason, "error", e.failed.err)
	}
}

func cmpAnswer(a, b *Answer) *Answer {
	if a != nil {
		return a
	}
	return b
}

// lag is the sample of first bytes that the effort belongs to.
func (e *effort) lag(stream bool) *lag {
	if stream {
		return &e.target.lags[1]
	}
	return &e.target.lags[0]
}
