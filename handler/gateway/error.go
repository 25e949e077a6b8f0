package gateway

import (
	"errors"
	"net/http"
	"time"
)

// Kind groups faults by the HTTP status and the OpenAI error type they are rendered as.
type Kind int

// The kinds of failure. The zero Kind is Internal: an error nobody typed is ours.
const (
	Internal        Kind = iota // a fault of ours; its text never reaches a client
	BadRequest                  // the request cannot be understood
	Unauthenticated             // no key, a wrong key, a key out of service, a bad token
	Forbidden                   // known caller, not allowed: model, role, address
	QuotaExceeded               // a limit longer than a minute is used up
	RateLimited                 // a limit per minute is used up, or every region throttles
	NotFound                    // no such operation, deployment or stored object
	TooLarge                    // the body is over the limit
	HeaderTooLarge              // the headers are over the limit
	BodyIncomplete              // the client's body ended early or came too slowly
	Unsupported                 // known and deliberately not carried (realtime)
	BadGateway                  // a region answered what a client must not see
	Unavailable                 // no region, no storage, or a full backlog: try again later
	TimedOut                    // no region answered in time
	ClientGone                  // the client left; nobody reads the answer
)

// Error is the one error type that crosses packages. Message is written for the
// client and is safe to show; Err is for the log only.
type Error struct {
	Kind       Kind
	Code       string        // of the fault: OpenAI's error.code and API Management's LastErrorReason
	Message    string        // what was wrong, where, what would be right
	RetryAfter time.Duration // 0 = no advice
	Limit      string        // name of the limit that refused; may be empty
	Allow      string        // methods the path has, when the method was the mistake
	Err        error         // cause, for the log
}

// kinds holds status and OpenAI's error.type for each Kind.
var kinds = map[Kind]struct {
	status int
	name   string
}{
	Internal:        {http.StatusInternalServerError, "server_error"},
	BadRequest:      {http.StatusBadRequest, "invalid_request_error"},
	Unauthenticated: {http.StatusUnauthorized, "authentication_error"},
	Forbidden:       {http.StatusForbidden, "permission_error"},
	QuotaExceeded:   {http.StatusForbidden, "insufficient_quota"},
	RateLimited:     {http.StatusTooManyRequests, "rate_limit_error"},
	NotFound:        {http.StatusNotFound, "invalid_request_error"},
	TooLarge:        {http.StatusRequestEntityTooLarge, "invalid_request_error"},
	HeaderTooLarge:  {http.StatusRequestHeaderFieldsTooLarge, "invalid_request_error"},
	BodyIncomplete:  {http.StatusBadRequest, "invalid_request_error"},
	Unsupported:     {http.StatusNotImplemented, "invalid_request_error"},
	BadGateway:      {http.StatusBadGateway, "server_error"},
	Unavailable:     {http.StatusServiceUnavailable, "server_error"},
	TimedOut:        {http.StatusGatewayTimeout, "server_error"},
	ClientGone:      {499, "client_closed_request"}, // nginx's number; no client reads it
}

// Status is the HTTP status that errors of this kind are rendered with.
func (k Kind) Status() int { return kinds[k].status }

// Type is OpenAI's error.type.
func (k Kind) Type() string { return kinds[k].name }

// WithRetry sets how long the client should wait.
func (e *Error) WithRetry(wait time.Duration) *Error { e.RetryAfter = wait; return e }

// WithLimit sets the name of the limit that refused.
func (e *Error) WithLimit(name string) *Error { e.Limit = name; return e }

// WithCause sets the cause for the log.
func (e *Error) WithCause(err error) *Error { e.Err = err; return e }

func (e *Error) Error() string {
	if e.Err != nil {
		return e.Message + ": " + e.Err.Error()
	}
	return e.Message
}

func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of the first *Error in err's chain; any other error is Internal.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}
