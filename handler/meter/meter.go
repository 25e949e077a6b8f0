// Package meter determines the tokens that an answer used. It reads the usage that the
// service reports, or counts tokens where the service reports none.
package meter

import (
	"bytes"
	"cmp"

	"aoaigateway/handler/body"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/openai"
)

// Meter collects what one answer used.
type Meter struct {
	Usage    gateway.Usage
	Known    bool   // true = the service reported Usage; false = it is counted or estimated
	Answered string // the name of the model in the answer; empty until it is known

	kind  openai.Kind
	model string
}

// New returns a Meter for one answer. model is the name that the client asked for.
func New(kind openai.Kind, model string) Meter { return Meter{kind: kind, model: model} }

// Read takes usage and model name from an answer, or from one event of a stream.
func (m *Meter) Read(raw []byte) {
	if u, ok := openai.ParseUsage(raw); ok {
		m.Usage, m.Known = u, true
	}
	if m.Answered == "" {
		m.Answered = openai.AnsweredModel(raw)
	}
}

// ReadWhole takes the usage from a whole answer, or counts its output tokens if it reports
// none.
func (m *Meter) ReadWhole(answer []byte) {
	if m.kind.Metered() {
		m.Read(answer)
		m.CountOutput(answer)
	}
}

// ReadTail takes the usage from the last bytes of a long answer, where the service puts it.
func (m *Meter) ReadTail(tail []byte) {
	if i := bytes.LastIndex(tail, []byte(`"usage"`)); i >= 0 && m.kind.Metered() {
		m.Read(append([]byte("{"), tail[i:]...))
	}
}

// CountOutput counts the output tokens in an answer that did not report its usage.
func (m *Meter) CountOutput(answer []byte) {
	if !m.Known {
		m.Usage.Completion = countAnswer(m.name(), answer)
	}
}

// EstimatePrompt adds estimated prompt tokens if the answer did not report its usage.
func (m *Meter) EstimatePrompt(request *body.Body) {
	if !m.Known && m.kind.Metered() {
		m.Usage.Estimated = true
		m.Usage.Prompt = countPrompt(m.name(), request)
		m.Usage.Total = m.Usage.Prompt + m.Usage.Completion
	}
}

// name returns the model name in the answer if there is one, because the client may have
// used a deployment name that says nothing about the model.
func (m *Meter) name() string { return cmp.Or(m.Answered, m.model) }
