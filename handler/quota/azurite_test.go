package quota_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"aoaigateway/handler/devstack/azurite"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/quota"
	"aoaigateway/handler/table"
)

// forgetful loses the answer of one write in ten, after the store has applied it, and
// notes what all writes charge.
type forgetful struct {
	table.Store
	lost *atomic.Int64
	seen *windows
}

func (f forgetful) answer(e table.Entity, err error) (table.Entity, error) {
	if err == nil {
		f.seen.note(e)
	}
	if err == nil && rand.N(10) == 0 {
		f.lost.Add(1)
		return table.Entity{}, errors.New("answer lost")
	}
	return e, err
}

func (f forgetful) Insert(ctx context.Context, e table.Entity) (table.Entity, error) {
	return f.answer(f.Store.Insert(ctx, e))
}

func (f forgetful) Replace(ctx context.Context, e table.Entity) (table.Entity, error) {
	return f.answer(f.Store.Replace(ctx, e))
}

// tally counts what becomes of requests.
type tally struct{ granted, full, contended, lost atomic.Int64 }

// request reserves bound and settles at used.
func (n *tally) request(ctx context.Context, l *quota.Limiter, bound, used int64) error {
	res, err := l.Reserve(ctx, alice, "gpt", tokens(bound))
	switch kind := gateway.KindOf(err); {
	case err == nil:
		n.granted.Add(1)
		_ = res.Settle(ctx, usage(used))
	case kind == gateway.QuotaExceeded:
		n.full.Add(1)
	case kind == gateway.RateLimited:
		n.contended.Add(1)
	default:
		return err
	}
	return nil
}

// Eight instances with their own connections spend one hard limit to its end, four
// requests at a time each, with answers lost on the way: what the store has is what was
// used, to the token, at no time over the limit.
func TestEightInstancesSpendALimitExactlyOverARealStore(t *testing.T) {
	const instances, parallel, each, bound, used, limit = 8, 4, 10, 100, 60, 15_000
	r := newRig(t, fmt.Sprintf("tokens: %d, per: year, hard: true", limit), "requests: 100000, per: minute")
	var n tally
	seen := newWindows()
	open := realStore(t, r, &n.lost, seen)
	var wg sync.WaitGroup
	began := time.Now()
	for range instances {
		l := open()
		for range parallel {
			wg.Go(func() {
				for range each {
					if err := n.request(t.Context(), l, bound, used); err != nil {
						t.Error(err)
					}
				}
				if err := l.Close(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	granted := n.granted.Load()
	t.Logf("%d granted, %d refused, %d lost the race, %d answers lost, %.0f requests/s", granted, n.full.Load(),
		n.contended.Load(), n.lost.Load(), instances*parallel*each/time.Since(began).Seconds())
	for _, most := range seen.most {
		if most > limit {
			t.Errorf("%d charged at one time, limit %d", most, limit)
		}
	}
	if left, want := r.reserve(open(), 0).Remaining().Quota.Left, limit-used*granted; left != want || left < 0 {
		t.Errorf("%d left after %d requests of %d, want %d", left, granted, used, want)
	}
	if granted < limit/bound {
		t.Errorf("only %d granted of a limit that has room for %d", granted, limit/used)
	}
}

// realStore starts Azurite and returns what opens one more instance on it.
func realStore(t *testing.T, r *rig, lost *atomic.Int64, seen *windows) func() *quota.Limiter {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	server, err := azurite.Start(ctx, azurite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	return func() *quota.Limiter {
		store, err := table.NewAzure(table.AzureOptions{ConnectionString: server.ConnectionString(), Table: "quota"})
		if err != nil {
			t.Fatal(err)
		}
		return quota.New(quota.Options{Store: forgetful{store, lost, seen}, Policy: r.rules})
	}
}
