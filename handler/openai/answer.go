package openai

import (
	"bytes"

	"github.com/tidwall/gjson"

	"aoaigateway/handler/gateway"
)

// ParseUsage reads the usage object of an answer or of an event, in the form of chat
// (prompt_tokens) or of Responses (input_tokens). ok is false if there is none.
func ParseUsage(raw []byte) (u gateway.Usage, ok bool) {
	v := gjson.GetBytes(raw, "usage")
	if !v.IsObject() {
		v = gjson.GetBytes(raw, "response.usage")
	}
	if !v.IsObject() {
		return u, false
	}
	v.ForEach(func(key, n gjson.Result) bool {
		switch key.Str {
		case "prompt_tokens", "input_tokens":
			u.Prompt = n.Int()
		case "completion_tokens", "output_tokens":
			u.Completion = n.Int()
		case "total_tokens":
			u.Total = n.Int()
		case "prompt_tokens_details", "input_tokens_details":
			u.Cached = n.Get("cached_tokens").Int()
			u.Audio += n.Get("audio_tokens").Int()
		case "completion_tokens_details", "output_tokens_details":
			u.Reasoning = n.Get("reasoning_tokens").Int()
			u.Audio += n.Get("audio_tokens").Int()
		}
		return true
	})
	if u.Total == 0 {
		u.Total = u.Prompt + u.Completion
	}
	return u, true
}

// AnsweredModel returns the model that an answer or an event names, or "".
func AnsweredModel(raw []byte) string {
	if m := gjson.GetBytes(raw, "model"); m.Str != "" {
		return m.Str
	}
	return gjson.GetBytes(raw, "response.model").Str
}

// ResponseID returns the id of a response object, which may be inside an event of a stream;
// "" = there is none.
func ResponseID(raw []byte) string {
	if id := gjson.GetBytes(raw, "response.id"); id.Str != "" {
		return id.Str
	}
	if gjson.GetBytes(raw, "object").Str == "response" {
		return gjson.GetBytes(raw, "id").Str
	}
	return ""
}

// ChunkKind says how the gateway must handle an event of a stream.
type ChunkKind int

// The kinds of events.
const (
	Content   ChunkKind = iota // a part of the answer, or an unknown event
	UsageOnly                  // a chunk with usage and without choices
	Terminal                   // completes the answer; it is held back until the record is durable
	Failure                    // the region reports an error
)

var (
	done        = []byte("[DONE]")
	noChoices   = []byte(`"choices":[]`)
	usageMember = []byte(`"usage"`)
	errorMember = []byte(`"error"`)
)

// Classify returns the kind of an event. A chat stream ends with the data [DONE] and
// reports errors as {"error":…}. In a Responses stream, the event's name decides.
func Classify(name, data []byte) ChunkKind {
	switch string(name) {
	case "response.completed", "response.incomplete", "response.failed":
		return Terminal
	case "error":
		return Failure
	}
	if IsDone(data) {
		return Terminal
	}
	if len(name) == 0 && bytes.Contains(data, errorMember) && gjson.GetBytes(data, "error").IsObject() {
		return Failure
	}
	if bytes.Contains(data, usageMember) && isUsageOnly(data) {
		return UsageOnly
	}
	return Content
}

// IsDone reports whether data is the end mark of chat streams, [DONE].
func IsDone(data []byte) bool { return bytes.Equal(bytes.TrimSpace(data), done) }

func isUsageOnly(data []byte) bool {
	if !bytes.Contains(data, noChoices) {
		c := gjson.GetBytes(data, "choices")
		if !c.IsArray() || len(c.Array()) > 0 {
			return false
		}
	}
	return gjson.GetBytes(data, "usage").IsObject()
}

// RefusesStreamOptions reports whether the body of a 400 says that the region does not
// support stream_options. That is so for api-versions before 2024-09-01-preview and for
// some models.
func RefusesStreamOptions(body []byte) bool {
	return bytes.Contains(body, []byte("stream_options"))
}

// ParseError returns the code and the message of an error answer, or empty strings if it
// has none.
func ParseError(body []byte) (code, message string) {
	e := gjson.GetBytes(body, "error")
	return e.Get("code").String(), e.Get("message").String()
}

// ClientsFault reports whether the client caused the error in a stream, so that every
// region would report it, for example an error of the content filter.
func ClientsFault(data []byte) bool {
	e := gjson.GetBytes(data, "error")
	if !e.Exists() {
		e = gjson.ParseBytes(data)
	}
	code, kind := e.Get("code").String(), e.Get("type").String()
	return code == "content_filter" || kind == "invalid_request_error" || len(code) == 3 && code[0] == '4' && code != "429" && code != "408"
}
