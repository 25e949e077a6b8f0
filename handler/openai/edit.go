package openai

import (
	"fmt"
	"strings"

	"github.com/tidwall/sjson"
)

// The edits below change the named member only; every other byte stays as the client sent it.

// WithUsage asks for the usage chunk of a stream.
func WithUsage(body []byte) ([]byte, error) {
	return edited(sjson.SetBytes(body, "stream_options.include_usage", true))
}

// WithModel puts the region's deployment name into the body.
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

// LiftVersion returns the api-version to use upstream: the client's, or floor when the
// client's is an older dated one. Names that are no date (preview, latest) stay.
func LiftVersion(client, floor string) string {
	const date = len("2024-10-21")
	if len(client) < date || len(floor) < date || strings.Count(client[:date], "-") != 2 || client[0] != '2' {
		return client
	}
	older := client[:date] < floor[:date] ||
		client[:date] == floor[:date] && len(client) > date && len(floor) == date
	if older {
		return floor
	}
	return client
}
