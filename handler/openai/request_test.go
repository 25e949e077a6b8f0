package openai_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"aoaigateway/handler/body/bodytest"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/openai"
)

// ignoreLayout leaves out where the members are.
var ignoreLayout = cmpopts.IgnoreTypes(openai.Layout{})

// requestCases are the rows of TestParseRequestFields.
var requestCases = []struct {
	name string
	kind openai.Kind
	body string
	want openai.Request
}{
	{
		"chat", openai.Chat, `{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":5,"n":2,"user":"u"}`,
		openai.Request{Model: "m", EndUser: "u", MaxOutput: 5, Choices: 2, PromptBytes: 32, Messages: 1},
	},
	{
		"newer cap wins", openai.Chat, `{"max_tokens":5,"max_completion_tokens":7}`,
		openai.Request{MaxOutput: 7, Choices: 1, Messages: 1},
	},
	{
		"stream with usage", openai.Chat, `{"stream":true,"stream_options":{"include_usage":true}}`,
		openai.Request{Stream: true, IncludeUsage: true, Choices: 1, Messages: 1},
	},
	{
		"wrong types count as absent", openai.Chat, `{"stream":"yes","max_tokens":"5","n":null,"model":7}`,
		openai.Request{Choices: 1, Messages: 1},
	},
	{
		"image", openai.Chat, `{"messages":[{"content":[{"type":"image_url","image_url":{"url":"x"}}]}]}`,
		openai.Request{Choices: 1, PromptBytes: 60, Messages: 1, NotAllText: true},
	},
	{
		"an escaped word in a prompt", openai.Chat, `{"messages":[{"content":"\"image_url\""}]}`,
		openai.Request{Choices: 1, PromptBytes: 29, Messages: 1},
	},
	{
		"embeddings do not stream", openai.Embeddings, `{"input":["a","b"],"stream":true}`,
		openai.Request{Choices: 1, PromptBytes: 9, Messages: 2},
	},
	{
		"batch of prompts with best_of", openai.Completions, `{"prompt":["a","b"],"best_of":3}`,
		openai.Request{Choices: 6, PromptBytes: 9, Messages: 1},
	},
	{
		"one prompt of tokens", openai.Completions, `{"prompt":[1,2,3]}`,
		openai.Request{Choices: 1, PromptBytes: 7, Messages: 1},
	},
	{
		"stored context", openai.Responses, `{"input":"hi","previous_response_id":"resp_1","n":9}`,
		openai.Request{Previous: "resp_1", Choices: 1, PromptBytes: 4, Messages: 1, NotAllText: true},
	},
}

func TestParseRequestFields(t *testing.T) {
	for _, c := range requestCases {
		t.Run(c.name, func(t *testing.T) {
			got, err := openai.ParseRequest(c.kind, bodytest.Of([]byte(c.body)))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, got, ignoreLayout); d != "" {
				t.Fatal(d)
			}
		})
	}
}

