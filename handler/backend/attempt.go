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
type attempt struct {
	target         target
	pass           breaker.Pass
	hasAlternative func() bool // says whether somebody else could be asked

	answer  *Answer
	failure failure // when there is no answer
	tries   []gateway.Attempt
	took    time.Duration // of the last attempt

	cancel     context.CancelCauseFunc // nil unless it may be outrun
	panicValue any
}

// options tell an effort's attempts apart.
type tryOptions struct {
	withoutUsage bool // without the usage we asked for
	renewSecret  bool // with a newer secret
}

// run asks the region, a second time where that can help: with a renewed secret after a
// 401, without stream_options after a 400 that names them.
func (p *Pool) attempt(ctx context.Context, call *Call, e *attempt) {
	_, plain := p.noUsage.Load(e.target.key())
	plain = plain && call.PlainBody != nil
	p.try(ctx, call, e, tryOptions{withoutUsage: plain})
	if refused := e.failure; refused.outcome == denied && refused.answer.Status == http.StatusUnauthorized && e.target.Credential != ManagedIdentity {
		p.try(ctx, call, e, tryOptions{withoutUsage: plain, renewSecret: true})
		if e.failure.outcome == unsent { // the old one was refused, and that is the trouble
			e.failure = refused
		} else {
			refused.discard()
		}
	}
	if e.answer != nil && e.answer.Status == http.StatusBadRequest && call.PlainBody != nil && !plain && openai.RefusesStreamOptions(e.answer.Whole) {
		e.answer.Close()
		p.try(ctx, call, e, tryOptions{withoutUsage: true})
		if e.answer != nil && e.answer.Status < 300 { // else the client's own stream_options were meant
			p.noUsage.Store(e.target.key(), struct{}{})
		}
	}
}

// once makes one attempt and notes it.
func (p *Pool) try(ctx context.Context, call *Call, e *attempt, o tryOptions) {
	start, t := time.Now(), e.target
	note := gateway.Attempt{Region: t.Name, Deployment: t.deployment, APIVersion: call.version(t), Start: start.UTC()}
	e.answer, e.failure = p.roundTrip(ctx, call, e, o)
	if e.answer == nil && ctx.Err() != nil {
		e.failure.outcome, e.failure.reason = clientLeft, "client-cancelled"
		if errors.Is(context.Cause(ctx), errHedgeLost) {
			e.failure.outcome, e.failure.reason = hedgeLost, reasonHedgeLost
		}
	}
	e.took = time.Since(start)
	if a := cmpAnswer(e.answer, e.failure.answer); a != nil {
		note.Status = a.Status
		note.RequestID = a.Header.Get("Apim-Request-Id")
	}
	note.Millis, note.Reason = e.took.Milliseconds(), e.failure.reason
	e.tries = append(e.tries, note)
	if e.failure.reason != "" && e.failure.outcome != hedgeLost {
		p.options.Logger.Info("attempt failed", "region", t.Name, "deployment", t.deployment, "reason", e.failure.reason, "error", e.failure.err)
	}
}

func cmpAnswer(a, b *Answer) *Answer {
	if a != nil {
		return a
	}
	return b
}

// lag is the sample of first bytes that the effort belongs to.
func (e *attempt) latency(stream bool) *latencyWindow {
	if stream {
		return &e.target.latencies[1]
	}
	return &e.target.latencies[0]
}
