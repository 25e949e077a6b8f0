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

// rendered is how a kind of error looks on the wire: status and OpenAI's error.type.
type rendering struct {
	status int
	kind   string
}

var renderings = map[gateway.Kind]rendering{
	gateway.Internal:        {http.StatusInternalServerError, "server_error"},
	gateway.BadRequest:      {http.StatusBadRequest, "invalid_request_error"},
	gateway.Unauthenticated: {http.StatusUnauthorized, "authentication_error"},
	gateway.Forbidden:       {http.StatusForbidden, "permission_error"},
	gateway.QuotaExceeded:   {http.StatusForbidden, "insufficient_quota"},
	gateway.RateLimited:     {http.StatusTooManyRequests, "rate_limit_error"},
	gateway.NotFound:        {http.StatusNotFound, "invalid_request_error"},
	gateway.TooLarge:        {http.StatusRequestEntityTooLarge, "invalid_request_error"},
	gateway.HeaderTooLarge:  {http.StatusRequestHeaderFieldsTooLarge, "invalid_request_error"},
	gateway.BodyIncomplete:  {http.StatusBadRequest, "invalid_request_error"},
	gateway.Unsupported:     {http.StatusNotImplemented, "invalid_request_error"},
	gateway.BadGateway:      {http.StatusBadGateway, "server_error"},
	gateway.Unavailable:     {http.StatusServiceUnavailable, "server_error"},
	gateway.TimedOut:        {http.StatusGatewayTimeout, "server_error"},
	gateway.ClientGone:      {499, "client_closed_request"}, // nginx's number; nobody reads it
}

func status(e *gateway.Error) int { return renderings[e.Kind].status }

func reason(e *gateway.Error) string {
	switch {
	case e.Reason != "":
		return e.Reason
	case e.Code != "":
		return e.Code
	default:
		return http.StatusText(status(e))
	}
}

func message(e *gateway.Error) string {
	if e.Kind == gateway.Internal || e.Message == "" {
		return "The gateway failed to serve the request. The response's X-Gateway-Request-Id helps its operators find out why."
	}
	return e.Message
}

// errorBody is API Management's error shape and OpenAI's in one, so that clients of
// either find what they look for.
func errorBody(e *gateway.Error) []byte {
	code := e.Code
	if code == "" {
		code = e.Reason
	}
	if code == "" {
		code = strconv.Itoa(status(e))
	}
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
	}{status(e), message(e), openAI{code, renderings[e.Kind].kind, nil, message(e), e.Limit}})
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
	w.WriteHeader(status(e))
	_, err := w.Write(body)
	return err
}

// operationNotFound is API Management's answer to a path or a method it does not know.
func operationNotFound(allow []string) *gateway.Error {
	e := &gateway.Error{Kind: gateway.NotFound, Reason: "OperationNotFound", Message: "Unable to match incoming request to an operation."}
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
	return &gateway.Error{Kind: gateway.NotFound, Reason: "OperationNotFound", Message: "Unable to match incoming request to an operation. A path must not hold encoded slashes, backslashes, empty segments or dot segments."}
}

func checkHeader(r *http.Request) error {
	n := len(r.RequestURI)
	for name, values := range r.Header {
		for _, v := range values {
			n += len(name) + len(v)
		}
	}
	if n > MaxHeader {
		return &gateway.Error{Kind: gateway.HeaderTooLarge, Code: "RequestHeaderFieldsTooLarge", Message: "The request's URL and headers are " + strconv.Itoa(n) + " bytes long; this gateway takes " + strconv.Itoa(MaxHeader) + "."}
	}
	return nil
}
