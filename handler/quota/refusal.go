package quota

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/policy"
	"aoaigateway/handler/quota/state"
)

// quotaRefusal is the error for a limit that is used up, with API Management's wording.
func quotaRefusal(denied state.Denial) *gateway.Error {
	e := gateway.QuotaUsedUp.Because(nil)
	minute := denied.Limit.Per == policy.Minute
	if minute || denied.Limit.Unit == policy.Concurrent {
		e = gateway.RateLimitExceeded.Because(nil)
	}
	e = e.WithLimit(denied.Limit.Name).WithRetry(jittered(denied.Wait))
	seconds := int64((e.RetryAfter + time.Second - 1) / time.Second)
	switch {
	case denied.Limit.Unit == policy.Concurrent:
		e.Message = fmt.Sprintf("Concurrency limit is exceeded. Try again in %d seconds.", seconds)
	case denied.Limit.Unit == policy.Requests && minute:
		e.Message = fmt.Sprintf("Rate limit is exceeded. Try again in %d seconds.", seconds)
	case denied.Limit.Unit == policy.Requests:
		e.Message = fmt.Sprintf("Out of call volume quota. Quota will be replenished in %02d:%02d:%02d.",
			seconds/3600, seconds/60%60, seconds%60)
	case minute:
		e.Message = fmt.Sprintf("%s limit is exceeded. Try again in %d seconds.", unitNoun(denied.Limit), seconds)
	default:
		e.Message = fmt.Sprintf("%s quota is exceeded. Try again in %s.", unitNoun(denied.Limit), durationText(seconds))
	}
	return e
}

// unitNoun names what a limit counts, for limits on tokens or cost.
func unitNoun(l policy.Limit) string {
	if l.Unit == policy.Cost {
		return "Cost"
	}
	return "Token"
}

// jittered lengthens d by a random time of up to 3 %, at most one minute, so that refused
// clients do not all return at the same moment.
func jittered(d time.Duration) time.Duration {
	return d + rand.N(min(d*3/100, time.Minute)+1) //nolint:gosec // a wait needs no secret randomness
}

// durationText writes a duration in its two largest units, rounded up: "3 hours 12
// minutes".
func durationText(seconds int64) string {
	units := []struct {
		name string
		n    int64
	}{{"day", 86400}, {"hour", 3600}, {"minute", 60}, {"second", 1}}
	for i, u := range units[:3] {
		if seconds < u.n {
			continue
		}
		smaller := units[i+1]
		rest := (seconds%u.n + smaller.n - 1) / smaller.n
		whole := seconds / u.n
		if rest == u.n/smaller.n {
			whole, rest = whole+1, 0
		}
		if rest == 0 {
			return plural(whole, u.name)
		}
		return plural(whole, u.name) + " " + plural(rest, smaller.name)
	}
	return plural(seconds, "second")
}

func plural(n int64, name string) string {
	if n == 1 {
		return "1 " + name
	}
	return fmt.Sprintf("%d %ss", n, name)
}

// neverFits is the error for a request that exceeds the whole amount of a hard limit.
func neverFits(l policy.Limit, bound int64) *gateway.Error {
	e := gateway.QuotaUsedUp.Because(nil)
	what := "quota"
	if l.Per == policy.Minute {
		e, what = gateway.RateLimitExceeded.Because(nil), "limit"
	}
	most, allowed := fmt.Sprintf("use up to %d tokens", bound), strconv.FormatInt(l.Amount, 10)
	if l.Unit == policy.Cost {
		most, allowed = "cost up to "+policy.Decimal(bound), policy.Decimal(l.Amount)
	}
	e.Message = fmt.Sprintf("%s %s is exceeded. This request may %s, but %s allows %s per %s in all, "+
		"so it will never fit. Lower max_tokens, max_completion_tokens or max_output_tokens, n or best_of, or the prompt.",
		unitNoun(l), what, most, l.Name, allowed, l.Per)
	return e.WithLimit(l.Name)
}

// unpriced is the error for a model without a price when a limit counts cost.
func unpriced(l policy.Limit, model string) *gateway.Error {
	return gateway.ModelNotPriced.
		New("The limit %s counts cost, and the gateway's policy has no price for the model %q.", l.Name, model).
		WithLimit(l.Name)
}

// contentionError is the error for a hold that met too many conflicts with other instances.
func contentionError(l policy.Limit) *gateway.Error {
	return gateway.RateLimitExceeded.New(
		"Too many simultaneous requests use the limit %s, so this one could not be counted in time. Try again in 1 second.", l.Name).
		WithLimit(l.Name).WithRetry(time.Second)
}

// storeUnavailable is the error when the store of a hard limit cannot be reached.
func storeUnavailable(l policy.Limit, cause error) *gateway.Error {
	return gateway.LimitUnavailable.New(
		"The limit %s cannot be checked now, because its store does not answer. Try again in 1 second.", l.Name).
		WithLimit(l.Name).WithRetry(time.Second).WithCause(cause)
}

// slotLostError is the error for a request that was ended because its slot could not be
// renewed.
func slotLostError(l policy.Limit) *gateway.Error {
	return gateway.ConcurrencySlotLost.
		New("The gateway could not renew this request's slot in the limit %s, so it ended the request. Try again in 1 second.", l.Name).
		WithLimit(l.Name).WithRetry(time.Second)
}
