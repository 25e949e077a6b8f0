// Package meter finds out what an answer used: from the usage that the service reports, or
// by counting where it reports none.
package meter

import (
	"bytes"
	"cmp"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/openai"
)

// Meter collects what one answer used.
type Meter struct {
	Usage    gateway.Usage
	Known    bool   // Usage is the service's own
	Answered string // the model as the answer names it; empty until it does

	kind  openai.Kind
	model string
}

// New returns a Meter for an answer of model, which the client asked for by this name.
func New(kind openai.Kind, model string) Meter { return Meter{kind: kind, model: model} }

// Read takes usage and model from an answer, or from one event of it.
func (m *Meter) Read(raw []byte) {
	if u, ok := openai.ParseUsage(raw); ok {
		m.Usage, m.Known = u, true
	}
	if m.Answered == "" {
		m.Answered = openai.AnsweredModel(raw)
	}
}

// ReadWhole takes the usage of a whole answer, or counts its output.
func (m *Meter) ReadWhole(answer []byte) {
	if m.kind.Metered() {
		m.Read(answer)
		m.CountOutput(answer)
	}
}

// ReadTail takes the usage near the end of a long answer, where the service puts it.
func (m *Meter) ReadTail(tail []byte) {
	if i := bytes.LastIndex(tail, []byte(`"usage"`)); i >= 0 && m.kind.Metered() {
		m.Read(append([]byte("{"), tail[i:]...))
	}
}

// CountOutput counts the output tokens in an answer that did not report its usage.
func (m *Meter) CountOutput(answer []byte) {
	if !m.Known {
		m.Usage.Completion = openai.CountAnswer(m.name(), answer)
	}
}

// EstimatePrompt completes the usage of an answer that did not report it.
func (m *Meter) EstimatePrompt(request []byte) {
	if !m.Known && m.kind.Metered() {
		m.Usage.Estimated = true
		m.Usage.Prompt = openai.CountPrompt(m.name(), request)
		m.Usage.Total = m.Usage.Prompt + m.Usage.Completion
	}
}

// name is the model's own name if the answer has it: a deployment may have any name.
func (m *Meter) name() string { return cmp.Or(m.Answered, m.model) }
