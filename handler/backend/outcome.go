package backend

import (
	"fmt"
	"math"
	"net/http"
	"time"

	"aoaigateway/handler/breaker"
	"aoaigateway/handler/gateway"
)

// outcome is what came of one attempt.
type outcome int

const (
	answered         outcome = iota // the region's answer, good or the client's own fault
	throttled                       // 429
	serverError                     // 408, 499, 5xx
	conflict                        // 409 that names a time; without one it is an answer
	denied                          // 401, 403: our credential
	unsent                          // nothing could be sent: our credential cannot be fetched
	notConnected                    // refused, unreachable, no name, TLS failure
	broken                          // reset or garbage before the commit point
	firstByteTimeout                // no first byte in time
	errorEvent                      // a stream that opens with an error event
	stale                           // the region had closed the connection before it saw the request
	hedgeLost                       // another region was faster
	clientLeft                      // nobody waits any more
	notReserved                     // not allowed: its tokens could not be reserved
)

type trip int

const (
	ignore trip = iota // it says nothing about the region
	success
	counted // a few within a window; at once when the region named a time
	tripNow
)

// decision says what an outcome means for the breaker and for the request.
type decision struct {
	trip       trip
	failover   bool // try the next region
	keepCharge bool // tokens may have been used: the reservation stays charged
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
	reason  string        // for the record: throttled, server-error, refused, …
	wait    time.Duration // named by the region
	err     error
	answer  *Answer // the region's own error, to pass on when nobody does better
}

func (f failure) discard() {
	if f.answer != nil {
		f.answer.Close()
	}
}

// worse keeps what is more useful to the client: a region's own words before our silence,
// the later before the earlier.
func preferred(a, b failure) failure {
	if b.answer == nil && a.answer != nil {
		return a
	}
	a.discard()
	return b
}

// exhausted is the answer when no region is left.
func exhausted(call *Call, f *candidates, last failure) (*Answer, error) {
	wait, all, some := f.throttling()
	if call.Pin != "" {
		return pinnedFailed(call, f, last, wait, all)
	}
	e := gateway.BackendConnectionFailure.Because(last.err).WithRetry(max(wait, time.Second))
	seconds := int(math.Ceil(e.RetryAfter.Seconds()))
	switch {
	case all:
		e = gateway.RateLimitExceeded.Because(last.err).WithRetry(max(wait, time.Millisecond))
		e.Message = fmt.Sprintf("All regions that serve this model are at their limit. Try again in %d seconds.", seconds)
	case some:
		e.Message = fmt.Sprintf("Of the regions that serve this model some are at their limit, and no other can answer now. Try again in %d seconds.", seconds)
	case last.outcome == denied:
		e = gateway.BackendCredentialRefused.Because(last.err)
		e.Message = "The region refused the gateway's own credential. The gateway's operators must renew it."
	case last.outcome == unsent:
		e.Message = "The gateway cannot fetch its own credential for the region now. Its operators find the reason in its log."
	case last.answer != nil:
		return last.answer, nil
	case last.outcome == firstByteTimeout:
		e = gateway.Timeout.Because(last.err)
		e.Message = "No region began to answer in time. Ask for a stream (\"stream\": true) to get long answers as they are written."
	default:
		e.Message = "No region that serves this model can be reached now."
	}
	last.discard()
	return nil, e
}

// pinnedFailed is the answer when the one region that could answer did not: its own words
// if it has any, else why nobody else was asked.
func pinnedFailed(call *Call, f *candidates, last failure, wait time.Duration, throttled bool) (*Answer, error) {
	e := gateway.BackendConnectionFailure.Because(last.err).WithRetry(max(wait, time.Second))
	what := "cannot be reached now"
	switch {
	case last.outcome == denied:
		e, what = gateway.BackendCredentialRefused.Because(last.err), "refused the gateway's own credential, which its operators must renew"
	case last.outcome == unsent:
		what = "cannot be asked now: the gateway cannot fetch its own credential for it"
	case last.answer != nil:
		last.answer.Pinned = call.PinReason
		return last.answer, nil
	case len(f.list) == 0:
		what = "does not serve this model, or is not in the gateway's settings any more"
	case throttled:
		e, what = gateway.RateLimitExceeded.Because(last.err).WithRetry(e.RetryAfter), "is at its limit"
	case last.outcome == firstByteTimeout:
		e, what = gateway.Timeout.Because(last.err).WithRetry(e.RetryAfter), "did not begin to answer in time"
	}
	last.discard()
	e.Message = fmt.Sprintf("The region that %s %s. No other region can answer.", call.PinReason, what)
	return nil, e
}

// probeTime is about how long a half-open breaker's probe takes to tell.
const probeTime = time.Second

// load says how long it is until a region may be willing again, and whether it is load
// that keeps all of them, or some, from answering.
func (f *candidates) throttling() (wait time.Duration, all, some bool) {
	wait, all = math.MaxInt64, len(f.list) > 0
	for _, t := range f.list {
		state, w, busy := t.breaker.Status()
		if state == breaker.HalfOpen {
			w = probeTime
		}
		came := f.lastOutcome[t.Name]
		busy = busy && state != breaker.Closed || came == throttled
		all, some = all && busy, some || busy
		if state != breaker.Closed || came != throttled && came != denied && came != unsent {
			wait = min(wait, w)
		}
	}
	if wait == math.MaxInt64 {
		wait = 0
	}
	return (wait + time.Millisecond - 1).Truncate(time.Millisecond), all, some // never 0 ms for a little time left
}
