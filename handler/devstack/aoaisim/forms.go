package aoaisim

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"hash/fnv"
	"iter"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
)

// form renders the answers of one operation. It builds JSON as text, with keys in the
// service's alphabetical order, because a stream has thousands of events.
type form struct {
	whole  func(*request, *answer) []byte
	events func(*request, *answer) iter.Seq[event] // nil = the operation has no streams
}

// event is one event of a stream.
type event struct {
	name, data string
	fields     string // of an event of Responses, whose data gets its number when it is sent
	text       string // the whole event as it is in a scenario
	token      bool   // contains one token of output
	final      bool   // is the terminal event
}

var forms = map[string]form{
	opChat:        {wholeChat, chatEvents},
	opCompletions: {wholeCompletion, completionEvents},
	opEmbeddings:  {wholeEmbeddings, nil},
	opResponses:   {wholeResponse, responseEvents},
}

const (
	filters = `{"hate":{"filtered":false,"severity":"safe"},"self_harm":{"filtered":false,"severity":"safe"},` +
		`"sexual":{"filtered":false,"severity":"safe"},"violence":{"filtered":false,"severity":"safe"}}`
	promptFilters = `[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false,"severity":"safe"},"jailbreak":{"detected":false,` +
		`"filtered":false},"self_harm":{"filtered":false,"severity":"safe"},"sexual":{"filtered":false,"severity":"safe"},` +
		`"violence":{"filtered":false,"severity":"safe"}}}]`
	fingerprint = `"fp_ee1d74bde0"`
)

func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// joined returns n items of a JSON array, separated by commas.
func joined(n int, item func(int) string) string {
	items := make([]string, n)
	for i := range items {
		items[i] = item(i)
	}
	return strings.Join(items, ",")
}

func (u Usage) chat() string {
	return `{"completion_tokens":` + itoa(u.Completion) +
		`,"completion_tokens_details":{"accepted_prediction_tokens":0,"audio_tokens":0,"reasoning_tokens":` + itoa(u.Reasoning) +
		`,"rejected_prediction_tokens":0}` +
		`,"prompt_tokens":` + itoa(u.Prompt) + `,"prompt_tokens_details":{"audio_tokens":0,"cached_tokens":` + itoa(u.Cached) + `}` +
		`,"total_tokens":` + itoa(u.Total) + `}`
}

// tail returns the last members of every chunk and object of chat and completions.
func tail(a *answer, prefix string, model model, object string) string {
	return `,"created":` + itoa(a.created) + `,"id":"` + a.objectID(prefix) + `","model":` + quote(model.version()) +
		`,"object":"` + object + `","system_fingerprint":` + fingerprint
}

func wholeChat(q *request, a *answer) []byte {
	choices := joined(len(a.words), func(i int) string {
		return `{"content_filter_results":` + filters + `,"finish_reason":"` + a.finish + `","index":` + strconv.Itoa(i) +
			`,"logprobs":null,"message":{"annotations":[],"content":` + quote(a.text(i)) + `,"refusal":null,"role":"assistant"}}`
	})
	return []byte(`{"choices":[` + choices + `],"created":` + itoa(a.created) + `,"id":"` + a.objectID("chatcmpl-") +
		`","model":` + quote(q.model.version()) +
		`,"object":"chat.completion"` +
		`,"prompt_filter_results":` + promptFilters + `,"system_fingerprint":` + fingerprint + `,"usage":` + a.usage.chat() + `}`)
}

// chunked adds the events that streams of chat and completions have in common.
func chunked(q *request, a *answer, rest string, content iter.Seq[event]) iter.Seq[event] {
	end, withUsage := "}", q.Options != nil && q.Options.IncludeUsage
	if withUsage {
		end = `,"usage":null}`
	}
	return func(yield func(event) bool) {
		if !yield(event{data: `{"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":` + promptFilters + "}"}) {
			return
		}
		n := 0
		for e := range content {
			e.data += `,"obfuscation":"` + obfuscation(n) + `"` + rest + end
			n++
			if !yield(e) {
				return
			}
		}
		if withUsage && !yield(event{data: `{"choices":[],"obfuscation":""` + rest + `,"usage":` + a.usage.chat() + `}`}) {
			return
		}
		yield(event{data: "[DONE]", final: true})
	}
}

