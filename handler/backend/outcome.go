package backend

import (
	"net/http"
	"time"
)

// outcome is how one attempt ended.
type outcome int

const (
	answered         outcome = iota // the region's answer, good or refusing the client's own mistake
	throttled                       // 429
	serverError                     // 408, 499, 5xx
	conflict                        // 409 that names a time; without one it is an answer
	denied                          // 401, 403: the gateway's own credential was refused
	unsent                          // nothing was sent: the credential cannot be fetched
	notConnected                    // refused, unreachable, no such host, TLS failure
	broken                          // reset or garbage before the commit point
	firstByteTimeout                // nothing came in time
	errorEvent                      // a stream whose first event is an error
	stale                           // the region had closed the connection before it saw the request
	hedgeLost                       // another region was faster
	clientLeft                      // the client is gone
	notReserved                     // a hedge whose tokens could not be reserved
)

// trip is what an outcome tells the breaker.
type trip int

const (
	ignore  trip = iota // nothing about the region
	success             // the region answers
	counted             // a failure; it trips at once if the region named a time
	tripNow             // the region is closed at once
)

// decision is what an outcome means.
type decision struct {
	trip       trip
	failover   bool // the next region is asked
	keepCharge bool // tokens may have been used: the charge stays
}

var decisions = map[outcome]decision{
	answered:         {success, false, false},
	throttled:        {tripNow, true, false},
	serverError:      {counted, true, true},
	conflict:         {tripNow, true, false},
	denied:           {success, true, false},
	unsent:           {ignore, true, false},
	notConnected:     {tripNow, true, false},
	broken:           {counted, true, true},
	firstByteTimeout: {tripNow, true, true},
	errorEvent:       {counted, true, true},
	stale:            {ignore, true, true},
	hedgeLost:        {ignore, false, true},
	clientLeft:       {ignore, false, true},
	notReserved:      {ignore, false, false},
}

// reasons name in the record the outcomes that a status decides.
var reasons = map[outcome]string{
	throttled: "throttled", serverError: "server-error", denied: "credential-refused", conflict: "conflict",
}

func classify(status int, wait time.Duration) outcome {
	switch {
	case status == http.StatusTooManyRequests:
		return throttled
	case status == http.StatusRequestTimeout, status == 499, status >= 500:
		return serverError
	case status == http.StatusConflict && wait > 0:
		return conflict
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return denied
	default:
		return answered
	}
}

// failure is an attempt that did not answer.
type failure struct {
	outcome outcome
	reason  string        // for the record: throttled, server-error, connect-failed …
	wait    time.Duration // named by the region
	err     error
	answer  *Answer // the region's own error, passed on when no other region answers
}

func (f failure) isUnauthorized() bool {
	return f.outcome == denied && f.answer.Status == http.StatusUnauthorized
}

func (f failure) discard() {
	if f.answer != nil {
		f.answer.Close()
	}
}

// preferred returns the failure that tells the client more: one with a region's own
// message before one without, otherwise the later one.
func preferred(earlier, later failure) failure {
	if later.answer == nil && earlier.answer != nil {
		return earlier
	}
	earlier.discard()
	return later
}
