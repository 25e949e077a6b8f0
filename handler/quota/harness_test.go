package quota_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/policy"
	"aoaigateway/handler/quota"
	"aoaigateway/handler/table"
)

// reporter is a test, a benchmark or a property.
type reporter interface {
	Helper()
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Context() context.Context
}

// harness is one store with any number of limiters on it, all of one product "p".
type harness struct {
	t     reporter
	mem   *table.Mem
	rules *policy.Policy

	mu    sync.Mutex
	count int
}

// newHarness returns a harness whose product has the given limits, each as it is written in
// the policy file.
func newHarness(t reporter, limits ...string) *harness {
	t.Helper()
	text := "version: 1\nproducts:\n  p:\n    maxOutputTokens: 1\n    limits:\n"
	for _, l := range limits {
		text += "      - {" + l + "}\n"
	}
	if len(limits) == 0 {
		text = "version: 1\nproducts: {p: {}}"
	}
	rules, err := policy.Parse("test", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	r := &harness{t: t, mem: table.NewMem(), rules: rules}
	r.fault(func(context.Context, table.Op, table.Key) (bool, error) { return true, nil })
	return r
}

// fault has f decide about store operations, which go on being counted.
func (r *harness) fault(f table.Fault) {
	r.mem.SetFault(func(ctx context.Context, op table.Op, key table.Key) (bool, error) {
		r.mu.Lock()
		r.count++
		r.mu.Unlock()
		return f(ctx, op, key)
	})
}

func (r *harness) heal() {
	r.fault(func(context.Context, table.Op, table.Key) (bool, error) { return true, nil })
}

// operations returns the number of store operations since the last call.
func (r *harness) operations() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.count
	r.count = 0
	return n
}

func (r *harness) limiter() *quota.Limiter {
	return quota.New(quota.Options{Store: r.mem, Policy: r.rules})
}

var alice = gateway.Caller{Product: "p", Subscription: "alice", User: "u1", IP: "10.0.0.1"}

func tokens(n int64) quota.Cost { return quota.Cost{Estimate: n, Bound: n} }

func usage(n int64) gateway.Usage { return gateway.Usage{Total: n} }

func (r *harness) reserve(l *quota.Limiter, n int64) *quota.Reservation {
	r.t.Helper()
	res, err := l.Reserve(r.t.Context(), alice, "gpt", tokens(n))
	if err != nil {
		r.t.Fatalf("Reserve(%d): %v", n, err)
	}
	return res
}

func (r *harness) refused(l *quota.Limiter, c gateway.Caller, n int64) *gateway.Error {
	r.t.Helper()
	res, err := l.Reserve(r.t.Context(), c, "gpt", tokens(n))
	e, ok := errors.AsType[*gateway.Error](err)
	if !ok || res != nil {
		r.t.Fatalf("Reserve(%d): %v, %v; want a refusal", n, res, err)
	}
	return e
}

func (r *harness) settle(res *quota.Reservation, n int64) {
	r.t.Helper()
	if err := res.Settle(r.t.Context(), usage(n)); err != nil {
		r.t.Fatalf("Settle(%d): %v", n, err)
	}
}

// left is what the tightest long token limit has left, asked by a fresh instance.
func (r *harness) left() int64 {
	r.t.Helper()
	res := r.reserve(r.limiter(), 0)
	return res.Remaining().Quota.Left
}

// at moves the bubble's clock, which starts at midnight, 2000-01-01 UTC, a Saturday.
func at(t *testing.T, s string) {
	t.Helper()
	to, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(to))
}

func bubble(t *testing.T, limits []string, test func(t *testing.T, r *harness)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newHarness(t, limits...)) })
}
