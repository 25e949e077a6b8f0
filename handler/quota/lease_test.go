package quota_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/quota"
	"aoaigateway/handler/table"
)

// requestEvery makes n requests, one per period, that hold 100 and settle with 60 at once.
func (r *harness) requestEvery(l *quota.Limiter, n int, every time.Duration) {
	r.t.Helper()
	for range n {
		r.settle(r.reserve(l, 100), 60)
		time.Sleep(every)
	}
}

// storeAway makes every store operation fail.
func (r *harness) storeAway() {
	r.fault(func(context.Context, table.Op, table.Key) (bool, error) { return false, errAway })
}

// A busy counter is served from its lease.
func TestLeaseServesBusyCounter(t *testing.T) {
	bubble(t, []string{"tokens: 1000000, per: day, hard: true", "requests: 100000, per: day"}, func(t *testing.T, r *harness) {
		l := r.limiter()
		r.requestEvery(l, 20, 50*time.Millisecond)
		r.operations()
		r.requestEvery(l, 200, 50*time.Millisecond) // 10 s
		if n := r.operations(); n > 20 {
			t.Errorf("%d store operations in 10 s, want about one for each lease", n)
		}
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if got := r.left(); got != 1_000_000-220*60 {
			t.Errorf("%d left after the leases went back, want %d", got, 1_000_000-220*60)
		}
	})
}

// A lease goes back after two seconds without requests.
func TestLeaseReturnsWhenIdle(t *testing.T) {
	bubble(t, []string{"tokens: 1000000, per: day, hard: true"}, func(t *testing.T, r *harness) {
		l := r.limiter()
		r.requestEvery(l, 40, 50*time.Millisecond)
		if got := r.left(); got > 1_000_000-40*60-100 {
			t.Errorf("%d left while the counter is busy, want less: a lease is out", got)
		}
		time.Sleep(2*time.Second + time.Millisecond)
		r.operations()
		if got := r.left(); got != 1_000_000-40*60 {
			t.Errorf("%d left 2 s later, want %d", got, 1_000_000-40*60)
		}
		time.Sleep(time.Hour)
		if n := r.operations(); n != 1 {
			t.Errorf("%d store operations in an idle hour, want only this test's own reading", n)
		}
	})
}

// A slow counter gives everything back when it settles.
func TestSettleReturnsLeaseWhenSlow(t *testing.T) {
	bubble(t, []string{"tokens: 1000000, per: day, hard: true"}, func(t *testing.T, r *harness) {
		l := r.limiter()
		r.requestEvery(l, 10, 50*time.Millisecond) // a lease is out, until 2 s after the last
		slow := r.reserve(l, 100)
		time.Sleep(1900 * time.Millisecond)
		held := r.left()
		time.Sleep(90 * time.Millisecond)
		r.settle(r.reserve(l, 100), 60)
		r.settle(slow, 60)
		if held > 1_000_000-11*60-100 {
			t.Errorf("%d left before: there was no lease to give back", held)
		}
		if got := r.left(); got != 1_000_000-12*60 {
			t.Errorf("%d left after settling, want %d: nothing stays leased", got, 1_000_000-12*60)
		}
	})
}

func TestLeaseEndsWithItsWindow(t *testing.T) {
	limits := []string{"tokens: 1000000, per: minute, hard: true", "tokens: 5000000, per: day, hard: true"}
	bubble(t, limits, func(t *testing.T, r *harness) {
		at(t, "2000-01-01T00:00:59Z")
		l := r.limiter()
		r.requestEvery(l, 19, 50*time.Millisecond) // until 59.95
		early := r.reserve(l, 100)
		r.fault(func(context.Context, table.Op, table.Key) (bool, error) {
			time.Sleep(300 * time.Millisecond)
			return true, nil
		})
		at(t, "2000-01-01T00:01:00Z")
		began := time.Now()
		late := r.reserve(l, 100)
		if took := time.Since(began); took < 300*time.Millisecond {
			t.Errorf("held after %v: from the lease of a minute that is over", took)
		}
		r.heal()
		first, second := quota.WindowIDs(early), quota.WindowIDs(late)
		if first[0] == second[0] || first[1] != second[1] {
			t.Errorf("charged to the windows %v, then %v; want another minute, the same day", first, second)
		}
		r.settle(early, 60)
		r.settle(late, 60)
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
		res := r.reserve(r.limiter(), 0)
		if got := res.Remaining(); got.Tokens.Left != 1_000_000-60 || got.Quota.Left != 5_000_000-21*60 {
			t.Errorf("%+v, want only the late request in this minute, and all in this day", got)
		}
	})
}