func TestParseRequestErrors(t *testing.T) {
	for _, c := range []struct{ body, want string }{
		{`{"model":"a","model":"b"}`, "contains a name twice: line 1"},
		{"{\n\"messages\":[{\"role\":\"a\",\"role\":\"b\"}]}", "contains a name twice: line 2"},
		{`{"model":`, "is not valid JSON"},
		{`{"model":"a"} x`, "is not valid JSON"},
		{"{\"model\":\"\xff\"}", "is not valid JSON"},
		{`[]`, "must be a JSON object"},
		{``, "is not valid JSON"},
	} {
		_, err := openai.ParseRequest(openai.Chat, bodytest.Of([]byte(c.body)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: error %v, want …%s…", c.body, err, c.want)
		}
	}
}

func TestBound(t *testing.T) {
	r := openai.Request{PromptBytes: 100, Messages: 2, MaxOutput: 10, Choices: 3}
	if b, ok := r.Bound(openai.Chat); !ok || b != 100+32+30 {
		t.Errorf("bound %d, %t", b, ok)
	}
	r.MaxOutput = 0
	if _, ok := r.Bound(openai.Chat); ok {
		t.Error("a request without a cap has no bound of its own")
	}
	if b, ok := r.Bound(openai.Embeddings); !ok || b != 132 {
		t.Errorf("embeddings: bound %d, %t", b, ok)
	}
}

func TestLiftVersion(t *testing.T) {
	for client, want := range map[string]string{
		"2023-03-15-preview": "2024-10-21", "2024-10-21-preview": "2024-10-21", "2024-06-01": "2024-10-21",
		"2024-10-21": "2024-10-21", "2025-04-01-preview": "2025-04-01-preview", "preview": "preview", "latest": "latest", "": "",
	} {
		if got := openai.LiftVersion(client, "2024-10-21"); got != want {
			t.Errorf("%q becomes %q, want %q", client, got, want)
		}
	}
}

func TestParseUsage(t *testing.T) {
	want := gateway.Usage{Prompt: 10, Cached: 4, Completion: 5, Reasoning: 2, Total: 15}
	for _, raw := range []string{
		`{"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,"prompt_tokens_details":{"cached_tokens":4},` +
			`"completion_tokens_details":{"reasoning_tokens":2}}}`,
		`{"type":"response.completed","response":{"usage":{"input_tokens":10,"output_tokens":5,"total_tokens":15,` +
			`"input_tokens_details":{"cached_tokens":4},"output_tokens_details":{"reasoning_tokens":2}}}}`,
		`{"usage":{"prompt_tokens":10,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":4},` +
			`"completion_tokens_details":{"reasoning_tokens":2}}}`,
	} {
		if got, ok := openai.ParseUsage([]byte(raw)); !ok || got != want {
			t.Errorf("%s: %+v, %t", raw, got, ok)
		}
	}
	if _, ok := openai.ParseUsage([]byte(`{"usage":null}`)); ok {
		t.Error("null is no usage")
	}
}

func TestClassify(t *testing.T) {
	for _, c := range []struct {
		name, data string
		want       openai.ChunkKind
	}{
		{"", "[DONE]", openai.Terminal},
		{"", ` [DONE] `, openai.Terminal},
		{"response.completed", `{}`, openai.Terminal},
		{"response.output_text.delta", `{}`, openai.Content},
		{"error", `{"message":"x"}`, openai.Failure},
		{"", `{"error":{"message":"x"}}`, openai.Failure},
		{"", `{"choices":[],"usage":{"total_tokens":1}}`, openai.UsageOnly},
		{"", `{"choices": [ ],"usage":{"total_tokens":1}}`, openai.UsageOnly},
		{"", `{"choices":[],"prompt_filter_results":[],"usage":null}`, openai.Content},
		{"", `{"choices":[{"delta":{"content":"\"error\" \"usage\""}}],"usage":null}`, openai.Content},
		{"", `{"choices":[{"delta":{}}],"usage":{"total_tokens":1}}`, openai.Content},
	} {
		if got := openai.Classify([]byte(c.name), []byte(c.data)); got != c.want {
			t.Errorf("%s %s is %d, want %d", c.name, c.data, got, c.want)
		}
	}
}

func BenchmarkParseRequest(b *testing.B) {
	text := []byte(`{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"` + strings.Repeat("word ", 400) + `"}]}`)
	for b.Loop() {
		if _, err := openai.ParseRequest(openai.Chat, bodytest.Of(text)); err != nil {
			b.Fatal(err)
		}
	}
}

// The bound holds for requests that a region may read differently.
func TestBoundOfOddRequests(t *testing.T) {
	for name, c := range map[string]struct {
		kind openai.Kind
		body string
		want int64 // 0 = no bound
	}{
		"a part's type behind an escape": {openai.Chat, `{"max_tokens":1,"messages":[{"content":[{"type":"image\u005furl"}]}]}`, 0},
		"an escape that encoders write": {
			openai.Chat, `{"max_tokens":1,"messages":[{"content":[{"text":"\u003c\u0026\u00e9"}]}]}`, 45 + 16 + 1,
		},
		"a cap of another operation":    {openai.Chat, `{"max_output_tokens":1,"messages":[]}`, 0},
		"a cap of another, completions": {openai.Completions, `{"max_completion_tokens":1,"prompt":"x"}`, 0},
		"a cap of another, responses":   {openai.Responses, `{"max_tokens":1,"input":"x"}`, 0},
		"two caps":                      {openai.Chat, `{"max_completion_tokens":1,"max_tokens":50,"messages":[]}`, 2 + 16 + 50},
		"a product that would overflow": {
			openai.Completions, `{"prompt":["a","b","c","d"],"n":2147483647,"max_tokens":2147483647}`, 17 + 16 + (1<<31-1)<<20,
		},
		"more than any number": {openai.Completions, `{"prompt":"a","n":1e999,"max_tokens":1e999}`, 3 + 16 + (1<<31-1)<<20},
		"text that is predicted, not asked": {
			openai.Chat, `{"max_tokens":1,"messages":[],"prediction":{"type":"content","content":"abc"}}`, 2 + 34 + 16 + 1,
		},
	} {
		req, err := openai.ParseRequest(c.kind, bodytest.Of([]byte(c.body)))
		if err != nil {
			t.Fatal(name, err)
		}
		if got, ok := req.Bound(c.kind); ok != (c.want != 0) || got != c.want {
			t.Errorf("%s: %d %t, want %d", name, got, ok, c.want)
		}
	}
}

func TestParseRequestOfLongBody(t *testing.T) {
	text := `{"model":"m","stream":true,"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}, ` +
		`{"role":"user","content":"a"}],"max_tokens":7,"user":"u","n":2,"other":`
	short, err := openai.ParseRequest(openai.Chat, bodytest.Of([]byte(text+`""}`)))
	if err != nil {
		t.Fatal(err)
	}
	long, err := openai.ParseRequest(openai.Chat, bodytest.Of([]byte(text+`"`+strings.Repeat("x", 1<<20)+`"}`)))
	if d := cmp.Diff(short, long, ignoreLayout); err != nil || d != "" {
		t.Error(err, d)
	}
}
