package aoaisim

import (
	"iter"
	"net/http"
	"strconv"
	"sync"
)

func (u Usage) responses() string {
	return `{"input_tokens":` + itoa(u.Prompt) + `,"input_tokens_details":{"cached_tokens":` + itoa(u.Cached) + `}` +
		`,"output_tokens":` + itoa(u.Completion) + `,"output_tokens_details":{"reasoning_tokens":` + itoa(u.Reasoning) + `}` +
		`,"total_tokens":` + itoa(u.Total) + `}`
}

// outputItem returns the output of a response, which is one message.
func outputItem(a *answer, status, content string) string {
	return `{"id":"msg_` + a.id + `","type":"message","status":"` + status + `","content":[` + content + `],"role":"assistant"}`
}

func outputText(s string) string {
	return `{"type":"output_text","annotations":[],"logprobs":[],"text":` + quote(s) + `}`
}

func responseObject(q *request, a *answer, status, output, usage string) string {
	incomplete, previous := "null", "null"
	if status == "incomplete" {
		incomplete = `{"reason":"max_output_tokens"}`
	}
	if q.Previous != "" {
		previous = quote(q.Previous)
	}
	return `{"id":"resp_` + a.id + `","object":"response","created_at":` + itoa(a.created) + `,"status":"` + status + `","background":false` +
		`,"content_filters":null,"error":null,"incomplete_details":` + incomplete + `,"instructions":null,"max_output_tokens":null` +
		`,"model":` + quote(q.model) + `,"output":[` + output + `],"parallel_tool_calls":true,"previous_response_id":` + previous +
		`,"reasoning":{"effort":null,"summary":null},"service_tier":"default","store":true,"temperature":1.0,"text":{"format":{"type":"text"}}` +
		`,"tool_choice":"auto","tools":[],"top_p":1.0,"truncation":"disabled","usage":` + usage + `,"user":null,"metadata":{}}`
}

func (a *answer) responseStatus() string {
	if a.finish == "length" {
		return "incomplete"
	}
	return "completed"
}

func wholeResponse(q *request, a *answer) []byte {
	status := a.responseStatus()
	return []byte(responseObject(q, a, status, outputItem(a, status, outputText(a.text(0))), a.usage.responses()))
}

// responseEvent is an event whose data contains the event's name.
type responseEvent struct{ name, fields string }

func (e responseEvent) numbered(n int) event {
	return event{
		name: e.name, token: e.name == "response.output_text.delta",
		final: e.name == "response.completed" || e.name == "response.incomplete",
		data:  `{"type":"` + e.name + `","sequence_number":` + strconv.Itoa(n) + `,` + e.fields + `}`,
	}
}

func responseEvents(q *request, a *answer) iter.Seq[event] {
	return func(yield func(event) bool) {
		n := 0
		for e := range responseParts(q, a) {
			if !yield(e.numbered(n)) {
				return
			}
			n++
		}
	}
}

func responseParts(q *request, a *answer) iter.Seq[responseEvent] {
	part := `"item_id":"msg_` + a.id + `","output_index":0,"content_index":0`
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
		{"response." + status, `"response":` + string(wholeResponse(q, a))},
	}
	return func(yield func(responseEvent) bool) {
		for _, e := range head {
			if !yield(e) {
				return
			}
		}
		for _, word := range a.words[0] {
			if !yield(responseEvent{"response.output_text.delta", part + `,"delta":` + quote(word) + `,"logprobs":[]`}) {
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

// objectStore remembers the objects created in this region, so that a request for an object
// of another region fails.
type objectStore struct {
	mu   sync.Mutex
	made map[string][]byte
}

func (s *objectStore) put(id string, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.made == nil || len(s.made) > 10000 {
		s.made = map[string][]byte{}
	}
	s.made[id] = body
}

func (s *objectStore) get(id string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.made[id]
	return b, ok
}

// knows returns an error if the id does not belong to a response of this region, as the
// service does.
func (s *objectStore) knows(id string) *apiError {
	if _, ok := s.get(id); ok || id == "" {
		return nil
	}
	e := invalid("Previous response with id '"+id+"' not found.", "previous_response_id", "previous_response_not_found")
	e.status = http.StatusBadRequest
	return e
}
