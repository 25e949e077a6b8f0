package front

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"aoaigateway/handler/gateway"
)

// message is the text that the client sees. For an internal error it hides the cause, which
// only the log has.
func message(e *gateway.Error) string {
	if e.Kind == gateway.Internal || e.Message == "" {
		return "The gateway failed to serve the request. The response's X-Gateway-Request-Id helps its operators find out why."
	}
	return e.Message
}

// errorBody has the fields of API Management's errors and of OpenAI's errors, so that
// clients of both find the fields that they read.
func errorBody(e *gateway.Error) []byte {
	type openAI struct {
		Code    string  `json:"code"`
		Type    string  `json:"type"`
		Param   *string `json:"param"`
		Message string  `json:"message"`
		Limit   string  `json:"limit,omitempty"`
	}
	body, _ := json.Marshal(struct {
		StatusCode int    `json:"statusCode"`
		Message    string `json:"message"`
		Error      openAI `json:"error"`
	}{e.Kind.Status(), message(e), openAI{e.Code, e.Kind.Type(), nil, message(e), e.Limit}})
	return append(body, '\n')
}

// writeError sends e to the client. It returns an error if the client's connection fails.
func writeError(w http.ResponseWriter, e *gateway.Error) error {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64(math.Ceil(e.RetryAfter.Seconds())), 10))
		h.Set("Retry-After-Ms", strconv.FormatInt(int64(e.RetryAfter/time.Millisecond), 10))
	}
	if e.Allow != "" {
		h.Set("Allow", e.Allow)
	}
	body := errorBody(e)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(e.Kind.Status())
	_, err := w.Write(body)
	return err
}

// operationNotFound is API Management's answer to an unknown path, or to an unknown method
// of a known path. allow lists the methods that the path takes; empty = the path is
// unknown.
func operationNotFound(allow []string) *gateway.Error {
	e := gateway.OperationNotFound.Because(nil)
	if len(allow) > 0 {
		e.Allow = strings.Join(allow, ", ")
		e.Message += " This path takes " + e.Allow + "."
	}
	return e
}
