package meter

import (
	"strings"
	"testing"

	"aoaigateway/handler/body/bodytest"
)

// The counts are those of npm js-tiktoken 1.0.21, an independent implementation.
func TestCountUsesModelsTokens(t *testing.T) {
	for _, c := range []struct {
		model, text string
		want        int64
	}{
		{"gpt-4o", "hello world", 2},
		{"gpt-4", "hello world", 2},
		{"gpt-4o", "antidisestablishmentarianism", 6},
		{"gpt-4", "antidisestablishmentarianism", 6},
		{"gpt-4o", "東京は日本の首都です", 7},
		{"gpt-4", "東京は日本の首都です", 10},
		{"gpt-4o", "", 0},
	} {
		obj := []byte(`{"choices":[{"message":{"content":"` + c.text + `"}}]}`)
		if got := countAnswer(c.model, obj); got != c.want {
			t.Errorf("%s: %q counts %d, want %d", c.model, c.text, got, c.want)
		}
	}
}

func TestCountAnswerFindsAllText(t *testing.T) {
	for _, obj := range []string{
		`{"choices":[{"message":{"content":"hello world"}}]}`,
		`{"choices":[{"text":"hello world"}]}`,
		`{"choices":[{"message":{"refusal":"hello world"}}]}`,
		`{"choices":[{"message":{"content":null,"tool_calls":[{"function":{"arguments":"hello world"}}]}}]}`,
		`{"output":[{"type":"message","content":[{"type":"output_text","text":"hello world"}]}]}`,
		`{"output":[{"type":"function_call","arguments":"hello world"}]}`,
	} {
		if got := countAnswer("gpt-4o", []byte(obj)); got != 2 {
			t.Errorf("%s counts %d", obj, got)
		}
	}
}

func TestCountPromptAddsOverhead(t *testing.T) {
	for text, want := range map[string]int64{
		`{"messages":[{"role":"user","content":"hello world"}]}`: 2 + 3 + 3,
		// a line break stands between the two
		`{"messages":[{"role":"system","content":"hello world"},{"role":"user","content":"hello world"}]}`:     5 + 6 + 3,
		`{"messages":[{"role":"user","content":[{"type":"text","text":"hello world"},{"type":"image_url"}]}]}`: 2 + 3 + 3,
		`{"prompt":"hello world"}`:                            2,
		`{"input":"hello world"}`:                             2,
		`{"input":["hello world"]}`:                           2,
		`{"input":[{"role":"user","content":"hello world"}]}`: 2 + 3 + 3,
	} {
		if got := countPrompt("gpt-4o", bodytest.Of([]byte(text))); got != want {
			t.Errorf("%s counts %d, want %d", text, got, want)
		}
	}
}

func TestCountSamplesLongText(t *testing.T) {
	text := strings.Repeat("hello world ", 100_000)
	got := countAnswer("gpt-4o", []byte(`{"choices":[{"text":"`+text+`"}]}`))
	if got < 190_000 || got > 210_000 {
		t.Errorf("counts %d, want about 200,000", got)
	}
}
