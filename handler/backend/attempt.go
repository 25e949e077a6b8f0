package backend

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"time"

	"aoaigateway/handler/breaker"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/openai"
)

// attempt is one region's part in a call: one request, and a second one where that can
// help. It belongs to the goroutine that runs it until it has ended.
type attempt struct {
	target         target
	pass           breaker.Pass
	hasAlternative func() bool // another region could be asked

	answer  *Answer
	failure failure // when there is no answer
	sent    []gateway.Attempt
	took    time.Duration // of the last request

	cancel     context.CancelCauseFunc // nil unless a hedge may win
	panicValue any
}

// tryOptions tell the requests of one attempt apart.
type tryOptions struct {
	withoutUsage bool // without the usage that the gateway asks for
	renewSecret  bool // with a newer secret
}

// run asks the region. It asks again with a renewed secret after a 401, and without
// stream_options after a 400 that names them.
func (p *Pool) run(ctx context.Context, call *Call, a *attempt) {
	_, plain := p.noUsage.Load(a.target.key())
	plain = plain && call.PlainBody != nil
	p.try(ctx, call, a, tryOptions{withoutUsage: plain})
	if refused := a.failure; refused.isUnauthorized() && a.target.Credential != ManagedIdentity {
		p.try(ctx, call, a, tryOptions{withoutUsage: plain, renewSecret: true})
		if a.failure.outcome == unsent { // there is no newer secret: the refusal of the old one stands
			a.failure = refused
		} else {
			refused.discard()
		}
	}
	if call.PlainBody == nil || plain || a.answer == nil || a.answer.Status != http.StatusBadRequest {
		return
	}
	if openai.RefusesStreamOptions(a.answer.Whole) {
		a.answer.Close()
		p.try(ctx, call, a, tryOptions{withoutUsage: true})
		if a.answer != nil && a.answer.Succeeded() { // otherwise the client's own stream_options were refused
			p.noUsage.Store(a.target.key(), struct{}{})
		}
	}
}

// try sends one request and notes it.
func (p *Pool) try(ctx context.Context, call *Call, a *attempt, o tryOptions) {
	start, t := time.Now(), a.target
	note := gateway.Attempt{Region: t.Name, Deployment: t.deployment, APIVersion: call.version(t), Start: start.UTC()}
	a.answer, a.failure = p.roundTrip(ctx, call, a, o)
	if a.answer == nil && ctx.Err() != nil {
		a.failure.outcome, a.failure.reason = clientLeft, "client-cancelled"
		if errors.Is(context.Cause(ctx), errHedgeLost) {
			a.failure.outcome, a.failure.reason = hedgeLost, reasonHedgeLost
		}
	}
	a.took = time.Since(start)
	if answer := cmp.Or(a.answer, a.failure.answer); answer != nil {
		note.Status = answer.Status
		note.RequestID = answer.Header.Get("Apim-Request-Id")
	}
	note.Millis, note.Reason = a.took.Milliseconds(), a.failure.reason
	a.sent = append(a.sent, note)
	if a.failure.reason != "" && a.failure.outcome != hedgeLost {
		p.options.Logger.Info("attempt failed",
			"region", t.Name, "deployment", t.deployment, "reason", a.failure.reason, "error", a.failure.err)
	}
}
