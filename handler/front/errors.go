package front

import (
	"encoding/json"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"aoaigateway/handler/gateway"
)

func message(e *gateway.Error) string {
	if e.Kind == gateway.Internal || e.Message == "" {
		return "The gateway failed to serve the request. The response's X-Gateway-Request-Id helps its operators find out why."
	}
	return e.Message
}

// errorBody is API Management's error shape and OpenAI's in one, so that clients of
// either find what they look for.
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

// writeError renders e. The result is nil, or the error of the client's connection.
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

// operationNotFound is API Management's answer to a path or a method it does not know.
func operationNotFound(allow []string) *gateway.Error {
	e := gateway.OperationNotFound.Because(nil)
	if len(allow) > 0 {
		e.Allow = strings.Join(allow, ", ")
		e.Message += " This path takes " + e.Allow + "."
	}
	return e
}

// checkPath refuses what two readers of a path could understand differently.
func checkPath(u *url.URL) error {
	escaped := strings.ToLower(u.EscapedPath())
	for _, bad := range []string{"%2f", "%5c", "%00", "%25", "\\"} {
		if strings.Contains(escaped, bad) {
			return badPath()
		}
	}
	inner := strings.TrimSuffix(strings.TrimPrefix(u.Path, "/"), "/")
	for seg := range strings.SplitSeq(inner, "/") {
		if seg == "" || seg == "." || seg == ".." {
			return badPath()
		}
	}
	return nil
}

func badPath() error {
	return gateway.OperationNotFound.New("%s A path must not hold encoded slashes, backslashes, empty segments or dot segments.", gateway.OperationNotFound.Message)
}

func checkHeader(r *http.Request) error {
	n := len(r.RequestURI)
	for name, values := range r.Header {
		for _, v := range values {
			n += len(name) + len(v)
		}
	}
	if n > MaxHeader {
		return gateway.RequestHeaderFieldsTooLarge.New("The URL and the headers of the request are %d bytes long; this gateway takes at most %d.", n, MaxHeader)
	}
	return nil
}
