package backend

import (
	"fmt"
	"math"
	"time"

	"aoaigateway/handler/gateway"
)

// exhausted returns the result of a call when no region is left to try: an error of the
// gateway, or the error answer of the last region.
func exhausted(call *Call, c *candidates, last failure) (*Answer, error) {
	var e *gateway.Error
	if call.Pin != "" {
		e = pinnedFailure(call, c, last)
	} else {
		e = allFailed(c, last)
	}
	if e == nil {
		if call.Pin != "" {
			last.answer.Pinned = call.PinReason
		}
		return last.answer, nil
	}
	last.discard()
	e.Err = last.err
	return nil, e
}

// mayBeCarriedOut returns the error of a call that must not be sent again, although no region
// has answered it.
func mayBeCarriedOut(call *Call, a *attempt) error {
	region := "The region"
	if call.Pin != "" {
		region += " that " + call.PinReason
	}
	e := gateway.BackendConnectionFailure.New("%s did not answer, and it may have carried out the request. "+
		"Look for the result before you send the request again.", region)
	e.Err = a.failure.err
	return e
}

// Available returns the error that Do would return for a call of this model, if no region
// could be asked now.
func (p *Pool) Available(model string) error {
	c := p.candidates(&Call{Model: model, Need: 1})
	if c.has(rankThrottled) {
		return nil
	}
	return allFailed(c, failure{})
}

// allFailed returns the error that says why no region answered. It returns nil if the last
// region's own error answer is to be passed on.
func allFailed(c *candidates, last failure) *gateway.Error {
	wait, all, some := c.throttling()
	retry := max(wait, time.Second)
	again := plural(int(math.Ceil(retry.Seconds())), "second")
	unavailable := func(message string) *gateway.Error {
		return gateway.BackendConnectionFailure.New("%s", message).WithRetry(retry)
	}
	switch {
	case all:
		return gateway.RateLimitExceeded.New("All regions that serve this model are at their rate limit. Try again in %s.", again).
			WithRetry(max(wait, time.Millisecond))
	case some:
		return unavailable(
			"Some regions that serve this model are at their rate limit, and no other region can answer now. Try again in " + again + ".",
		)
	case last.outcome == denied:
		return gateway.BackendCredentialRefused.New(
			"The region refused the credential of the gateway. The gateway's operators must renew it.")
	case last.outcome == unsent:
		return unavailable("The gateway cannot get its credential for the region now. The gateway's log has the reason.")
	case last.answer != nil:
		return nil
	case last.outcome == firstByteTimeout:
		return gateway.Timeout.New(
			"No region began to answer in time. Ask for a stream (\"stream\": true) to get long answers as they are written.")
	default:
		return unavailable("No region that serves this model can be reached now.")
	}
}

// pinnedFailure returns the error that says why the only region that may answer did not. It
// returns nil if that region's own error answer is to be passed on.
func pinnedFailure(call *Call, c *candidates, last failure) *gateway.Error {
	wait, throttled, _ := c.throttling()
	fault, retry, problem := gateway.BackendConnectionFailure, max(wait, time.Second), "cannot be reached now"
	switch {
	case last.outcome == denied:
		fault, retry = gateway.BackendCredentialRefused, 0
		problem = "refused the credential of the gateway, which the gateway's operators must renew"
	case last.outcome == unsent:
		problem = "cannot be asked now, because the gateway cannot get its credential for it"
	case last.answer != nil:
		return nil
	case len(c.list) == 0:
		problem = "does not serve this model, or is no longer in the gateway's settings"
	case throttled:
		fault, problem = gateway.RateLimitExceeded, "is at its rate limit"
	case last.outcome == firstByteTimeout:
		fault, problem = gateway.Timeout, "did not begin to answer in time"
	}
	return fault.New("The region that %s %s. No other region can answer.", call.PinReason, problem).WithRetry(retry)
}

func plural(n int, unit string) string {
	if n == 1 {
		return "1 " + unit
	}
	return fmt.Sprintf("%d %ss", n, unit)
}
