package quota_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/quota"
	"aoaigateway/handler/table"
)

// A product without limits touches no store.
func TestLimiterWithoutLimits(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *harness) {
		l := r.limiter()
		res := r.reserve(l, 1_000_000)
		if err := res.Again(t.Context()); err != nil {
			t.Error(err)
		}
		r.settle(res, 5)
		res.Release(t.Context())
		if n := r.operations(); n != 0 || res.Degraded() || res.Remaining() != (quota.Remaining{}) {
			t.Errorf("%d store operations, want none", n)
		}
	})
}

func TestLimiterRefusesUnknownProduct(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *harness) {
		if e := r.refused(r.limiter(), gateway.Caller{Product: "gone"}, 1); e.Kind != gateway.Forbidden {
			t.Errorf("%+v", e)
		}
	})
}

func TestWindowsFollowStoreClock(t *testing.T) {
	bubble(t, []string{"requests: 1, per: minute, hard: true"}, func(t *testing.T, r *harness) {
		at(t, "2000-01-01T00:00:50Z")
		r.mem.SetOffset(9 * time.Second)
		l := r.limiter()
		r.reserve(l, 1)
		if e := r.refused(l, alice, 1); e.RetryAfter.Truncate(time.Second) != time.Second {
			t.Errorf("wait %v, want 1 s: it is 00:00:59 there", e.RetryAfter)
		}
		time.Sleep(time.Second)
		r.reserve(l, 1)
		// Another instance, whose clock lags: for it the minute must not begin again.
		r.mem.SetOffset(-30 * time.Second)
		_ = r.refused(r.limiter(), alice, 1)
	})
}

// One request a minute costs three operations a counter.
func TestQuietCounterOperations(t *testing.T) {
	limits := []string{"tokens: 100000, per: minute", "tokens: 1000000, per: month", "requests: 60, per: minute"}
	bubble(t, limits, func(t *testing.T, r *harness) {
		l := r.limiter()
		for range 3 {
			r.operations()
			res := r.reserve(l, 100)
			time.Sleep(20 * time.Second)
			r.settle(res, 60)
			if n := r.operations(); n > 3 {
				t.Errorf("%d store operations, want 3 at most", n)
			}
			time.Sleep(40 * time.Second)
		}
	})
}

func TestRefusalIsRemembered(t *testing.T) {
	bubble(t, []string{"requests: 1, per: day"}, func(t *testing.T, r *harness) {
		l := r.limiter()
		r.reserve(l, 1)
		r.operations()
		for range 1000 {
			_ = r.refused(l, alice, 1)
			time.Sleep(time.Millisecond)
		}
		if n := r.operations(); n < 3 || n > 5 {
			t.Errorf("%d store operations for 1,000 refusals in a second, want one each 250 ms", n)
		}
	})
}