// Near its limit a counter takes only what it needs.
func TestLeaseStopsNearLimit(t *testing.T) {
	bubble(t, []string{"tokens: 100000, per: day, hard: true"}, func(t *testing.T, r *harness) {
		l := r.limiter()
		for range 999 {
			r.settle(r.reserve(l, 100), 100)
			time.Sleep(10 * time.Millisecond)
		}
		if got := r.left(); got != 100 {
			t.Fatalf("%d left in the table, want 100: what another instance still needs is not leased", got)
		}
		r.reserve(r.limiter(), 100)
		if e := r.refused(l, alice, 100); e.Kind != gateway.QuotaExceeded {
			t.Errorf("%+v", e)
		}
	})
}

// A killed instance strands its reservations and at most 2 s of its rate, and only until
// the window ends.
func TestKilledInstanceStrandsLittle(t *testing.T) {
	const rate, bound = 20, 100
	bubble(t, []string{"tokens: 1000000, per: hour, hard: true"}, func(t *testing.T, r *harness) {
		l := quota.New(quota.Options{Store: dyingStore(r.mem, time.Now().Add(10*time.Second)), Policy: r.rules})
		const held = 10
		for range held {
			r.reserve(l, bound) // under way when it dies
		}
		r.requestEvery(l, 10*rate, time.Second/rate)
		time.Sleep(time.Minute)
		stranded := 1_000_000 - r.left() - 10*rate*60
		t.Logf("stranded: %d by %d reservations, %d by the lease", held*bound, held, stranded-held*bound)
		if stranded <= held*bound || stranded > held*bound+2*rate*bound {
			t.Errorf("%d stranded, want the %d held and up to %d leased", stranded, held*bound, 2*rate*bound)
		}
		time.Sleep(time.Hour)
		if got := r.left(); got != 1_000_000 {
			t.Errorf("%d left in the next hour, want everything", got)
		}
	})
}

// A hard limit without its store spends the lease in hand.
func TestHardLimitSpendsLeaseOffline(t *testing.T) {
	bubble(t, []string{"tokens: 1000000, per: day, hard: true"}, func(t *testing.T, r *harness) {
		l := r.limiter()
		r.requestEvery(l, 60, 50*time.Millisecond)
		r.storeAway()
		began, served := time.Now(), 0
		for time.Since(began) < time.Minute {
			res, err := l.Reserve(t.Context(), alice, "gpt", tokens(100))
			if err != nil {
				if gateway.KindOf(err) != gateway.Unavailable {
					t.Fatal(err)
				}
				break
			}
			_ = res.Settle(t.Context(), usage(100))
			served++
			time.Sleep(50 * time.Millisecond)
		}
		took := time.Since(began)
		if served < 10 || took < 2*time.Second || took > 4*time.Second {
			t.Errorf("%d requests served, refused after %v; want the lease spent within 2 s, and 2 s of waiting", served, took)
		}
		r.heal()
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if got, want := r.left(), int64(1_000_000-60*60-100*served); got != want {
			t.Errorf("%d left, want %d", got, want)
		}
	})
}

