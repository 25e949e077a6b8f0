package openai

import (
	"fmt"

	"github.com/tidwall/sjson"
)

// The edits below change only the named member. Every other byte stays as the client sent it.

// WithUsage asks for the usage chunk of a stream.
func WithUsage(body []byte) ([]byte, error) {
	return edited(sjson.SetBytes(body, "stream_options.include_usage", true))
}

// WithModel writes the region's deployment name into the body.
func WithModel(body []byte, deployment string) ([]byte, error) {
	return edited(sjson.SetBytes(body, "model", deployment))
}

// WithMaxOutput caps the output of a request that names no cap.
func WithMaxOutput(kind Kind, body []byte, tokens int64) ([]byte, error) {
	name := map[Kind]string{Chat: "max_completion_tokens", Completions: "max_tokens", Responses: "max_output_tokens"}[kind]
	if name == "" {
		return body, nil
	}
	return edited(sjson.SetBytes(body, name, tokens))
}

func edited(body []byte, err error) ([]byte, error) {
	if err != nil {
		return nil, fmt.Errorf("openai: edit request: %w", err)
	}
	return body, nil
}
