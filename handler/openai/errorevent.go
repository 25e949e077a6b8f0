package openai

import "encoding/json"

// ErrorEvent returns a stream event that reports an error, in the form that clients of the
// operation expect.
func ErrorEvent(kind Kind, code, message string) []byte {
	event := []byte("data: ")
	body, _ := json.Marshal(map[string]any{"error": map[string]any{"code": code, "type": "server_error", "param": nil, "message": message}})
	if kind == Responses {
		event = []byte("event: error\ndata: ")
		body, _ = json.Marshal(map[string]any{"type": "error", "code": code, "param": nil, "message": message})
	}
	return append(append(event, body...), "\n\n"...)
}
