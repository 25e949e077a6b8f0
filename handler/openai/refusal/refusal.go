// Package refusal reads what a region says of its own answer: whether an event of a stream is
// output yet, and why it refuses or fails.
package refusal

import (
	"bytes"

	"github.com/tidwall/gjson"

	"aoaigateway/handler/openai"
)

// IsPrelude reports whether an event of a stream comes before any output: a comment, an
// event without data, a keep-alive event, the first events of a Responses stream, the report
// on the prompt, or a chunk of chat or completions whose choices are all empty. Unknown
// events count as output.
func IsPrelude(name, data []byte) bool {
	data = bytes.TrimSpace(data)
	if len(data) == 0 || string(data) == "null" || string(data) == "{}" {
		return true
	}
	if len(name) == 0 && data[0] == '{' {
		name = []byte(gjson.GetBytes(data, "type").Str)
	}
	switch string(name) {
	case "response.created", "response.queued", "response.in_progress", "keepalive", "keep-alive", "ping", "heartbeat":
		return true
	case "":
		return hasNoOutput(data)
	default:
		return false
	}
}

// hasNoOutput reports whether data is a chunk of chat or completions without output.
func hasNoOutput(data []byte) bool {
	choices := gjson.GetBytes(data, "choices")
	if !choices.IsArray() {
		return false
	}
	empty := true
	choices.ForEach(func(_, choice gjson.Result) bool {
		choice.ForEach(func(key, value gjson.Result) bool {
			switch key.Str {
			case "index", "logprobs", "content_filter_results":
			case "delta":
				empty = empty && isEmptyDelta(value)
			default: // text, finish_reason and unknown members
				empty = empty && isEmpty(value)
			}
			return empty
		})
		return empty
	})
	return empty
}

func isEmptyDelta(delta gjson.Result) bool {
	empty := true
	delta.ForEach(func(key, value gjson.Result) bool {
		empty = empty && (key.Str == "role" || isEmpty(value))
		return empty
	})
	return empty
}

func isEmpty(v gjson.Result) bool {
	switch v.Raw {
	case "", "null", `""`, "[]", "{}":
		return true
	default:
		return false
	}
}

// Kind is why a region ended a stream before any output.
type Kind int

// The values of Kind.
const (
	Other       Kind = iota
	Throttled        // as status 429 says it
	Unavailable      // as status 503 says it
	Client           // the request is the reason, so every region would say the same
)

// throttledCodes and unavailableCodes are codes and types of errors.
var (
	throttledCodes = map[string]bool{
		"429": true, "too_many_requests": true, "rate_limit_exceeded": true, "rate_limit_error": true, "RateLimitReached": true,
		"insufficient_quota": true, "tokens": true, "requests": true, "TooManyRequests": true,
	}
	unavailableCodes = map[string]bool{
		"502": true, "503": true, "504": true, "service_unavailable": true, "server_is_overloaded": true, "overloaded": true,
		"overloaded_error": true, "slow_down": true, "ServiceUnavailable": true,
	}
)

// InStream reads the error of an event: of an error event, of a chunk with an error, or
// of response.failed. It returns false if the event names none.
func InStream(data []byte) (kind Kind, ok bool) {
	e := gjson.GetBytes(data, "error")
	if r := gjson.GetBytes(data, "response.error"); !e.IsObject() && r.IsObject() {
		e = r
	}
	if !e.IsObject() && gjson.GetBytes(data, "type").Str == "error" {
		e = gjson.ParseBytes(data)
	}
	if !e.IsObject() {
		return Other, false
	}
	code, class := e.Get("code").String(), e.Get("type").String()
	switch {
	case throttledCodes[code] || throttledCodes[class]:
		return Throttled, true
	case unavailableCodes[code] || unavailableCodes[class]:
		return Unavailable, true
	case openai.ClientsFault([]byte(e.Raw)):
		return Client, true
	default:
		return Other, true
	}
}

// IsMissingDeployment reports whether an error answer says that the region does not have the
// deployment: 404 on classic paths, 400 or 404 on v1, or 410 for a retired model.
func IsMissingDeployment(status int, body []byte) bool {
	if status != 400 && status != 404 && status != 410 {
		return false
	}
	code, message := openai.ParseError(body)
	switch code {
	case "DeploymentNotFound", "model_not_found", "ModelDeprecated", "ModelRetired", "model_retired", "ModelNotFound":
		return true
	}
	lower := bytes.ToLower([]byte(message))
	for _, words := range []string{
		"could not find an existing deployment", "api deployment for this resource does not exist",
		"the model has been retired", "model is retired",
		"not enabled in this region",
	} {
		if bytes.Contains(lower, []byte(words)) {
			return true
		}
	}
	return false
}
