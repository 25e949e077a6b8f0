package openai

import "github.com/tidwall/gjson"

// EstimateTokens is the rule of thumb for text we could not count: four bytes a token.
func EstimateTokens(bytes int64) int64 { return (bytes + 3) / 4 }

// messageOverhead is what the chat format adds around a message, at most.
const messageOverhead = 16

// PromptEstimate is the likely size of the prompt in tokens.
func (r Request) PromptEstimate() int64 { return EstimateTokens(r.PromptBytes) + 4*r.Messages }

// Bound is the number of tokens that no answer to r can exceed: a token stands for at
// least one byte, so the prompt's bytes bound its tokens. ok is false when the request
// names no output cap or its prompt is not all text; the model's context window is the
// bound then.
func (r Request) Bound(kind Kind) (tokens int64, ok bool) {
	if r.NotAllText || (r.MaxOutput == 0 && kind != Embeddings) {
		return 0, false
	}
	return r.PromptBytes + messageOverhead*r.Messages + r.MaxOutput*r.Choices, true
}

// EstimateAnswer counts the likely output tokens of an answer that broke off or came
// without usage, from the text in it.
func EstimateAnswer(obj []byte) int64 {
	var bytes int64
	for _, path := range []string{
		"choices.#.message.content", "choices.#.message.refusal", "choices.#.message.tool_calls.#.function.arguments",
		"choices.#.text", "output.#.content.#.text", "output.#.arguments",
	} {
		bytes += textBytes(gjson.GetBytes(obj, path))
	}
	return EstimateTokens(bytes)
}

func textBytes(v gjson.Result) (n int64) {
	if v.Type == gjson.String {
		return int64(len(v.Str))
	}
	if v.IsArray() {
		for _, e := range v.Array() {
			n += textBytes(e)
		}
	}
	return n
}
