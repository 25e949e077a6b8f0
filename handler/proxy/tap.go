package proxy

import (
	"bytes"
	"context"
	"fmt"

	"aoaigateway/handler/audit"
	"aoaigateway/handler/backend"
	"aoaigateway/handler/openai"
	"aoaigateway/handler/sse"
)

// tap watches a copy of a stream: for usage, for the log, for its end.
type tap struct {
	s        *session
	client   context.Context //nolint:containedctx // the request's, as long as the stream
	capture  *audit.Capture
	assemble *openai.Assembler // nil for streams we do not meter
	partial  bool              // the object is recorded even if it is not whole: nothing else will be
	failed   bool              // the region sent an error event of its own
}

func newTap(client context.Context, s *session, a *backend.Answer) *tap {
	t := &tap{s: s, client: client, capture: s.Audit.Response(a.Header.Get("Content-Type"))}
	switch s.kind {
	case openai.Chat:
		t.assemble = openai.NewAssembler(openai.ChatStream)
	case openai.Completions:
		t.assemble = openai.NewAssembler(openai.CompletionStream)
	case openai.Responses:
		t.assemble = openai.NewAssembler(openai.ResponseStream)
	default: // passed on unread
		return t
	}
	t.partial = t.capture.Assembles()
	return t
}

var usageMember = []byte(`"usage":{`)

// keep records bytes of the region's.
func (t *tap) keep(raw []byte) error {
	if _, err := t.capture.Write(raw); err != nil {
		return fmt.Errorf("%w: %w", errNotRecorded, err)
	}
	return nil
}

// see takes one event in and says what it is; an error says that it cannot be recorded.
func (t *tap) see(e sse.Event) (openai.ChunkKind, error) {
	if err := t.keep(e.Raw); err != nil {
		return openai.Content, err
	}
	kind := openai.Classify(e.Name, e.Data)
	if t.assemble == nil {
		return kind, nil
	}
	t.assemble.Event(e.Data)
	if err := t.remember(e.Data); err != nil {
		return kind, err
	}
	if kind == openai.Failure {
		t.failed = true
	}
	if kind == openai.UsageOnly || t.s.Record.AnsweredModel == "" || bytes.Contains(e.Data, usageMember) {
		t.s.noteUsage(e.Data)
	}
	return kind, nil
}

// remember notes the response's id. Clients of background responses leave on purpose once
// they have it and come back, so that for them it must be durable before it leaves.
func (t *tap) remember(data []byte) error {
	if t.s.made != nil {
		return nil
	}
	t.s.remember(t.client, data)
	if !t.s.req.Background {
		return nil
	}
	if err := t.s.remembered(); err != nil {
		return fmt.Errorf("%w: %w", errNotRecorded, err)
	}
	return nil
}

// done hands the whole object to the record, unless it grew too large to be whole, and to
// the estimate when no usage came.
func (t *tap) done() {
	if t.assemble == nil {
		return
	}
	obj := t.assemble.Object()
	if t.partial || !t.assemble.Full() {
		t.capture.Assembled(obj)
	}
	if !t.s.known {
		t.s.usage.Completion = openai.CountAnswer(t.s.answeredModel(), obj)
	}
}
