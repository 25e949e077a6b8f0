package proxy

import (
	"encoding/json"
	"errors"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/openai"
)

// errorEvent is err as an event in the form that the operation's clients know.
func errorEvent(kind openai.Kind, err error) []byte {
	code, message := "server_error", "The answer could not be completed."
	if e, ok := errors.AsType[*gateway.Error](err); ok {
		code, message = e.Code, e.Message
	}
	event := []byte("data: ")
	body, _ := json.Marshal(map[string]any{"error": map[string]any{"code": code, "type": "server_error", "param": nil, "message": message}})
	if kind == openai.Responses {
		event = []byte("event: error\ndata: ")
		body, _ = json.Marshal(map[string]any{"type": "error", "code": code, "param": nil, "message": message})
	}
	return append(append(event, body...), "\n\n"...)
}
