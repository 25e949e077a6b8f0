package refusal_test

import (
	"testing"

	"aoaigateway/handler/openai/refusal"
)

func TestIsPrelude(t *testing.T) {
	for _, c := range []struct {
		name, data string
		want       bool
	}{
		{"", "", true},
		{"", "null", true},
		{"response.created", `{"type":"response.created"}`, true},
		{"", `{"type":"response.queued"}`, true},
		{"response.output_item.added", `{"type":"response.output_item.added"}`, false},
		{"response.completed", `{"type":"response.completed"}`, false},
		{"response.of.tomorrow", `{}`, true},
		{"response.of.tomorrow", `{"x":1}`, false},
		{"", `[DONE]`, false},
		{"", `{"choices":[],"prompt_filter_results":[]}`, true},
		{"", `{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}`, true},
		{"", `{"choices":[{"index":0,"delta":{"content":"x"}}]}`, false},
		{"", `{"choices":[{"index":0,"delta":{"refusal":"no"}}]}`, false},
		{"", `{"choices":[{"index":0,"delta":{"reasoning_content":"x"}}]}`, false},
		{"", `{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0}]}}]}`, false},
		{"", `{"choices":[{"index":0,"delta":{}},{"index":1,"delta":{"content":"x"}}]}`, false},
		{"", `{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`, false},
		{"", `{"choices":[{"index":0,"text":""}]}`, true},
		{"", `{"choices":[{"index":0,"text":"x"}]}`, false},
		{"", `{"unknown":1}`, false},
	} {
		if got := refusal.IsPrelude([]byte(c.name), []byte(c.data)); got != c.want {
			t.Errorf("%s %s: %t", c.name, c.data, got)
		}
	}
}

func TestInStream(t *testing.T) {
	for _, c := range []struct {
		data  string
		want  refusal.Kind
		named bool
	}{
		{`{"error":{"code":"rate_limit_exceeded"}}`, refusal.Throttled, true},
		{`{"error":{"code":429}}`, refusal.Throttled, true},
		{`{"type":"error","code":"too_many_requests","message":"m"}`, refusal.Throttled, true},
		{`{"type":"response.failed","response":{"error":{"code":"rate_limit_exceeded"}}}`, refusal.Throttled, true},
		{`{"type":"response.failed","response":{"error":null}}`, refusal.Other, false},
		{`{"error":{"code":"server_is_overloaded"}}`, refusal.Unavailable, true},
		{`{"error":{"type":"server_error","code":null}}`, refusal.Other, true},
		{`{"error":{"code":"content_filter"}}`, refusal.Client, true},
		{`{"error":{"type":"invalid_request_error"}}`, refusal.Client, true},
		{`{"choices":[]}`, refusal.Other, false},
	} {
		if got, named := refusal.InStream([]byte(c.data)); got != c.want || named != c.named {
			t.Errorf("%s: %v, %t", c.data, got, named)
		}
	}
}
