package quota_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"aoaigateway/handler/gateway"
)

// refusals are limits and a time of day, with the refusal of a second request.
var refusals = []struct {
	limit, at string
	want      gateway.Error
	wait      time.Duration
}{
	{
		"tokens: 600, per: minute", "2000-01-01T00:00:30Z",
		gateway.Error{
			Kind: gateway.RateLimited, Code: "RateLimitExceeded",
			Message: "Token limit is exceeded. Try again in N seconds.", Limit: "tokens-per-minute",
		},
		10 * time.Second, // a bucket of 600 gives 10 a second
	},
	{
		"tokens: 100, per: minute, hard: true", "2000-01-01T00:00:18Z",
		gateway.Error{
			Kind: gateway.RateLimited, Code: "RateLimitExceeded",
			Message: "Token limit is exceeded. Try again in N seconds.", Limit: "tokens-per-minute",
		},
		42 * time.Second,
	},
	{
		"name: calls, requests: 1, per: minute, hard: true", "2000-01-01T00:00:18Z",
		gateway.Error{
			Kind: gateway.RateLimited, Code: "RateLimitExceeded",
			Message: "Rate limit is exceeded. Try again in N seconds.", Limit: "calls",
		},
		42 * time.Second,
	},
	{
		"tokens: 100, per: month", "2000-02-26T20:48:00Z",
		gateway.Error{
			Kind: gateway.QuotaExceeded, Code: "QuotaExceeded",
			Message: "Token quota is exceeded. Try again in 3 days 4 hours.", Limit: "tokens-per-month",
		},
		75*time.Hour + 12*time.Minute,
	},
	{
		"requests: 1, per: day", "2000-02-26T20:30:00Z",
		gateway.Error{
			Kind: gateway.QuotaExceeded, Code: "QuotaExceeded",
			Message: "Out of call volume quota. Quota will be replenished in 03:3", Limit: "requests-per-day",
		},
		3*time.Hour + 30*time.Minute,
	},
}

func TestRefusalsAreAPIManagements(t *testing.T) {
	for _, tc := range refusals {
		bubble(t, []string{tc.limit}, func(t *testing.T, r *harness) {
			at(t, tc.at)
			l := r.limiter()
			cost := int64(100)
			if strings.HasPrefix(tc.limit, "tokens: 600") {
				cost = 600
			}
			r.reserve(l, cost)
			got := *r.refused(l, alice, 100)
			if got.RetryAfter < tc.wait || got.RetryAfter > tc.wait*104/100 {
				t.Errorf("%s: wait %v, want %v and up to 3 %%", tc.limit, got.RetryAfter, tc.wait)
			}
			seconds := fmt.Sprint(int64((got.RetryAfter + time.Second - 1) / time.Second))
			tc.want.Message = strings.Replace(tc.want.Message, "N", seconds, 1)
			if !strings.HasPrefix(got.Message, tc.want.Message) {
				t.Errorf("%s: message %q, want %q", tc.limit, got.Message, tc.want.Message)
			}
			got.RetryAfter, got.Message, tc.want.Message = 0, "", ""
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.limit, diff)
			}
		})
	}
}

// What never fits a hard limit is refused before the store is read.
func TestReserveRefusesWhatNeverFits(t *testing.T) {
	for limit, kind := range map[string]gateway.Kind{
		"tokens: 100, per: minute, hard: true": gateway.RateLimited,
		"tokens: 100, per: day, hard: true":    gateway.QuotaExceeded,
	} {
		bubble(t, []string{limit}, func(_ *testing.T, r *harness) {
			e := r.refused(r.limiter(), alice, 101)
			if e.Kind != kind || !strings.Contains(e.Message, "never fit") || !strings.Contains(e.Message, "101") || e.RetryAfter != 0 {
				t.Errorf("%s: %+v", limit, e)
			}
			if n := r.operations(); n != 0 {
				t.Errorf("%d store operations", n)
			}
		})
	}
}

// A soft limit lets a long request pass when it is unused.
func TestSoftLimitPassesLongRequest(t *testing.T) {
	for _, limit := range []string{"tokens: 100, per: minute", "tokens: 100, per: day"} {
		bubble(t, []string{limit}, func(_ *testing.T, r *harness) {
			l := r.limiter()
			r.settle(r.reserve(l, 5000), 5000)
			_ = r.refused(l, alice, 1)
		})
	}
}
