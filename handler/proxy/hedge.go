package proxy

import (
	"context"

	"aoaigateway/handler/openai"
)

// repeatable tells whether two regions may answer the same request: a stored response
// would be left behind in one of them, and one in the background would be worked out twice.
func (s *session) repeatable() bool {
	return s.kind != openai.Responses || s.req.Unstored && !s.req.Background
}

// beside holds what an attempt beside the present one may use.
func (s *session) beside(ctx context.Context) (release func(kept bool), err error) {
	hold, err := s.hold.Hedge(ctx)
	if err != nil {
		return nil, err
	}
	return func(kept bool) {
		if kept {
			hold.Keep()
		}
		go hold.Release(context.WithoutCancel(ctx)) // the limiter sees it through; the answer need not wait
	}, nil
}
