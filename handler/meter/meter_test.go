package meter_test

import (
	"testing"

	"aoaigateway/handler/body/bodytest"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/meter"
	"aoaigateway/handler/openai"
)

func TestMeterEstimatesMissingUsage(t *testing.T) {
	request := []byte(`{"messages":[{"role":"user","content":"hello world"}]}`)
	answer := []byte(`{"model":"gpt-4o","choices":[{"message":{"content":"hello world"}}]}`)
	m := meter.New(openai.Chat, "chat")
	m.ReadWhole(answer)
	m.EstimatePrompt(bodytest.Of(request))
	if u := m.Usage; m.Known || !u.Estimated || u.Completion != 2 || u.Prompt < 2 || u.Total != u.Prompt+u.Completion ||
		m.Answered != "gpt-4o" {
		t.Errorf("%+v", m)
	}
	reported := []byte(`{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":0,"total_tokens":7}}`)
	m = meter.New(openai.Chat, "chat")
	m.ReadWhole(reported)
	m.EstimatePrompt(bodytest.Of(request))
	if m.Usage.Estimated || m.Usage.Total != 7 {
		t.Errorf("usage of the service's own: %+v", m.Usage)
	}
	m = meter.New(openai.Passed, "")
	m.ReadWhole(reported)
	if m.EstimatePrompt(bodytest.Of(request)); m.Usage != (gateway.Usage{}) {
		t.Errorf("an operation that is not metered used %+v", m.Usage)
	}
}

func TestReadTailFindsUsage(t *testing.T) {
	m := meter.New(openai.Embeddings, "m")
	m.ReadTail([]byte(`{"data":[]}`))
	if m.Known {
		t.Errorf("found usage where there is none: %+v", m)
	}
	m.ReadTail([]byte(`…"usage":1}],"usage":{"prompt_tokens":2,"completion_tokens":3,"total_tokens":5}}`))
	if !m.Known || m.Usage.Total != 5 {
		t.Errorf("%+v", m)
	}
}
