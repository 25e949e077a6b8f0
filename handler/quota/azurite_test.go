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

// lossyStore counts the operations of a store and notes what all writes charge. If lost is
// set, it also loses the answer of one write in ten, and counts these in lost.
type lossyStore struct {
	table.Store
	lost *atomic.Int64 // nil = none is lost
	ops  *atomic.Int64
	seen *windows
}

func (f lossyStore) answer(e table.Entity, err error) (table.Entity, error) {
	f.ops.Add(1)
	if err == nil {
		f.seen.note(e)
	}
	if err == nil && f.lost != nil && rand.N(10) == 0 {
		f.lost.Add(1)
		return table.Entity{}, errors.New("answer lost")
	}
	return e, err
}

func (f lossyStore) Get(ctx context.Context, key table.Key) (table.Entity, error) {
	f.ops.Add(1)
	return f.Store.Get(ctx, key)
}

func (f lossyStore) Insert(ctx context.Context, e table.Entity) (table.Entity, error) {
	return f.answer(f.Store.Insert(ctx, e))
}

func (f lossyStore) Replace(ctx context.Context, e table.Entity) (table.Entity, error) {
	return f.answer(f.Store.Replace(ctx, e))
}

// outcomes are the numbers of requests by their result, and the number of store operations.
type outcomes struct{ granted, full, contended, lost, ops atomic.Int64 }

// request reserves bound and settles at used.
func (n *outcomes) request(ctx context.Context, l *quota.Limiter, bound, used int64) error {
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
func TestEightInstancesOnAzurite(t *testing.T) {
	const instances, parallel, each, bound, used, limit = 8, 4, 10, 100, 60, 15_000
	r := newHarness(t, fmt.Sprintf("tokens: %d, per: year, hard: true", limit), "requests: 100000, per: minute")
	var n outcomes
	seen := newWindows()
	open := realStore(t, r, lossyStore{lost: &n.lost, ops: &n.ops, seen: seen})
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
	t.Logf("%d granted, %d refused, %d lost the race, %d answers lost, %d table operations, %.0f requests/s", granted, n.full.Load(),
		n.contended.Load(), n.lost.Load(), n.ops.Load(), instances*parallel*each/time.Since(began).Seconds())
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

// load is what 64 clients of eight instances request from one limit.
type load struct {
	limit, bound int64
	atLeast      time.Duration

	mu       sync.Mutex
	asked    map[int64]int64 // tokens, by the minute they were asked for in
	answered map[int64]int64 // tokens, by the minute they were charged to
	granted  int
	refused  int
}

// enough tells whether the work may end: a minute's limit was asked for three times over.
func (p *load) enough(began time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.asked {
		if n > 3*p.limit && time.Since(began) > p.atLeast {
			return true
		}
	}
	return time.Since(began) > p.atLeast+time.Minute
}

// client makes requests that last a few milliseconds, one after another.
func (p *load) client(ctx context.Context, t *testing.T, l *quota.Limiter, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	for began := time.Now(); !p.enough(began); {
		used := 1 + rng.Int64N(p.bound)
		res, err := l.Reserve(ctx, alice, "gpt", quota.Cost{Estimate: p.bound / 2, Bound: p.bound})
		p.mu.Lock()
		p.asked[time.Now().Truncate(time.Minute).Unix()] += used
		if err != nil {
			p.refused++
		} else {
			p.granted++
			p.answered[quota.WindowIDs(res)[0]] += used
		}
		p.mu.Unlock()
		if err != nil && gateway.KindOf(err) != gateway.RateLimited {
			t.Error(err)
			return
		}
		pause := time.NewTimer(time.Duration(10+rng.IntN(40)) * time.Millisecond)
		<-pause.C
		if err == nil {
			_ = res.Settle(ctx, usage(used))
		}
	}
}

// run lets clients work on instances until the load is enough.
func (p *load) run(t *testing.T, instances, clients int, open func() *quota.Limiter) time.Duration {
	t.Helper()
	var wg sync.WaitGroup
	fleet := make([]*quota.Limiter, instances)
	began := time.Now()
	for i := range clients {
		if i < instances {
			fleet[i] = open()
		}
		wg.Go(func() { p.client(t.Context(), t, fleet[i%instances], uint64(i)) })
	}
	wg.Wait()
	took := time.Since(began)
	for _, l := range fleet {
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	return took
}

// Eight instances, 64 clients and a hard limit per minute that they would pass several
// times over, beside one per day: nothing is charged over it, hardly anything is left of
// it, and the table is asked little.
func TestSixtyFourClientsOnAzurite(t *testing.T) {
	const instances, clients = 8, 64
	p := &load{limit: 1_000_000, bound: 1000, atLeast: 6 * time.Second, asked: map[int64]int64{}, answered: map[int64]int64{}}
	r := newHarness(t, fmt.Sprintf("tokens: %d, per: minute, hard: true", p.limit), "tokens: 100000000, per: day, hard: true")
	var ops atomic.Int64
	seen := newWindows()
	seen.per = "/minute/"
	open := realStore(t, r, lossyStore{ops: &ops, seen: seen})
	took := p.run(t, instances, clients, open)
	requests := p.granted + p.refused
	t.Logf("%.1f s: %d requests granted, %d refused, %d table operations (%.0f for 1,000 requests)",
		took.Seconds(), p.granted, p.refused, ops.Load(), float64(ops.Load())/float64(requests)*1000)
	under := 0
	for minute, asked := range p.asked {
		most, last := seen.most[minute], seen.last[minute]
		use := 100 * float64(p.answered[minute]) / float64(p.limit)
		t.Logf("minute %s: asked %d, charged at most %d of %d, answered %d, use %.2f %%",
			time.Unix(minute, 0).UTC().Format("15:04"), asked, most, p.limit, p.answered[minute], use)
		if most > p.limit || p.answered[minute] > last {
			t.Errorf("limit %d, but %d charged; %d answered of %d charged in the end", p.limit, most, p.answered[minute], last)
		}
		if asked > 2*p.limit {
			under++
			if use < 97 {
				t.Errorf("use %.2f %%, want 97 %%", use)
			}
		}
	}
	if under == 0 {
		t.Error("no minute was under pressure")
	}
}

// realStore starts Azurite and returns what opens one more instance on it.
func realStore(t *testing.T, r *harness, wire lossyStore) func() *quota.Limiter {
	t.Helper()
	if testing.Short() {
		t.Skip("needs Node; make test runs it")
	}
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
		wire.Store = store
		return quota.New(quota.Options{Store: wire, Policy: r.rules})
	}
}
