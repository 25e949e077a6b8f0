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

// A hard limit waits two seconds for its store and then refuses.
func TestHardLimitWaitsForStore(t *testing.T) {
	for name, fault := range map[string]table.Fault{
		"refuses": func(context.Context, table.Op, table.Key) (bool, error) { return false, errAway },
		"hangs": func(ctx context.Context, _ table.Op, _ table.Key) (bool, error) {
			<-ctx.Done()
			return false, ctx.Err()
		},
		"writes lost after applying": func(_ context.Context, op table.Op, _ table.Key) (bool, error) {
			return true, map[bool]error{true: errAway}[op != table.OpInsert]
		},
	} {
		bubble(t, []string{"tokens: 1000, per: day, hard: true"}, func(t *testing.T, r *harness) {
			r.fault(fault)
			l, began := r.limiter(), time.Now()
			e := r.refused(l, alice, 400)
			if took := time.Since(began); e.Kind != gateway.Unavailable || took != 2*time.Second || e.RetryAfter == 0 {
				t.Errorf("%s: %+v after %v, want Unavailable after 2 s", name, e, took)
			}
			r.heal()
			if err := l.Close(t.Context()); err != nil {
				t.Error(err)
			}
			if got := r.left(); got != 1000 {
				t.Errorf("%s: %d left, want all 1000: the refused request returned what it may have held", name, got)
			}
			r.reserve(l, 1000)
		})
	}
}

// A store that comes back in time is waited for.
func TestStoreBackInTime(t *testing.T) {
	bubble(t, []string{"tokens: 1000, per: day, hard: true"}, func(t *testing.T, r *harness) {
		r.fault(func(context.Context, table.Op, table.Key) (bool, error) { return false, errAway })
		time.AfterFunc(1200*time.Millisecond, r.heal)
		r.reserve(r.limiter(), 1000)
		if got := r.left(); got != 0 {
			t.Errorf("%d left, want 0", got)
		}
	})
}

// A soft limit goes on without its store and says so.
func TestDegradedSaysSo(t *testing.T) {
	for name, tc := range map[string]struct {
		fault table.Fault
		first time.Duration
	}{
		"refuses": {func(context.Context, table.Op, table.Key) (bool, error) { return false, errAway }, 0},
		"hangs": {func(ctx context.Context, _ table.Op, _ table.Key) (bool, error) {
			<-ctx.Done()
			return false, ctx.Err()
		}, time.Second},
	} {
		bubble(t, []string{"tokens: 1000, per: day", "requests: 100, per: day"}, func(t *testing.T, r *harness) {
			r.fault(tc.fault)
			l, began := r.limiter(), time.Now()
			first := r.reserve(l, 100)
			if took := time.Since(began); took != tc.first || !first.Degraded() {
				t.Errorf("%s: first after %v, unsure %v; want %v, true", name, took, first.Degraded(), tc.first)
			}
			began = time.Now()
			second, third := r.reserve(l, 100), r.reserve(l, 100)
			if took := time.Since(began); took != 0 || !second.Degraded() || second.Remaining().Quota.Limit != "" {
				t.Errorf("%s: the next two after %v, unsure %v", name, took, second.Degraded())
			}
			if err := second.Settle(t.Context(), usage(70)); !errors.Is(err, quota.ErrPending) {
				t.Errorf("%s: Settle: %v, want ErrPending", name, err)
			}
			time.Sleep(5 * time.Second)
			r.heal()
			_ = first.Settle(t.Context(), usage(50)) // the writer may still be pausing
			third.Release(t.Context())
			if err := l.Close(t.Context()); err != nil {
				t.Error(err)
			}
			last := r.reserve(r.limiter(), 0)
			if got := last.Remaining().Quota.Left; got != 880 || last.Degraded() {
				t.Errorf("%s: %d left, want 880: what was used meanwhile is charged when the store is back", name, got)
			}
		})
	}
}

