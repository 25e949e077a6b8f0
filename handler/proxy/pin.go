package proxy

import (
	"context"
	"errors"

	"aoaigateway/handler/affinity"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/openai"
	"aoaigateway/handler/plan"
)

// pin looks up the region that keeps the response which the plan refers to, and allows the
// call to go to that region only.
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

// responseNotFound is an error with the same text as the service's own.
func responseNotFound(kind openai.Kind, id string) error {
	if kind == openai.Responses {
		return gateway.PreviousResponseNotFound.New("Previous response with id '%s' not found.", plan.Printable(id))
	}
	return gateway.ResponseNotFound.New("Response with id '%s' not found.", plan.Printable(id))
}
