package quota_test

import (
	"context"
	"fmt"
	"testing"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/quota"
)

// settlement is one way to end a reservation of 100 under a limit of 1,000, with what must
// be charged afterwards.
type settlement struct {
	name string
	end  func(*testing.T, *quota.Reservation)
	hard bool
	want int64 // left
}

func (e settlement) check(t *testing.T) {
	bubble(t, []string{fmt.Sprintf("tokens: 1000, per: day, hard: %v", e.hard), "requests: 3, per: day"}, func(t *testing.T, r *harness) {
		l := r.limiter()
		e.end(t, r.reserve(l, 100))
		if got := r.left(); got != e.want {
			t.Errorf("%d left, want %d", got, e.want)
		}
		r.reserve(l, 0)
		if e := r.refused(l, alice, 0); e.Limit != "requests-per-day" {
			t.Errorf("the fourth request: %+v, want it refused: each counts once, whatever its attempts", e)
		}
	})
}

// Settling corrects the hold both ways.
func TestSettleCorrectsHold(t *testing.T) {
	for _, e := range []settlement{
		{"less", func(t *testing.T, r *quota.Reservation) { _ = r.Settle(t.Context(), usage(30)) }, true, 970},
		{"more", func(t *testing.T, r *quota.Reservation) { _ = r.Settle(t.Context(), usage(130)) }, true, 870},
		{"nothing", func(t *testing.T, r *quota.Reservation) { _ = r.Settle(t.Context(), usage(0)) }, true, 1000},
		{"estimated less, hard", func(t *testing.T, r *quota.Reservation) {
			_ = r.Settle(t.Context(), gateway.Usage{Total: 30, Estimated: true})
		}, true, 900},
		{"estimated more, hard", func(t *testing.T, r *quota.Reservation) {
			_ = r.Settle(t.Context(), gateway.Usage{Total: 130, Estimated: true})
		}, true, 870},
		{"estimated less, soft", func(t *testing.T, r *quota.Reservation) {
			_ = r.Settle(t.Context(), gateway.Usage{Total: 30, Estimated: true})
		}, false, 970},
		{"settled twice", func(t *testing.T, r *quota.Reservation) {
			_ = r.Settle(t.Context(), usage(30))
			_ = r.Settle(t.Context(), usage(500))
		}, true, 970},
	} {
		t.Run(e.name, e.check)
	}
}

// Release returns what was not kept.
func TestReleaseReturnsUnkept(t *testing.T) {
	for _, e := range []settlement{
		{"cancelled", func(t *testing.T, r *quota.Reservation) { r.Release(t.Context()) }, true, 1000},
		{"cancelled after settle", func(t *testing.T, r *quota.Reservation) {
			_ = r.Settle(t.Context(), usage(30))
			r.Release(t.Context())
		}, true, 970},
		{"kept, then cancelled", func(t *testing.T, r *quota.Reservation) { r.Keep(); r.Release(t.Context()) }, true, 900},
		{"kept, then settled lower", func(t *testing.T, r *quota.Reservation) {
			r.Keep()
			_ = r.Settle(t.Context(), usage(30))
		}, false, 900},
		{"again without keep", func(t *testing.T, r *quota.Reservation) {
			_ = r.Again(t.Context())
			_ = r.Settle(t.Context(), usage(30))
		}, true, 970},
		{"again after keep", func(t *testing.T, r *quota.Reservation) {
			r.Keep()
			_ = r.Again(t.Context())
			_ = r.Settle(t.Context(), usage(30))
		}, true, 870},
		{"again twice, then cancelled", func(t *testing.T, r *quota.Reservation) {
			r.Keep()
			_ = r.Again(t.Context())
			r.Keep()
			_ = r.Again(t.Context())
			r.Release(t.Context())
		}, true, 800},
	} {
		t.Run(e.name, e.check)
	}
}

// The end of a reservation outlives its client.
func TestSettleOutlivesClient(t *testing.T) {
	for _, e := range []settlement{
		{"client gone", func(t *testing.T, r *quota.Reservation) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := r.Settle(ctx, usage(30)); err != nil {
				t.Errorf("Settle: %v", err)
			}
		}, true, 970},
		{"client gone, cancelled", func(t *testing.T, r *quota.Reservation) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			r.Release(ctx)
		}, true, 1000},
	} {
		t.Run(e.name, e.check)
	}
}

// A refused further attempt leaves the first charged.
func TestAgainRefusedKeepsFirst(t *testing.T) {
	bubble(t, []string{"tokens: 150, per: day, hard: true"}, func(t *testing.T, r *harness) {
		res := r.reserve(r.limiter(), 100)
		res.Keep()
		if err := res.Again(t.Context()); gateway.KindOf(err) != gateway.QuotaExceeded {
			t.Errorf("Again: %v, want a refusal", err)
		}
		res.Release(t.Context())
		if got := r.left(); got != 50 {
			t.Errorf("%d left, want 50", got)
		}
	})
}

func TestRefundAfterWindowDropped(t *testing.T) {
	bubble(t, []string{"tokens: 1000, per: hour, hard: true"}, func(t *testing.T, r *harness) {
		at(t, "2000-01-01T00:59:59Z")
		l := r.limiter()
		early := r.reserve(l, 1000)
		at(t, "2000-01-01T01:00:01Z")
		r.reserve(l, 400)
		r.settle(early, 1)
		if got := r.left(); got != 600 {
			t.Errorf("%d left in the new hour, want 600", got)
		}
	})
}

// Use beyond the hold is charged to the current window.
func TestSettleChargesOverage(t *testing.T) {
	bubble(t, []string{"tokens: 1000, per: hour, hard: true"}, func(t *testing.T, r *harness) {
		at(t, "2000-01-01T00:59:59Z")
		early := r.reserve(r.limiter(), 100)
		at(t, "2000-01-01T01:00:01Z")
		r.settle(early, 130)
		if got := r.left(); got != 970 {
			t.Errorf("%d left in the new hour, want 970", got)
		}
	})
}
