package proxy

import (
	"bytes"
	"slices"

	"github.com/tidwall/gjson"

	"aoaigateway/handler/assemble"
	"aoaigateway/handler/audit"
	"aoaigateway/handler/openai"
	"aoaigateway/handler/sse"
)

// tap reads a copy of a stream. It finds the usage and the end of the stream, and records
// the answer.
type tap struct {
	delivery *delivery
	capture  *audit.Capture
	assemble *assemble.Assembler // nil for streams whose tokens are not metered
	partial  bool                // record the assembled object even if it is incomplete, because the record keeps no events
	failed   bool                // the region sent an error event
}

func newTap(d *delivery) *tap {
	t := &tap{delivery: d, capture: d.capture()}
	switch d.plan.Kind {
	case openai.Chat:
		t.assemble = assemble.New(assemble.Chat)
	case openai.Completions:
		t.assemble = assemble.New(assemble.Completion)
	case openai.Responses:
		t.assemble = assemble.New(assemble.Response)
	default: // passed on unread // such a stream is passed on without being parsed
		return t
	}
	t.partial = t.capture.ExpectAssembled()
	return t
}

var usageMember = []byte(`"usage":{`)

// record adds bytes from the region to the record.
func (t *tap) record(raw []byte) error {
	if _, err := t.capture.Write(raw); err != nil {
		return notRecorded(err)
	}
	return nil
}

// see processes one event and returns its kind. It fails if the event cannot be recorded.
func (t *tap) see(e sse.Event) (openai.ChunkKind, error) {
	if err := t.record(e.Raw); err != nil {
		return openai.Content, err
	}
	kind := openai.Classify(e.Name, e.Data)
	if t.assemble == nil {
		return kind, nil
	}
	t.assemble.Event(e.Data)
	if err := t.rememberOwner(e.Data); err != nil {
		return kind, err
	}
	if kind == openai.Failure {
		t.failed = true
	}
	m := &t.delivery.meter
	if kind == openai.UsageOnly || m.Answered == "" || bytes.Contains(e.Data, usageMember) {
		m.Read(e.Data)
	}
	return kind, nil
}

// rememberOwner notes which region keeps the response. The client of a background response
// may disconnect as soon as it has the id, and ask for the response later. For such a
// response the note must be durable before the client receives the id.
func (t *tap) rememberOwner(data []byte) error {
	d := t.delivery
	if d.owner != nil {
		return nil
	}
	d.rememberOwner(data)
	if !d.plan.Request.Background {
		return nil
	}
	if err := d.owner.Wait(); err != nil {
		return notRecorded(err)
	}
	return nil
}

// choicesFinished reports whether every choice has its finish_reason. Then nothing is missing
// when the region ends the stream, also if it sends no [DONE], as some models do.
func (t *tap) choicesFinished() bool {
	if t.assemble == nil || t.delivery.plan.Kind == openai.Responses || t.assemble.Full() || t.failed {
		return false
	}
	choices := gjson.GetBytes(t.assemble.Object(), "choices").Array()
	wanted := 1
	if t.delivery.plan.Kind == openai.Chat {
		wanted = int(t.delivery.plan.Request.Choices)
	}
	open := func(choice gjson.Result) bool { return choice.Get("finish_reason").Str == "" }
	return len(choices) >= wanted && !slices.ContainsFunc(choices, open)
}

// finish records the assembled object, unless that was cut for its size and the record has
// the events, and counts the output tokens if the region reported no usage.
func (t *tap) finish() {
	if t.assemble == nil {
		return
	}
	obj := t.assemble.Object()
	if t.partial || !t.assemble.Full() {
		t.capture.Assembled(obj)
	}
	t.delivery.meter.CountOutput(obj)
}
