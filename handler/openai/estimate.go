package openai

import (
	"strings"
	"sync"

	"github.com/tidwall/gjson"
	"github.com/tiktoken-go/tokenizer"
)

// estimateTokens estimates the tokens of a text from its length: four bytes are about one
// token.
func estimateTokens(bytes int64) int64 { return (bytes + 3) / 4 }

// messageOverhead is the largest number of tokens that the chat format adds to a message.
const messageOverhead = 16

// PromptEstimate returns the probable number of prompt tokens, computed from the lengths of
// the texts. Soft limits hold it before the request is sent.
func (r Request) PromptEstimate() int64 { return estimateTokens(r.PromptBytes) + 4*r.Messages }

// Bound returns the largest number of tokens that an answer to r can use. A token stands
// for at least one byte, so the prompt has at most as many tokens as bytes. ok is false if
// the request has no output cap, or if its prompt is not all text; then only the model's
// context window bounds the tokens.
func (r Request) Bound(kind Kind) (tokens int64, ok bool) {
	if r.NotAllText || (r.MaxOutput == 0 && kind != Embeddings) {
		return 0, false
	}
	return r.PromptBytes + messageOverhead*r.Messages + r.MaxOutput*r.Choices, true
}

// Tokens that chat adds to the text: three for each message, and three before the answer
// (OpenAI cookbook, "How to count tokens with tiktoken").
const (
	perMessage = 3
	perReply   = 3
)

// CountPrompt counts the tokens of a request's text. It is used if the answer reported no
// usage. Images and audio are not counted.
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

// CountAnswer counts the output tokens in an answer that broke off or reported no usage. It
// cannot count hidden reasoning, which is not part of the answer.
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

// collect appends the strings in v to a text, one per line. It also visits nested lists.
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

// countable is how many bytes of a text are counted. For the rest of a longer text the same
// ratio of tokens to bytes is assumed.
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

// The vocabularies are part of the binary. A vocabulary is loaded once, when it is first
// needed; that takes about 20 ms.
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

// codecFor returns the vocabulary of a model. Older models are recognized by name. All
// others use o200k, as models since gpt-4o do.
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
