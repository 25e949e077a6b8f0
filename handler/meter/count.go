package meter

import (
	"strings"
	"sync"

	"github.com/tidwall/gjson"
	"github.com/tiktoken-go/tokenizer"

	"aoaigateway/handler/body"
	"aoaigateway/handler/jsonscan"
	"aoaigateway/handler/openai"
)

// Tokens that chat adds to the text: three for each message, and three before the answer
// (OpenAI cookbook, "How to count tokens with tiktoken").
const (
	perMessage = 3
	perReply   = 3
)

// promptTexts are the places of texts in a request, with # for an element of an array. A text
// directly below prompt or input may be in an array.
var promptTexts = map[string]bool{
	"messages.#.content": true, "messages.#.content.#.text": true, "messages.#.tool_calls.#.function.arguments": true,
	"prompt": true, "prompt.#": true, "suffix": true, "instructions": true, "input": true, "input.#": true,
	"input.#.content": true, "input.#.content.#.text": true, "tools.#.function.description": true,
}

// countPrompt counts the tokens of a request's text. It is used if the answer reported no
// usage. Images and audio are not counted.
func countPrompt(model string, b *body.Body) int64 {
	var text sample
	var messages int64
	var place []byte
	s := b.Scanner(countable)
	for t, err := s.Next(); err == nil; t, err = s.Next() {
		isText := t.Kind == jsonscan.String && !t.IsName
		if !isText && t.Kind != jsonscan.BeginObject || t.Depth > 6 {
			continue
		}
		place = s.Names(place[:0])
		switch {
		case isText && promptTexts[string(place)]:
			text.add(&t)
		case t.Depth == 2 && (string(place) == "messages.#." || string(place) == "input.#."):
			messages++
		}
	}
	if messages > 0 {
		return text.tokens(model) + perMessage*messages + perReply
	}
	return text.tokens(model)
}

// sample is a text of which only the beginning is kept.
type sample struct {
	beginning strings.Builder
	size      int64 // of the whole text, as JSON writes it
	kept      int64 // of the beginning, as JSON writes it
}

// add appends a string to the text, on a line of its own.
func (s *sample) add(t *jsonscan.Token) {
	s.size += t.End - t.Start
	if s.beginning.Len() >= countable {
		return
	}
	s.kept += int64(len(t.Text))
	s.beginning.WriteString(t.Unquoted())
	s.beginning.WriteByte('\n')
}

func (s *sample) tokens(model string) int64 {
	n := countTokens(model, s.beginning.String())
	if s.kept == 0 || s.kept == s.size {
		return n
	}
	return int64(float64(n) * float64(s.size) / float64(s.kept))
}

// countAnswer counts the output tokens in an answer that broke off or reported no usage. It
// cannot count hidden reasoning, which is not part of the answer.
func countAnswer(model string, obj []byte) int64 {
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
		return openai.EstimateTokens(int64(len(text)))
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
		panic("meter: tokenizer: " + err.Error())
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
