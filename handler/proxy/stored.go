package proxy

import (
	"context"
	"errors"

	"aoaigateway/handler/affinity"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/openai"
)

// place decides which region alone may answer: the one that keeps the response which the
// request refers to, or the home of operations that name no model.
func (s *session) place(ctx context.Context) error {
	id := s.Match.Response
	if id == "" && s.kind == openai.Responses {
		id = s.req.Previous
	}
	if id == "" {
		if s.call.Model == "" {
			s.call.Pin, s.call.PinReason = s.options.Pool.Home(), "serves this operation"
		}
		return nil
	}
	region, err := s.options.Owners.Find(ctx, s.Record.Subscription, id)
	switch {
	case errors.Is(err, affinity.ErrNotFound):
		return s.noResponse(id)
	case err != nil:
		return err
	}
	s.call.Pin, s.call.PinReason = region, "keeps the response this request refers to"
	return nil
}

// noResponse uses the service's own words.
func (s *session) noResponse(id string) error {
	if s.Match.Response != "" {
		return gateway.ResponseNotFound.New("Response with id '%s' not found.", printable(id))
	}
	return gateway.PreviousResponseNotFound.New("Previous response with id '%s' not found.", printable(id))
}

// made is the noting of which region made a response, on its way.
type made struct {
	done chan struct{}
	err  error // final once done is closed
}

// remember begins to note who made the response, once its id is known. finish waits for it.
func (s *session) remember(client context.Context, raw []byte) {
	if s.kind != openai.Responses || s.req.Unstored || s.made != nil {
		return
	}
	id := openai.ResponseID(raw)
	if id == "" {
		return
	}
	m := &made{done: make(chan struct{})}
	s.made = m
	subscription, region := s.Record.Subscription, s.Record.Region
	go func() {
		defer close(m.done)
		m.err = s.options.Owners.Remember(context.WithoutCancel(client), subscription, id, region)
	}()
}

// remembered waits until the note is durable.
func (s *session) remembered() error {
	if s.made == nil {
		return nil
	}
	<-s.made.done
	return s.made.err
}
