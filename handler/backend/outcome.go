package backend

import (
	"net/http"
	"time"

	"aoaigateway/handler/backoff"
	"aoaigateway/handler/deployment"
)

// outcome is how one attempt ended.
type outcome int

const (
	answered         outcome = iota // the region answered; that may be an error that the client itself caused
	throttled                       // 429, or 503 with a time to wait
	serverError                     // 408, 499, 5xx other than the next
	unavailable                     // 502, 503, 504
	conflict                        // 409 with a time to wait; a 409 without one is an answer
	denied                          // 401, 403: the region refused the gateway's credential
	unsent                          // nothing was sent, because the gateway could not get its credential
	notConnected                    // connection refused, host unreachable or unknown, TLS failure
	broken                          // connection reset or invalid data before the commit point
	firstByteTimeout                // the first-byte timeout ended
	errorEvent                      // the stream is an error before any output
	missing                         // the region does not have the deployment
	stale                           // the region had closed the idle connection before it could see the request
	hedgeLost                       // the other attempt won
	clientLeft                      // the client disconnected
	notReserved                     // the limits did not allow a hedge, so it was not sent
)

// meaning says what an outcome means for the state of the deployment.
type meaning int

const (
	nothing     meaning = iota // it says nothing about the deployment, or belongs to the request
	works                      // the deployment serves requests; reported with the header, not here
	refuses                    // the deployment is throttled
	unreachable                // evidence that it is unavailable
	doubtful                   // the same, if another region answers the same request
	lacks                      // the region lacks the deployment, if another region answers the same request
)

// decision says what an outcome means.
type decision struct {
	meaning    meaning
	failover   bool // try the next region
	keepCharge bool // the attempt may have used tokens, so its charge stays
	unclear    bool // the region may have carried out the request
}

var decisions = map[outcome]decision{
	answered:         {works, false, false, false},
	throttled:        {refuses, true, false, false},
	serverError:      {nothing, true, false, false},
	unavailable:      {doubtful, true, false, false},
	conflict:         {nothing, true, false, false},
	denied:           {nothing, true, false, false},
	unsent:           {nothing, true, false, false},
	notConnected:     {unreachable, true, false, false},
	broken:           {doubtful, true, true, true},
	firstByteTimeout: {doubtful, true, true, true},
	errorEvent:       {nothing, true, false, false},
	missing:          {lacks, true, false, false},
	stale:            {nothing, true, true, true},
	hedgeLost:        {nothing, false, true, false},
	clientLeft:       {nothing, false, true, false},
	notReserved:      {nothing, false, false, false},
}

// reasons are the names in the record of the outcomes that follow from a status code.
var reasons = map[outcome]string{
	throttled: "throttled", serverError: "server-error", unavailable: "server-error", denied: "credential-refused", conflict: "conflict",
	missing: "deployment-missing",
}

func classify(status int, h http.Header) outcome {
	wait, stated := backoff.RetryAfter(h)
	switch {
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable && stated:
		return throttled
	case status == http.StatusBadGateway, status == http.StatusServiceUnavailable, status == http.StatusGatewayTimeout:
		return unavailable
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
	outcome    outcome
	reason     string             // for the record: throttled, server-error, connect-failed …
	wait       time.Duration      // the time to wait that the region named; 0 = none
	refusal    deployment.Refusal // the same with what else a refusal says; only for the outcome throttled
	err        error
	connection string  // the connection that broke
	answer     *Answer // the region's own error answer; the client gets it if no other region answers
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
// answer if there is one, otherwise the later one. That a region lacks the deployment counts
// only if all regions say so.
func preferred(earlier, later failure) failure {
	if later.answer == nil && earlier.answer != nil && earlier.outcome != missing ||
		later.outcome == missing && earlier.reason != "" && earlier.outcome != missing {
		later.discard()
		return earlier
	}
	earlier.discard()
	return later
}
