package backend

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"time"

	"aoaigateway/handler/deployment"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/openai"
)

// attempt is the work of one region for a call: usually one request, and a second one in
// the cases that run handles. Only the goroutine that runs it may use it until it has
// ended.
type attempt struct {
	target         target
	fresh          bool        // needs a new connection, because a kept one was broken
	index          int         // of target in the candidates
	hasAlternative func() bool // reports whether another region could serve the call

	answer  *Answer
	failure failure // set if there is no answer

	suspicions []suspicion
	sent       []gateway.Attempt
	took       time.Duration // how long the last request took

	cancel     context.CancelCauseFunc // nil if no hedge can overtake this attempt
	panicValue any
}

// tryOptions are the differences between the requests of one attempt.
type tryOptions struct {
	withoutUsage bool // do not ask the region to report usage in the stream
	renewSecret  bool // fetch the secret again before the request is sent
}

// run sends the call to the region. It sends it again with a newly fetched secret after a
// 401, and without stream_options after a 400 that names stream_options.
func (p *Pool) run(ctx context.Context, call *Call, a *attempt) {
	_, plain := p.noUsage.Load(a.target.key())
	plain = plain && call.AskUsage != nil
	p.try(ctx, call, a, tryOptions{withoutUsage: plain})
	if refused := a.failure; refused.isUnauthorized() && a.target.Credential != ManagedIdentity {
		p.try(ctx, call, a, tryOptions{withoutUsage: plain, renewSecret: true})
		if a.failure.outcome == unsent { // no newer secret could be fetched, so the first refusal is the failure
			a.failure = refused
		} else {
			refused.discard()
		}
	}
	if call.AskUsage == nil || plain || a.answer == nil || a.answer.Status != http.StatusBadRequest {
		return
	}
	if openai.RefusesStreamOptions(a.answer.Whole) {
		a.answer.Close()
		p.try(ctx, call, a, tryOptions{withoutUsage: true})
		if a.answer != nil && a.answer.Succeeded() { // if this failed too, the region refuses options that the client itself sent
			p.noUsage.Store(a.target.key(), struct{}{})
		}
	}
}

// try sends one request and adds it to the list of attempts in the record.
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
	p.report(call, a, start)
	if answer := cmp.Or(a.answer, a.failure.answer); answer != nil {
		note.Status = answer.Status
		note.RequestID = answer.Header.Get("Apim-Request-Id")
	}
	note.Millis, note.Reason = a.took.Milliseconds(), a.failure.reason
	a.sent = append(a.sent, note)
	if a.failure.reason != "" && a.failure.outcome != hedgeLost {
		p.options.Logger.Info("an attempt at a region failed",
			"region", t.Name, "deployment", t.deployment, "reason", a.failure.reason, "error", a.failure.err)
	}
}

// report tells the state of the deployment how one request ended. A request that the region
// answered was reported with its header.
func (p *Pool) report(call *Call, a *attempt, start time.Time) {
	f := a.failure
	evidence := deployment.Failure{At: time.Now(), Caller: call.Caller, Connection: f.connection, Reason: f.reason}
	if f.outcome == firstByteTimeout {
		evidence.Silent, evidence.Waiting = start, a.target.inFlight.Load()
	}
	switch decisions[f.outcome].meaning {
	case refuses:
		p.refused(a.target, call.sent(start), f.refusal)
	case unreachable:
		evidence.Unsent = true
		p.failed(a.target.key(), evidence)
	case doubtful, lacks:
		a.suspicions = append(a.suspicions, suspicion{a.target.key(), evidence, f.outcome == missing})
	default:
	}
}

// sent describes the call for the state of a deployment.
func (c *Call) sent(at time.Time) deployment.Sent { return deployment.Sent{At: at, Size: c.Need} }
