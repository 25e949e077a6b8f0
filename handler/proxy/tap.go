package proxy

import (
	"bytes"

	"aoaigateway/handler/assemble"
	"aoaigateway/handler/audit"
	"aoaigateway/handler/openai"
	"aoaigateway/handler/sse"
)

// tap reads a copy of a stream: for usage, for the record and for its end.
type tap struct {
	delivery *delivery
	capture  *audit.Capture
	assemble *assemble.Assembler // nil for streams that are not metered
	partial  bool                // record the object even if it is not whole: the record has nothing else
	failed   bool                // the region sent an error event of its own
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
	default: // passed on unread
		return t
	}
	t.partial = t.capture.ExpectAssembled()
	return t
}

var usageMember = []byte(`"usage":{`)

// record keeps bytes of the region's.
func (t *tap) record(raw []byte) error {
	if _, err := t.capture.Write(raw); err != nil {
		return notRecorded(err)
	}
	return nil
}

// see takes one event in and returns what it is. An error means that it cannot be recorded.
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

// rememberOwner notes which region keeps the response. Clients of background responses
// leave on purpose as soon as they have its id and come back later, so for them the note
// must be durable before the id leaves.
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

// finish hands the assembled object to the record, unless it grew too large to be whole,
// and counts its output if no usage came.
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
