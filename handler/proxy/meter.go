package proxy

import (
	"aoaigateway/handler/backend"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/openai"
)

// meter collects what one answer used.
type meter struct {
	kind     openai.Kind
	model    string // as the client names it
	answered string // as the answer names it; empty until it does
	usage    gateway.Usage
	known    bool // usage is the service's own
}

// read takes usage and model from an answer, or from one event of it.
func (m *meter) read(raw []byte) {
	if u, ok := openai.ParseUsage(raw); ok {
		m.usage, m.known = u, true
	}
	if m.answered == "" {
		m.answered = openai.AnsweredModel(raw)
	}
}

// readWhole takes the usage of a whole answer, or counts its output.
func (m *meter) readWhole(a *backend.Answer) {
	if m.kind.Metered() && a.Succeeded() {
		m.read(a.Whole)
		m.countOutput(a.Whole)
	}
}

// countOutput counts the output tokens in an answer that did not report its usage.
func (m *meter) countOutput(answer []byte) {
	if !m.known {
		m.usage.Completion = openai.CountAnswer(m.modelName(), answer)
	}
}

// estimatePrompt completes the usage of an answer that did not report it.
func (m *meter) estimatePrompt(request []byte) {
	if !m.known && m.kind.Metered() {
		m.usage.Estimated = true
		m.usage.Prompt = openai.CountPrompt(m.modelName(), request)
		m.usage.Total = m.usage.Prompt + m.usage.Completion
	}
}

// modelName is the model's own name if the answer has it: a deployment may have any name.
func (m *meter) modelName() string {
	if m.answered != "" {
		return m.answered
	}
	return m.model
}
