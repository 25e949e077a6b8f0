package proxy

import (
	"context"
	"errors"

	"aoaigateway/handler/affinity"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/openai"
	"aoaigateway/handler/plan"
)

// pin looks up the region that keeps the response which the plan refers to. Only that
// region may answer.
func pin(ctx context.Context, owners *affinity.Store, subscription string, p *plan.Plan) error {
	if p.Object == "" {
		return nil
	}
	region, err := owners.Find(ctx, subscription, p.Object)
	switch {
	case errors.Is(err, affinity.ErrNotFound):
		return responseNotFound(p.Kind, p.Object)
	case err != nil:
		return err
	}
	p.Call.Pin, p.Call.PinReason = region, "keeps the response this request refers to"
	return nil
}

// responseNotFound uses the service's own words.
func responseNotFound(kind openai.Kind, id string) error {
	if kind == openai.Responses {
		return gateway.PreviousResponseNotFound.New("Previous response with id '%s' not found.", plan.Printable(id))
	}
	return gateway.ResponseNotFound.New("Response with id '%s' not found.", plan.Printable(id))
}

// ownerWrite records in the background which region keeps a new response.
type ownerWrite struct {
	wanted bool
	done   chan struct{} // nil until begin; closed when err is final
	err    error
}

// begin starts the write once raw names the response; later calls do nothing.
func (w *ownerWrite) begin(ctx context.Context, owners *affinity.Store, owner gateway.Caller, region string, raw []byte) {
	if !w.wanted || w.done != nil {
		return
	}
	id := openai.ResponseID(raw)
	if id == "" {
		return
	}
	w.done = make(chan struct{})
	go func() {
		defer close(w.done)
		w.err = owners.Remember(context.WithoutCancel(ctx), owner.Subscription, id, region)
	}()
}

// wait returns when the row is durable or its writing was given up.
func (w *ownerWrite) wait() error {
	if w.done == nil {
		return nil
	}
	<-w.done
	return w.err
}
