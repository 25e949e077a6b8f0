package gateway

import (
	"errors"
	"time"
)

// Kind says what went wrong in the gateway's own terms. Only front knows which
// HTTP status a kind is rendered as.
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
	Unavailable                 // no region, no storage, no room: try again later
	TimedOut                    // no region answered in time
	ClientGone                  // the client left; nobody reads the answer
)

// Error is the one error type that crosses packages. Message is written for the
// client and is safe to show; Err is for the log only.
type Error struct {
	Kind       Kind
	Code       string        // OpenAI's error.code, such as DeploymentNotFound; may be empty
	Reason     string        // API Management's LastErrorReason, such as SubscriptionKeyInvalid; may be empty
	Message    string        // what was wrong, where, what would be right
	RetryAfter time.Duration // 0 = no advice
	Limit      string        // name of the limit that refused; may be empty
	Allow      string        // methods the path has, when the method was the mistake
	Err        error         // cause, for the log
}

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
