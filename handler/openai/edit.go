package openai

import (
	"fmt"

	"github.com/tidwall/sjson"
)

// The functions below change only one member of the body. All other bytes stay as the
// client sent them.

// WithUsage returns the body of a stream request with the option to report usage.
func WithUsage(body []byte) ([]byte, error) {
	return edited(sjson.SetBytes(body, "stream_options.include_usage", true))
}

// WithModel returns the body with the region's deployment name as its model.
func WithModel(body []byte, deployment string) ([]byte, error) {
	return edited(sjson.SetBytes(body, "model", deployment))
}

// WithMaxOutput returns the body with an output cap. The caller has checked that the
// request has none.
func WithMaxOutput(kind Kind, body []byte, tokens int64) ([]byte, error) {
	name := map[Kind]string{Chat: "max_completion_tokens", Completions: "max_tokens", Responses: "max_output_tokens"}[kind]
	if name == "" {
		return body, nil
	}
	return edited(sjson.SetBytes(body, name, tokens))
}

func edited(body []byte, err error) ([]byte, error) {
	if err != nil {
		return nil, fmt.Errorf("openai: the request body cannot be edited: %w", err)
	}
	return body, nil
}
