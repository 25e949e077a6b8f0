package openai

import (
	"strings"
	"sync"

	"github.com/tidwall/gjson"
	"github.com/tiktoken-go/tokenizer"
)

// estimateTokens is the rule of thumb for text that is not worth counting: four bytes a token.
func estimateTokens(bytes int64) int64 { return (bytes + 3) / 4 }

// messageOverhead is what the chat format adds around a message, at most.
const messageOverhead = 16

// PromptEstimate is the likely size of the prompt in tokens, computed without counting:
// what a soft limit holds before the call.
func (r Request) PromptEstimate() int64 { return estimateTokens(r.PromptBytes) + 4*r.Messages }

// Bound is the number of tokens that no answer to r can exceed: a token stands for at
// least one byte, so the prompt's bytes bound its tokens. ok is false if the request names
// no output cap or its prompt is not all text. Then the model's context window is the bound.
func (r Request) Bound(kind Kind) (tokens int64, ok bool) {
	if r.NotAllText || (r.MaxOutput == 0 && kind != Embeddings) {
		return 0, false
	}
	return r.PromptBytes + messageOverhead*r.Messages + r.MaxOutput*r.Choices, true
}

// Chat's own tokens around the text: three a message and three before the answer
// (OpenAI cookbook, "How to count tokens with tiktoken").
const (
	perMessage = 3
	perReply   = 3
)

// CountPrompt counts the tokens of a request's text, for calls whose answer reported no
// usage. Images and audio count as nothing.
func CountPrompt(model string, body []byte) int64 {
	var text strings.Builder
	var messages int64
	gather := func(path string) {
		v := gjson.GetBytes(body, path)
		if v.IsArray() && v.Get("0").IsObject() {
			messages += v.Get("#").Int()
		}
		collect(&text, v)
	}
	for _, path := range []string{
		"messages.#.content", "messages.#.content.#.text", "messages.#.tool_calls.#.function.arguments", "prompt", "suffix",
		"instructions", "input", "input.#.content", "input.#.content.#.text", "tools.#.function.description",
	} {
		gather(path)
	}
	messages += gjson.GetBytes(body, "messages.#").Int()
	if messages > 0 {
		return countTokens(model, text.String()) + perMessage*messages + perReply
	}
	return countTokens(model, text.String())
}

// CountAnswer counts the output tokens in an answer that broke off or reported no usage.
// Hidden reasoning is not part of it and cannot be counted.
func CountAnswer(model string, obj []byte) int64 {
	var text strings.Builder
	for _, path := range []string{
		"choices.#.message.content", "choices.#.message.refusal", "choices.#.message.tool_calls.#.function.name",
		"choices.#.message.tool_calls.#.function.arguments", "choices.#.text", "output.#.content.#.text", "output.#.arguments",
	} {
		collect(&text, gjson.GetBytes(obj, path))
	}
	return countTokens(model, text.String())
}

// collect appends the strings of v, one per line, also those in lists of lists.
func collect(to *strings.Builder, v gjson.Result) {
	switch {
	case v.Type == gjson.String:
		to.WriteString(v.Str)
		to.WriteByte('\n')
	case v.IsArray():
		for _, e := range v.Array() {
			collect(to, e)
		}
	}
}

// countable bounds the text that is counted. The rest is assumed to be similar.
const countable = 256 << 10

func countTokens(model, text string) int64 {
	text = strings.TrimSuffix(text, "\n")
	if text == "" {
		return 0
	}
	sample := strings.ToValidUTF8(text[:min(len(text), countable)], "")
	n, err := codecFor(model).Count(sample)
	if err != nil || sample == "" {
		return estimateTokens(int64(len(text)))
	}
	return int64(n) * int64(len(text)) / int64(len(sample))
}

// The vocabularies are part of the binary. Loading one takes about 20 ms, once.
var (
	o200k  = sync.OnceValue(func() tokenizer.Codec { return mustCodec(tokenizer.O200kBase) })
	cl100k = sync.OnceValue(func() tokenizer.Codec { return mustCodec(tokenizer.Cl100kBase) })
)

func mustCodec(e tokenizer.Encoding) tokenizer.Codec {
	c, err := tokenizer.Get(e)
	if err != nil {
		panic("openai: tokenizer: " + err.Error())
	}
	return c
}

// codecFor knows the older models by name. Models since gpt-4o use o200k, and unknown ones
// are assumed to.
func codecFor(model string) tokenizer.Codec {
	for _, old := range []string{"gpt-35", "gpt-3.5", "gpt-4-", "text-embedding", "text-davinci"} {
		if strings.HasPrefix(model, old) {
			return cl100k()
		}
	}
	if model == "gpt-4" {
		return cl100k()
	}
	return o200k()
}
