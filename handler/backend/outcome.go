package backend

import (
	"net/http"
	"time"
)

// outcome is how one attempt ended.
type outcome int

const (
	answered         outcome = iota // the region answered; that may be an error that the client itself caused
	throttled                       // 429
	serverError                     // 408, 499, 5xx
	conflict                        // 409 with a time to wait; a 409 without one is an answer
	denied                          // 401, 403: the region refused the gateway's credential
	unsent                          // nothing was sent, because the gateway could not get its credential
	notConnected                    // connection refused, host unreachable or unknown, TLS failure
	broken                          // connection reset or invalid data before the commit point
	firstByteTimeout                // the first-byte timeout ended
	errorEvent                      // the first event of the stream is an error
	stale                           // the region had closed the idle connection before it could see the request
	hedgeLost                       // the other attempt won
	clientLeft                      // the client disconnected
	notReserved                     // the limits did not allow a hedge, so it was not sent
)

// trip says what an outcome means for the breaker.
type trip int

const (
	ignore  trip = iota // says nothing about the region
	success             // the region works
	counted             // one failure; the breaker opens at once if the region named a time to wait
	tripNow             // the breaker opens at once
)

// decision says what an outcome means for the call.
type decision struct {
	trip       trip
	failover   bool // try the next region
	keepCharge bool // the attempt may have used tokens, so its charge stays
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

// reasons are the names in the record of the outcomes that follow from a status code.
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

// failure describes an attempt without an answer.
type failure struct {
	outcome outcome
	reason  string        // for the record: throttled, server-error, connect-failed …
	wait    time.Duration // the time to wait that the region named; 0 = none
	err     error
	answer  *Answer // the region's own error answer; the client gets it if no other region answers
}

func (f failure) isUnauthorized() bool {
	return f.outcome == denied && f.answer.Status == http.StatusUnauthorized
}

func (f failure) discard() {
	if f.answer != nil {
		f.answer.Close()
	}
}

// preferred returns the failure that tells the client more: one with a region's own error
// answer if there is one, otherwise the later one.
func preferred(earlier, later failure) failure {
	if later.answer == nil && earlier.answer != nil {
		return earlier
	}
	earlier.discard()
	return later
}