func chatChunk(index int, filter, delta, finish string) string {
	return `{"choices":[{"content_filter_results":` + filter + `,"delta":` + delta +
		`,"finish_reason":` + finish + `,"index":` + strconv.Itoa(index) + `,"logprobs":null}]`
}

func chatEvents(q *request, a *answer) iter.Seq[event] {
	return chunked(q, a, tail(a, "chatcmpl-", q.model, "chat.completion.chunk"), func(yield func(event) bool) {
		for i, list := range a.words {
			if !yield(event{data: chatChunk(i, "{}", `{"content":"","refusal":null,"role":"assistant"}`, "null")}) {
				return
			}
			for _, word := range list {
				if !yield(event{data: chatChunk(i, filters, `{"content":`+quote(word)+`}`, "null"), token: true}) {
					return
				}
			}
			if !yield(event{data: chatChunk(i, "{}", "{}", `"`+a.finish+`"`)}) {
				return
			}
		}
	})
}

func wholeCompletion(q *request, a *answer) []byte {
	choices := joined(len(a.words), func(i int) string {
		return `{"content_filter_results":` + filters + `,"finish_reason":"` + a.finish + `","index":` + strconv.Itoa(i) +
			`,"logprobs":null,"text":` + quote(a.text(i)) + `}`
	})
	return []byte(`{"choices":[` + choices + `],"prompt_filter_results":` + promptFilters + tail(a, "cmpl-", q.model, "text_completion") +
		`,"usage":` + a.usage.chat() + `}`)
}

func completionChunk(index int, filter, finish, text string) string {
	return `{"choices":[{"content_filter_results":` + filter + `,"finish_reason":` + finish +
		`,"index":` + strconv.Itoa(index) + `,"logprobs":null,"text":` + text + `}]`
}

func completionEvents(q *request, a *answer) iter.Seq[event] {
	return chunked(q, a, tail(a, "cmpl-", q.model, "text_completion"), func(yield func(event) bool) {
		for i, list := range a.words {
			for _, word := range list {
				if !yield(event{data: completionChunk(i, filters, "null", quote(word)), token: true}) {
					return
				}
			}
			if !yield(event{data: completionChunk(i, "{}", `"`+a.finish+`"`, `""`)}) {
				return
			}
		}
	})
}

const defaultDimensions = 1536

func wholeEmbeddings(q *request, a *answer) []byte {
	u := &a.usage
	*u = Usage{Prompt: u.Prompt, Total: u.Prompt}
	dims := q.Dims
	if dims <= 0 {
		dims = defaultDimensions
	}
	data := joined(len(q.input), func(i int) string {
		return `{"embedding":` + embedding(q.input[i], dims, q.Encoding == "base64") + `,"index":` + strconv.Itoa(i) + `,"object":"embedding"}`
	})
	return []byte(`{"data":[` + data + `],"model":` + quote(q.model.version()) +
		`,"object":"list","usage":{"prompt_tokens":` + itoa(u.Prompt) +
		`,"total_tokens":` + itoa(u.Total) + `}}`)
}

// embedding returns a unit vector that depends only on the input.
func embedding(input string, dims int, packed bool) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(input))
	dice := rand.New(rand.NewPCG(h.Sum64(), 1))
	vector := make([]float64, dims)
	var square float64
	for i := range vector {
		vector[i] = dice.NormFloat64()
		square += vector[i] * vector[i]
	}
	short := make([]float32, dims)
	for i := range vector {
		short[i] = float32(vector[i] / math.Sqrt(square))
	}
	if !packed {
		b, _ := json.Marshal(short)
		return string(b)
	}
	b := make([]byte, 0, 4*dims)
	for _, f := range short {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
	}
	return `"` + base64.StdEncoding.EncodeToString(b) + `"`
}