// Settling is given up in the end.
func TestSettleGivesUp(t *testing.T) {
	bubble(t, []string{"tokens: 1000, per: day, hard: true"}, func(t *testing.T, r *harness) {
		l := r.limiter()
		res := r.reserve(l, 100)
		r.fault(func(context.Context, table.Op, table.Key) (bool, error) { return false, errAway })
		began := time.Now()
		if err := res.Settle(t.Context(), usage(10)); !errors.Is(err, quota.ErrPending) || time.Since(began) != 200*time.Millisecond {
			t.Errorf("Settle: %v after %v, want ErrPending after 200 ms", err, time.Since(began))
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := l.Close(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close while settling: %v", err)
		}
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took < 30*time.Second || took > 32*time.Second {
			t.Errorf("given up after %v, want 30 s", took)
		}
		r.heal()
		if got := r.left(); got != 900 {
			t.Errorf("%d left, want 900: the hold stays", got)
		}
	})
}

// A limit whose entity is always contended is given up after a second.
func TestContendedCounterGivesUp(t *testing.T) {
	for _, hard := range []bool{true, false} {
		bubble(t, []string{fmt.Sprintf("tokens: 100000, per: day, hard: %v", hard)}, func(t *testing.T, r *harness) {
			racing := &racingStore{Mem: r.mem}
			l, began := quota.New(quota.Options{Store: racing, Policy: r.rules}), time.Now()
			res, err := l.Reserve(t.Context(), alice, "gpt", tokens(100))
			took := time.Since(began)
			if took < time.Second || took > 1200*time.Millisecond {
				t.Errorf("hard %v: after %v, want 1 s", hard, took)
			}
			e, refused := errors.AsType[*gateway.Error](err)
			if hard && (!refused || e.Kind != gateway.RateLimited || e.RetryAfter != time.Second) {
				t.Errorf("hard: %v, want RateLimited with Retry-After 1", err)
			}
			if !hard && (err != nil || !res.Degraded()) {
				t.Errorf("soft: %v, want it to go on, unsure", err)
			}
			racing.stop()
			if res != nil {
				r.settle(res, 70)
			}
			if err := l.Close(t.Context()); err != nil {
				t.Error(err)
			}
			want := map[bool]int64{true: 100_000, false: 99_930}[hard]
			if got := r.left(); got != want {
				t.Errorf("hard %v: %d left, want %d", hard, got, want)
			}
		})
	}
}

// A client that leaves while waiting holds nothing.
func TestClientLeavingHoldsNothing(t *testing.T) {
	bubble(t, []string{"tokens: 1000, per: day, hard: true"}, func(t *testing.T, r *harness) {
		r.fault(func(context.Context, table.Op, table.Key) (bool, error) {
			time.Sleep(500 * time.Millisecond)
			return true, nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(700*time.Millisecond, cancel) // the write is on its way
		l := r.limiter()
		if _, err := l.Reserve(ctx, alice, "gpt", tokens(400)); gateway.KindOf(err) != gateway.ClientGone {
			t.Errorf("Reserve: %v, want ClientGone", err)
		}
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
		r.heal()
		if got := r.left(); got != 1000 {
			t.Errorf("%d left, want 1000", got)
		}
	})
}

// A settlement waits no longer than 200 milliseconds.
func TestSettleWaitsBriefly(t *testing.T) {
	limits := []string{"tokens: 1000, per: day, hard: true", "tokens: 1000, per: day, by: product, name: all"}
	bubble(t, limits, func(t *testing.T, r *harness) {
		l := r.limiter()
		res := r.reserve(l, 100)
		r.fault(func(context.Context, table.Op, table.Key) (bool, error) {
			time.Sleep(700 * time.Millisecond)
			return true, nil
		})
		began := time.Now()
		if err := res.Settle(t.Context(), usage(10)); !errors.Is(err, quota.ErrPending) || time.Since(began) != 200*time.Millisecond {
			t.Errorf("Settle: %v after %v", err, time.Since(began))
		}
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != 700*time.Millisecond {
			t.Errorf("in the store after %v, want 700 ms: both counters at once", took)
		}
		r.heal()
		if got := r.left(); got != 990 {
			t.Errorf("%d left, want 990", got)
		}
	})
}

// A soft hold that was settled before it was made is not made.
func TestSettledHoldIsNotMadeLater(t *testing.T) {
	bubble(t, []string{"tokens: 1000, per: day"}, func(t *testing.T, r *harness) {
		r.fault(func(context.Context, table.Op, table.Key) (bool, error) {
			time.Sleep(700 * time.Millisecond)
			return true, nil
		})
		l := r.limiter()
		go func() { _ = r.reserve(l, 100).Settle(t.Context(), usage(100)) }() // written after 1.4 s
		time.Sleep(300 * time.Millisecond)
		second := r.reserve(l, 100) // goes on after 1.3 s, not yet sent
		if !second.Degraded() {
			t.Error("not unsure after a second of waiting")
		}
		_ = second.Settle(t.Context(), usage(70))
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
		r.heal()
		if got := r.left(); got != 830 {
			t.Errorf("%d left, want 830", got)
		}
	})
}

// A kept attempt that went on without the store is charged later.
func TestDegradedHoldIsChargedLater(t *testing.T) {
	bubble(t, []string{"tokens: 1000, per: day"}, func(t *testing.T, r *harness) {
		r.fault(func(context.Context, table.Op, table.Key) (bool, error) { return false, errAway })
		l := r.limiter()
		res := r.reserve(l, 100)
		res.Keep()
		time.Sleep(5 * time.Second)
		r.heal()
		if err := res.Again(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.settle(res, 30)
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if got := r.left(); got != 870 {
			t.Errorf("%d left, want 870", got)
		}
	})
}
