package proxy

import (
	"bytes"

	"aoaigateway/handler/audit"
	"aoaigateway/handler/backend"
	"aoaigateway/handler/openai"
	"aoaigateway/handler/sse"
)

// tap watches a copy of a stream: for usage, for the log, for its end.
type tap struct {
	s        *session
	capture  *audit.Capture
	assemble *openai.Assembler // nil for streams we do not meter
	failed   bool              // the region sent an error event of its own
}

func newTap(s *session, a *backend.Answer) *tap {
	t := &tap{s: s, capture: s.Audit.Response(a.Header.Get("Content-Type"))}
	switch s.kind {
	case openai.Chat:
		t.assemble = openai.NewAssembler(openai.ChatStream)
	case openai.Completions:
		t.assemble = openai.NewAssembler(openai.CompletionStream)
	case openai.Responses:
		t.assemble = openai.NewAssembler(openai.ResponseStream)
	}
	return t
}

var usageMember = []byte(`"usage":{`)

// see takes one event in and says what it is.
func (t *tap) see(e sse.Event) openai.ChunkKind {
	_, _ = t.capture.Write(e.Raw)
	kind := openai.Classify(e.Name, e.Data)
	if t.assemble == nil {
		return kind
	}
	t.assemble.Event(e.Data)
	if kind == openai.Failure {
		t.failed = true
	}
	if kind == openai.UsageOnly || t.s.Record.AnsweredModel == "" || bytes.Contains(e.Data, usageMember) {
		t.s.noteUsage(e.Data)
	}
	return kind
}

// done hands the whole object to the record, and to the estimate when no usage came.
func (t *tap) done() {
	if t.assemble == nil {
		return
	}
	obj := t.assemble.Object()
	t.capture.Assembled(obj)
	if !t.s.known {
		t.s.usage.Completion = openai.CountAnswer(t.s.answeredModel(), obj)
	}
}
