package quota_test

import (
	"testing"

	"aoaigateway/handler/gateway"
)

// An attempt beside another has its own hold.
func TestHedgeHasItsOwnHold(t *testing.T) {
	for _, kept := range []bool{true, false} {
		limits := []string{"tokens: 1000, per: day, hard: true", "requests: 3, per: day", "name: few, concurrent: 1, hard: true"}
		bubble(t, limits, func(t *testing.T, r *harness) {
			res := r.reserve(r.limiter(), 100)
			second, err := res.Hedge(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			r.requireFull(r.limiter()) // one request, one place
			if kept {
				second.Keep()
			}
			second.Release(t.Context())
			r.requireFull(r.limiter())
			r.settle(res, 30)
			waitRefusalMemory()
			want := int64(1000 - 30)
			if kept {
				want -= 100
			}
			if got := r.left(); got != want { // the second request
				t.Errorf("kept %t: %d left, want %d", kept, got, want)
			}
		})
	}
}

// An attempt beside another is refused without a trace.
func TestHedgeRefusalLeavesNoTrace(t *testing.T) {
	bubble(t, []string{"tokens: 150, per: day, hard: true, by: user", "tokens: 1000, per: day, hard: true"}, func(t *testing.T, r *harness) {
		res := r.reserve(r.limiter(), 100)
		if second, err := res.Hedge(t.Context()); second != nil || gateway.KindOf(err) != gateway.QuotaExceeded {
			t.Fatalf("%v, %v", second, err)
		}
		r.settle(res, 40)
		waitRefusalMemory()
		if got := r.left(); got != 110 {
			t.Errorf("%d left, want 110", got)
		}
	})
}
