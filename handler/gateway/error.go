package gateway

import (
	"errors"
	"net/http"
	"time"
)

// Kind determines the HTTP status and OpenAI's error type of a fault.
type Kind int

// The kinds of faults. The zero Kind is Internal, because an error without a type is a
// defect of the gateway.
const (
	Internal        Kind = iota // a defect of the gateway; its text never reaches a client
	BadRequest                  // the request cannot be understood
	Unauthenticated             // no key, an unknown key, a key that must not be used any more, or an invalid token
	Forbidden                   // the caller is known but not allowed to use the model, role or product
	QuotaExceeded               // a limit longer than a minute is used up
	RateLimited                 // a limit per minute is used up, or every region throttles the gateway
	NotFound                    // there is no such operation, deployment or stored object
	TooLarge                    // the body is larger than the limit
	HeaderTooLarge              // the URL and headers are larger than the limit
	BodyIncomplete              // the body broke off or paused for too long
	Unsupported                 // an operation that the gateway does not support (realtime)
	BadGateway                  // a region sent an answer that cannot be passed on
	Unavailable                 // no region or no storage can be reached, or the journal's backlog is full; a later try may succeed
	TimedOut                    // no region answered in time
	ClientGone                  // the client closed the connection before the end
)

// Error is the only error type that clients see. Message is written for the client and must
// be safe to show. Err is for the log only.
type Error struct {
	Kind       Kind
	Code       string        // code of the fault: error.code for OpenAI's clients, LastErrorReason in API Management
	Message    string        // what was wrong, where, and what would be right
	RetryAfter time.Duration // how long the client should wait; 0 = the answer does not say
	Limit      string        // name of the limit that refused the request; empty = no limit did
	Allow      string        // the methods that the path has, if the request used another method
	Err        error         // cause, for the log
}

// kinds has the HTTP status and OpenAI's error.type of each Kind.
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
	ClientGone:      {499, "client_closed_request"}, // the number that nginx uses; no client receives it
}

// Status returns the HTTP status of errors of this kind.
func (k Kind) Status() int { return kinds[k].status }

// Type returns OpenAI's error.type of errors of this kind.
func (k Kind) Type() string { return kinds[k].name }

// WithRetry sets how long the client should wait before it tries again.
func (e *Error) WithRetry(wait time.Duration) *Error { e.RetryAfter = wait; return e }

// WithLimit sets the name of the limit that refused the request.
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

// KindOf returns the kind of the first *Error in the chain of err, or Internal if there is
// none.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}
