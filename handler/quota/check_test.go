package quota_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/quota"
	"aoaigateway/handler/table"
)

// checked returns the code of the error of Check, or "".
func (r *harness) checked(l *quota.Limiter, model string) string {
	r.t.Helper()
	err := l.Check(r.t.Context(), alice, model, true)
	if e, ok := errors.AsType[*gateway.Error](err); ok {
		return e.Code
	}
	if err != nil {
		r.t.Fatalf("Check: %v", err)
	}
	return ""
}

func TestCheckRefusesUsedUpLimits(t *testing.T) {
	for _, c := range []struct {
		limit string
		use   int64 // tokens that one request uses before the check
		want  string
	}{
		{"requests: 1, per: minute, hard: true", 0, "RateLimitExceeded"},
		{"requests: 1, per: hour, hard: true", 0, "QuotaExceeded"},
		{"requests: 2, per: hour, hard: true", 0, ""},
		{"requests: 1, per: minute", 0, "RateLimitExceeded"},
		{"tokens: 10, per: day, hard: true", 10, "QuotaExceeded"},
		{"tokens: 10, per: day, hard: true", 9, ""},
		{"tokens: 10, per: month, by: model, hard: true", 10, "QuotaExceeded"},
		{"concurrent: 1, hard: true", 0, "RateLimitExceeded"},
		{"concurrent: 2, hard: true", 0, ""},
	} {
		bubble(t, []string{c.limit}, func(t *testing.T, r *harness) {
			defer r.reserve(r.limiter(), c.use).Release(t.Context())
			for range 3 { // a check charges nothing
				if got := r.checked(r.limiter(), "gpt"); got != c.want {
					t.Errorf("%s: %q, want %q", c.limit, got, c.want)
				}
			}
		})
	}
}

// A check reads at most once, and the reservation after it needs no further read.
func TestCheckCostsOneRead(t *testing.T) {
	bubble(t, []string{"tokens: 1000, per: day, hard: true"}, func(t *testing.T, r *harness) {
		l := r.limiter()
		r.operations()
		if got := r.checked(l, "gpt"); got != "" || r.operations() != 1 {
			t.Errorf("refused with %q, or more than one operation", got)
		}
		res := r.reserve(l, 10)
		if n := r.operations(); n != 1 {
			t.Errorf("%d operations for a reservation after a check, want one write", n)
		}
		r.settle(res, 10)
		if left := r.left(); left != 990 {
			t.Errorf("%d left, want 990", left)
		}
	})
}

func TestCheckOfUnknownModel(t *testing.T) {
	bubble(t, []string{"tokens: 10, per: day, by: model, hard: true"}, func(t *testing.T, r *harness) {
		r.settle(r.reserve(r.limiter(), 10), 10)
		if got := r.checked(r.limiter(), ""); got != "" {
			t.Errorf("refused with %q although the model is not known", got)
		}
	})
}

// A request that the lease covers passes, also if the entity has nothing left.
func TestCheckCountsLease(t *testing.T) {
	bubble(t, []string{"tokens: 1000, per: minute, hard: true"}, func(t *testing.T, r *harness) {
		l := r.limiter()
		for range 40 {
			r.settle(r.reserve(l, 1), 1)
			time.Sleep(50 * time.Millisecond)
		}
		r.operations()
		if got := r.checked(l, "gpt"); got != "" || r.operations() != 0 {
			t.Errorf("%q, or a store operation although there is a lease", got)
		}
	})
}

func TestCheckWithoutStore(t *testing.T) {
	for limit, want := range map[string]string{
		"tokens: 10, per: day, hard: true":    "LimitUnavailable",
		"tokens: 10, per: minute":             "",
		"concurrent: 1":                       "",
		"requests: 10, per: hour, hard: true": "LimitUnavailable",
	} {
		bubble(t, []string{limit}, func(t *testing.T, r *harness) {
			r.fault(func(context.Context, table.Op, table.Key) (bool, error) { return false, errors.New("unreachable") })
			l, start := r.limiter(), time.Now()
			if got := r.checked(l, "gpt"); got != want || time.Since(start) > 2*time.Second {
				t.Errorf("%s: %q after %v, want %q", limit, got, time.Since(start), want)
			}
			r.heal()
			if err := l.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// Checks beside reservations never let a hard limit be exceeded, and never refuse what the
// limit still has.
func TestChecksDoNotDisturbHolds(t *testing.T) {
	bubble(t, []string{"requests: 30, per: day, hard: true"}, func(t *testing.T, r *harness) {
		l := r.limiter()
		admitted := make(chan int, 60)
		for range 60 {
			go func() {
				n := 0
				if l.Check(t.Context(), alice, "gpt", true) == nil {
					if res, err := l.Reserve(t.Context(), alice, "gpt", tokens(1)); err == nil {
						n = 1
						_ = res.Settle(t.Context(), usage(1))
					}
				}
				admitted <- n
			}()
		}
		sum := 0
		for range 60 {
			sum += <-admitted
		}
		if sum != 30 {
			t.Errorf("%d of 60 requests admitted, the limit is 30", sum)
		}
	})
}