// A soft limit without its store goes on at its last rate.
func TestDegradedKeepsLastRate(t *testing.T) {
	bubble(t, []string{"requests: 600, per: hour"}, func(t *testing.T, r *harness) {
		l := r.limiter()
		r.requestEvery(l, 100, 100*time.Millisecond) // 10 a second
		r.storeAway()
		time.Sleep(5 * time.Second)
		_ = r.reserve(l, 0) // notices
		for _, tc := range []struct {
			rate      int
			low, high float64 // of what passes a second
		}{{8, 8, 8}, {100, 8, 13}} {
			began, passed := time.Now(), 0
			for range 10 * tc.rate {
				res, err := l.Reserve(t.Context(), alice, "gpt", tokens(0))
				e, refused := errors.AsType[*gateway.Error](err)
				switch {
				case err == nil && res.Degraded():
					passed++
				case refused && e.Kind == gateway.RateLimited && e.Limit == "requests-per-hour" && e.RetryAfter >= time.Second:
				default:
					t.Fatalf("%v, %v; want degraded mode, or a refusal", res, err)
				}
				time.Sleep(time.Second / time.Duration(tc.rate))
			}
			got := float64(passed) / time.Since(began).Seconds()
			if got < tc.low || got > tc.high {
				t.Errorf("of %d a second %.1f passed, want %v to %v", tc.rate, got, tc.low, tc.high)
			}
		}
		r.heal()
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A settlement into the lease waits for nothing.
func TestSettleInLeaseDoesNotWait(t *testing.T) {
	bubble(t, []string{"tokens: 1000000, per: day, hard: true"}, func(t *testing.T, r *harness) {
		l := r.limiter()
		r.requestEvery(l, 20, 50*time.Millisecond)
		less, more := r.reserve(l, 100), r.reserve(l, 100)
		r.fault(func(context.Context, table.Op, table.Key) (bool, error) {
			time.Sleep(time.Second)
			return true, nil
		})
		began := time.Now()
		r.settle(less, 10)
		r.settle(more, 150) // beyond the hold: out of the lease too
		if took := time.Since(began); took != 0 {
			t.Errorf("settled after %v", took)
		}
		r.heal()
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if got := r.left(); got != 1_000_000-20*60-160 {
			t.Errorf("%d left, want %d", got, 1_000_000-20*60-160)
		}
	})
}

// A refused request returns to the leases of the counters before it.
func TestRefusalReturnsToLeases(t *testing.T) {
	limits := []string{"tokens: 1000000, per: day, hard: true, by: ip", "requests: 20, per: day, hard: true, by: product"}
	bubble(t, limits, func(t *testing.T, r *harness) {
		l := r.limiter()
		r.requestEvery(l, 20, 50*time.Millisecond)
		r.operations()
		for range 100 {
			if e := r.refused(l, alice, 100); e.Limit != "requests-per-day-by-product" {
				t.Fatalf("refused by %q", e.Limit)
			}
			time.Sleep(20 * time.Millisecond)
		}
		if n := r.operations(); n > 16 {
			t.Errorf("%d store operations for 100 refusals in 2 s, want the leases and a reading each 250 ms", n)
		}
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if got := r.refused(r.limiter(), alice, 100); got == nil {
			t.Error("passed")
		}
		at(t, "2000-01-01T12:00:00Z")
		e := r.refused(l, alice, 1_000_000-20*60+1)
		if e.Limit != "tokens-per-day-by-ip" {
			t.Errorf("refused by %q", e.Limit)
		}
		if e := r.refused(l, alice, 1_000_000-20*60); e.Limit != "requests-per-day-by-product" {
			t.Errorf("refused by %q: the refused requests left something charged", e.Limit)
		}
	})
}

// Two instances with a request each two minutes, so that one of them always finds what
// the other wrote.
func TestTwoQuietInstancesOperations(t *testing.T) {
	bubble(t, []string{"tokens: 100000, per: minute", "tokens: 1000000, per: month"}, func(t *testing.T, r *harness) {
		fleet := []*quota.Limiter{r.limiter(), r.limiter()}
		for i := range 40 {
			if i == 4 {
				r.operations() // now each knows that it is not alone
			}
			res := r.reserve(fleet[i%2], 100)
			time.Sleep(20 * time.Second)
			r.settle(res, 60)
			time.Sleep(40 * time.Second)
		}
		if n := float64(r.operations()) / 36; n > 3 {
			t.Errorf("%.2f store operations a request, want 3 at most", n)
		}
	})
}

// An instance whose every write meets somebody else's works from leases even at a rate at
// which it would else write twice a request.
func TestLeaseServesManyInstances(t *testing.T) {
	bubble(t, []string{"tokens: 100000000, per: day, hard: true"}, func(t *testing.T, r *harness) {
		const instances, requests = 30, 60
		granted, refusals := requestSteadily(t, r, instances, requests, time.Second)
		perRequest := float64(r.operations()) / (instances * requests)
		t.Logf("%.2f table operations a request", perRequest)
		if refusals > 0 || perRequest > 2.5 {
			t.Errorf("%d granted, %d refused, %.2f table operations a request; want none refused and 2.5 at most", granted, refusals, perRequest)
		}
		if got := r.left(); got != 100_000_000-60*granted {
			t.Errorf("%d left after %d requests, want %d", got, granted, 100_000_000-60*granted)
		}
	})
}

func requestSteadily(t *testing.T, r *harness, instances, requests int, every time.Duration) (granted, refusals int64) {
	t.Helper()
	type result struct{ granted, refused int64 }
	results := make(chan result)
	for i := range instances {
		l := r.limiter()
		go func() {
			var n result
			time.Sleep(every * time.Duration(i) / time.Duration(instances))
			for range requests {
				res, err := l.Reserve(t.Context(), alice, "gpt", tokens(100))
				if err != nil {
					n.refused++
					continue
				}
				n.granted++
				time.Sleep(every / 2)
				_ = res.Settle(t.Context(), usage(60))
				time.Sleep(every / 2)
			}
			if err := l.Close(t.Context()); err != nil {
				t.Error(err)
			}
			results <- n
		}()
	}
	for range instances {
		n := <-results
		granted, refusals = granted+n.granted, refusals+n.refused
	}
	return granted, refusals
}

func TestLeasesAreIndependent(t *testing.T) {
	bubble(t, []string{"tokens: 100000, per: day, hard: true"}, func(t *testing.T, r *harness) {
		l := r.limiter()
		for i := range 400 {
			c := alice
			c.Subscription = fmt.Sprint("s", i%4)
			res, err := l.Reserve(t.Context(), c, "gpt", tokens(100))
			if err != nil {
				t.Fatal(err)
			}
			r.settle(res, 60)
			time.Sleep(10 * time.Millisecond)
		}
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
		for i := range 4 {
			c := alice
			c.Subscription = fmt.Sprint("s", i)
			res, err := r.limiter().Reserve(t.Context(), c, "gpt", tokens(0))
			if err != nil || res.Remaining().Quota.Left != 100_000-100*60 {
				t.Errorf("%s: %v, %+v", c.Subscription, err, res.Remaining())
			}
		}
	})
}
