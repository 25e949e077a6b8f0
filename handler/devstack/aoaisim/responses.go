package aoaisim

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"iter"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

func (u Usage) responses() string {
	return `{"input_tokens":` + itoa(u.Prompt) + `,"input_tokens_details":{"cached_tokens":` + itoa(u.Cached) + `}` +
		`,"output_tokens":` + itoa(u.Completion) + `,"output_tokens_details":{"reasoning_tokens":` + itoa(u.Reasoning) + `}` +
		`,"total_tokens":` + itoa(u.Total) + `}`
}

// outputItem returns the output of a response, which is one message.
func outputItem(a *answer, status, content string) string {
	return `{"id":"` + a.objectID("msg_") + `","type":"message","status":"` + status + `","content":[` + content + `],"role":"assistant"}`
}

func outputText(s string) string {
	return `{"type":"output_text","annotations":[],"logprobs":[],"text":` + quote(s) + `}`
}

func responseObject(q *request, a *answer, status, output, usage string) string {
	incomplete, previous, completed, tier, filters := "null", "null", "null", "auto", "null"
	if status == "incomplete" {
		incomplete = `{"reason":"max_output_tokens"}`
	}
	if q.Previous != "" {
		previous = quote(q.Previous)
	}
	if status != "in_progress" {
		completed, tier, filters = itoa(a.created), "default", contentFilters
	}
	metadata := []byte("{}")
	if len(q.Metadata) > 0 {
		metadata, _ = json.Marshal(q.Metadata)
	}
	tools, _ := json.Marshal(append([]json.RawMessage{}, q.Tools...))
	instructions := cmp.Or(string(q.Instructions), "null")
	return `{"id":"` + a.objectID("resp_") + `","object":"response","created_at":` + itoa(a.created) + `,"status":"` + status +
		`","background":` + strconv.FormatBool(q.Background) + `,"completed_at":` + completed +
		`,"content_filters":` + filters + `,"error":null,"frequency_penalty":0.0,"incomplete_details":` + incomplete +
		`,"instructions":` + instructions + `,"max_output_tokens":null,"max_tool_calls":null` +
		`,"model":` + quote(q.Model) + `,"output":[` + output + `],"parallel_tool_calls":true,"presence_penalty":0.0` +
		`,"previous_response_id":` + previous + `,"prompt_cache_key":null,"prompt_cache_retention":null` +
		`,"reasoning":{"effort":null,"summary":null},"safety_identifier":null,"service_tier":"` + tier + `","store":` +
		strconv.FormatBool(q.stored()) + `,"temperature":1.0,"text":{"format":{"type":"text"},"verbosity":"medium"}` +
		`,"tool_choice":"auto","tools":` + string(tools) + `,"top_logprobs":0,"top_p":1.0,"truncation":"disabled","usage":` + usage +
		`,"user":null,"metadata":` + string(metadata) + `}`
}

const contentFilters = `[{"blocked":false,"source_type":"prompt","content_filter_raw":[],"content_filter_results":` + filters +
	`,"content_filter_offsets":{"start_offset":0,"end_offset":12,"check_offset":0}},` +
	`{"blocked":false,"source_type":"completion","content_filter_raw":null,"content_filter_results":` + filters +
	`,"content_filter_offsets":{"start_offset":0,"end_offset":40,"check_offset":0}}]`

func (a *answer) responseStatus() string {
	if a.finish == "length" {
		return "incomplete"
	}
	return "completed"
}

func finishedResponse(q *request, a *answer) string {
	status := a.responseStatus()
	return responseObject(q, a, status, outputItem(a, status, outputText(a.text(0))), a.usage.responses())
}

// wholeResponse is indented and has no byte beyond ASCII, as the service sends it.
func wholeResponse(q *request, a *answer) []byte {
	var b bytes.Buffer
	_ = json.Indent(&b, []byte(finishedResponse(q, a)), "", "  ")
	return ascii(b.Bytes())
}

func ascii(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for _, r := range string(text) {
		switch {
		case r < utf8.RuneSelf:
			out = append(out, byte(r))
		case r > 0xFFFF:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return out
}

// responseEvent is an event whose data contains the event's name.
type responseEvent struct{ name, fields string }

// numbered returns the event with its data, which has the number n.
func (e event) numbered(n int) event {
	e.data = `{"type":"` + e.name + `","sequence_number":` + strconv.Itoa(n) + `,` + e.fields + `}`
	return e
}

func responseEvents(q *request, a *answer) iter.Seq[event] {
	return func(yield func(event) bool) {
		for e := range responseParts(q, a) {
			if !yield(event{
				name: e.name, fields: e.fields, token: e.name == "response.output_text.delta",
				final: e.name == "response.completed" || e.name == "response.incomplete",
			}) {
				return
			}
		}
	}
}

func responseParts(q *request, a *answer) iter.Seq[responseEvent] {
	part := `"item_id":"` + a.objectID("msg_") + `","output_index":0,"content_index":0`
	inProgress := `"response":` + responseObject(q, a, "in_progress", "", "null")
	head := []responseEvent{
		{"response.created", inProgress},
		{"response.in_progress", inProgress},
		{"response.output_item.added", `"output_index":0,"item":` + outputItem(a, "in_progress", "")},
		{"response.content_part.added", part + `,"part":` + outputText("")},
	}
	status, text := a.responseStatus(), a.text(0)
	foot := []responseEvent{
		{"response.output_text.done", part + `,"text":` + quote(text) + `,"logprobs":[]`},
		{"response.content_part.done", part + `,"part":` + outputText(text)},
		{"response.output_item.done", `"output_index":0,"item":` + outputItem(a, status, outputText(text))},
		{"response." + status, `"response":` + finishedResponse(q, a)},
	}
	return func(yield func(responseEvent) bool) {
		for _, e := range head {
			if !yield(e) {
				return
			}
		}
		for i, word := range a.words[0] {
			delta := part + `,"delta":` + quote(word) + `,"logprobs":[],"obfuscation":"` + obfuscation(i) + `"`
			if !yield(responseEvent{"response.output_text.delta", delta}) {
				return
			}
		}
		for _, e := range foot {
			if !yield(e) {
				return
			}
		}
	}
}