func TestWaitersShareOneWrite(t *testing.T) {
	bubble(t, []string{"tokens: 100, per: day, hard: true"}, func(t *testing.T, r *harness) {
		r.fault(func(context.Context, table.Op, table.Key) (bool, error) {
			time.Sleep(10 * time.Millisecond)
			return true, nil
		})
		l := r.limiter()
		var wg sync.WaitGroup
		var mu sync.Mutex
		granted := 0
		for range 200 {
			wg.Go(func() {
				if _, err := l.Reserve(t.Context(), alice, "gpt", tokens(1)); err == nil {
					mu.Lock()
					granted++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if n := r.operations(); granted != 100 || n > 5 {
			t.Errorf("%d of 200 granted with %d store operations, want 100 and 5 at most", granted, n)
		}
	})
}

func TestRefusalReturnsEarlierHolds(t *testing.T) {
	limits := []string{
		"tokens: 1000, per: day, hard: true, by: ip", "requests: 2, per: day, by: ip",
		"tokens: 100, per: day, by: product, name: all",
	}
	bubble(t, limits, func(t *testing.T, r *harness) {
		l := r.limiter()
		r.reserve(l, 100)
		for range 5 {
			if e := r.refused(l, alice, 100); e.Limit != "all" {
				t.Fatalf("refused by %q, want all", e.Limit)
			}
		}
		if err := l.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		at(t, "2000-01-02T00:00:00Z")
		r.reserve(l, 50)
		r.reserve(l, 50)
		if e := r.refused(l, alice, 0); e.Limit != "requests-per-day-by-ip" {
			t.Errorf("refused by %q, want requests-per-day-by-ip: refused requests count in none", e.Limit)
		}
	})
}

func TestCountersAreIndependent(t *testing.T) {
	bob := alice
	bob.Subscription, bob.User, bob.IP = "bob", "u2", "10.0.0.2"
	for by, want := range map[string]bool{"subscription": true, "user": true, "ip": true, "model": false, "product": false} {
		bubble(t, []string{"requests: 1, per: day, by: " + by}, func(t *testing.T, r *harness) {
			l := r.limiter()
			r.reserve(l, 1)
			_, err := l.Reserve(t.Context(), bob, "GPT", tokens(1))
			if (err == nil) != want {
				t.Errorf("by %s: another caller, same model: %v", by, err)
			}
			_, err = l.Reserve(t.Context(), alice, "other", tokens(1))
			if (err == nil) != (by == "model") {
				t.Errorf("by %s: same caller, another model: %v", by, err)
			}
		})
	}
}

// Callers without the value are not without the limit.
func TestCallersWithoutCounterKey(t *testing.T) {
	bubble(t, []string{"requests: 1, per: day, by: user"}, func(t *testing.T, r *harness) {
		l, key := r.limiter(), gateway.Caller{Product: "p", Subscription: "alice"}
		if _, err := l.Reserve(t.Context(), key, "m", tokens(1)); err != nil {
			t.Fatal(err)
		}
		_ = r.refused(l, key, 1)
	})
	bubble(t, []string{"requests: 1, per: day"}, func(t *testing.T, r *harness) {
		l, user := r.limiter(), gateway.Caller{Product: "p", User: "u"}
		if _, err := l.Reserve(t.Context(), user, "m", tokens(1)); err != nil {
			t.Fatal(err)
		}
		_ = r.refused(l, user, 1)
		if _, err := l.Reserve(t.Context(), gateway.Caller{Product: "p", User: "v"}, "m", tokens(1)); err != nil {
			t.Errorf("another user without a subscription: %v", err)
		}
	})
	bubble(t, []string{"requests: 1, per: day, by: ip"}, func(t *testing.T, r *harness) {
		if e := r.refused(r.limiter(), gateway.Caller{Product: "p", Subscription: "a"}, 1); e.Kind != gateway.Forbidden {
			t.Errorf("without an address: %+v", e)
		}
	})
}

// Remaining names the tightest limits.
func TestRemainingNamesTightest(t *testing.T) {
	limits := []string{
		"tokens: 6000, per: minute", "tokens: 5000, per: minute, by: product", "requests: 60, per: minute",
		"tokens: 90000, per: month", "tokens: 80000, per: day",
	}
	bubble(t, limits, func(t *testing.T, r *harness) {
		got := r.reserve(r.limiter(), 100).Remaining()
		want := quota.Remaining{
			Tokens:   quota.Left{Limit: "tokens-per-minute-by-product", Amount: 5000, Left: 4900},
			Requests: quota.Left{Limit: "requests-per-minute", Amount: 60, Left: 59},
			Quota:    quota.Left{Limit: "tokens-per-day", Amount: 80000, Left: 79900},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Remaining (-want +got):\n%s", diff)
		}
	})
}

// Many idle counters are forgotten without losing their counts.
func TestCountersForgetIdle(t *testing.T) {
	bubble(t, []string{"requests: 1, per: day, by: ip"}, func(t *testing.T, r *harness) {
		l := r.limiter()
		ask := func(i int) error {
			c := alice
			c.IP = fmt.Sprint("10.0.", i/250, ".", i%250)
			_, err := l.Reserve(t.Context(), c, "m", tokens(1))
			return err
		}
		for i := range 5000 {
			if err := ask(i); err != nil {
				t.Fatal(err)
			}
			if i == 4000 {
				time.Sleep(2 * time.Minute)
			}
		}
		if n := quota.CounterCount(l); n > 1500 {
			t.Errorf("%d counters are kept, want the idle ones forgotten", n)
		}
		if ask(0) == nil {
			t.Error("a forgotten counter let a second request pass")
		}
	})
}
