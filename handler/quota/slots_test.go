package quota_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/quota"
	"aoaigateway/handler/table"
)

func (r *harness) requireFull(l *quota.Limiter) {
	r.t.Helper()
	e := r.refused(l, alice, 1)
	if e.Kind != gateway.RateLimited || e.Limit != "few" || e.Code != "RateLimitExceeded" || e.RetryAfter < time.Second ||
		!strings.HasPrefix(e.Message, "Concurrency limit is exceeded. Try again in ") {
		r.t.Errorf("%+v, want a refusal for a moment that names the limit", e)
	}
}

// waitRefusalMemory waits until a free slot was given back, and until an older reading
// refuses nobody any more. Each takes a quarter of a second.
func waitRefusalMemory() { time.Sleep(600 * time.Millisecond) }

// Requests under way are limited over all instances.
func TestSlotsAreSharedByInstances(t *testing.T) {
	for _, hard := range []string{"true", "false"} {
		bubble(t, []string{"name: few, concurrent: 3, hard: " + hard}, func(t *testing.T, r *harness) {
			a, b := r.limiter(), r.limiter()
			first, second, third := r.reserve(a, 1), r.reserve(b, 1), r.reserve(b, 1)
			r.requireFull(a)
			r.requireFull(b)
			r.settle(first, 1)
			waitRefusalMemory()
			fourth := r.reserve(b, 1)
			r.requireFull(a)
			second.Release(t.Context())
			waitRefusalMemory()
			fifth := r.reserve(a, 1)
			r.requireFull(b)
			for _, res := range []*quota.Reservation{third, fourth, fifth, fifth} {
				res.Release(t.Context())
			}
			waitRefusalMemory()
			for range 3 {
				r.reserve(a, 1)
			}
			r.requireFull(a)
		})
	}
}

// A request has one slot whatever its attempts.
func TestSlotIsOnePerRequest(t *testing.T) {
	bubble(t, []string{"name: few, concurrent: 1, hard: true", "tokens: 1000, per: day, hard: true"}, func(t *testing.T, r *harness) {
		l := r.limiter()
		res := r.reserve(l, 100)
		for range 3 {
			res.Keep()
			if err := res.Again(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		r.requireFull(r.limiter())
		r.settle(res, 50)
		waitRefusalMemory()
		if got := r.reserve(r.limiter(), 0).Remaining().Quota.Left; got != 1000-350 {
			t.Errorf("%d left, want %d", got, 1000-350)
		}
	})
}

// A refusal by another limit frees the slot.
func TestSlotFreedByOtherRefusal(t *testing.T) {
	limits := []string{"concurrent: 1, hard: true, by: ip", "tokens: 10, per: day, hard: true"}
	bubble(t, limits, func(t *testing.T, r *harness) {
		l := r.limiter()
		for _, n := range []int64{8, 8, 2} {
			res, err := l.Reserve(t.Context(), alice, "gpt", tokens(n))
			if e, ok := errors.AsType[*gateway.Error](err); ok && e.Limit != "tokens-per-day" {
				t.Errorf("refused by %s: the slot of a refused request was not freed", e.Limit)
			}
			if res != nil {
				r.settle(res, n)
			}
			time.Sleep(time.Minute)
		}
	})
}

// A slot is renewed while its request lasts.
func TestSlotIsRenewed(t *testing.T) {
	bubble(t, []string{"name: few, concurrent: 1, hard: true"}, func(t *testing.T, r *harness) {
		res, other := r.reserve(r.limiter(), 1), r.limiter()
		r.operations()
		for range 60 {
			r.requireFull(other)
			time.Sleep(10 * time.Second)
		}
		if n := r.operations(); n > 60+30+30 {
			t.Errorf("%d store operations in 10 minutes, want a renewal each 20 s beside the refusals", n)
		}
		select {
		case <-res.Done():
			t.Errorf("lost: %v", res.Err())
		default:
		}
		if res.Err() != nil {
			t.Errorf("Err: %v", res.Err())
		}
		r.settle(res, 1)
		waitRefusalMemory()
		r.reserve(other, 1)
	})
}

// A slot is free a minute after its instance died.
func TestSlotOutlivesDeadInstance(t *testing.T) {
	bubble(t, []string{"name: few, concurrent: 2, hard: true"}, func(t *testing.T, r *harness) {
		began := time.Now()
		dead := quota.New(quota.Options{Store: dyingStore(r.mem, began.Add(time.Second)), Policy: r.rules})
		r.reserve(dead, 1)
		r.reserve(dead, 1)
		l := r.limiter()
		time.Sleep(58 * time.Second)
		r.requireFull(l)
		time.Sleep(3 * time.Second)
		r.reserve(l, 1)
		r.reserve(l, 1)
		r.requireFull(l)
		time.Sleep(time.Minute) // until the dead one has given up
	})
}

// A slot that cannot be renewed is given up before others take it.
func TestSlotLostBeforeOthersTakeIt(t *testing.T) {
	for name, fault := range map[string]table.Fault{
		"refuses": func(context.Context, table.Op, table.Key) (bool, error) { return false, errAway },
		"hangs": func(ctx context.Context, _ table.Op, _ table.Key) (bool, error) {
			<-ctx.Done()
			return false, ctx.Err()
		},
	} {
		bubble(t, []string{"name: few, concurrent: 2, hard: true"}, func(t *testing.T, r *harness) {
			cut := &faultyStore{Mem: r.mem}
			l := quota.New(quota.Options{Store: cut, Policy: r.rules})
			began := time.Now()
			first, second := r.reserve(l, 1), r.reserve(l, 1)
			cut.set(fault)
			for _, res := range []*quota.Reservation{first, second} {
				<-res.Done()
				if took := time.Since(began); took < 50*time.Second || took > 53*time.Second {
					t.Errorf("%s: lost after %v, want 50 s", name, took)
				}
				if e, ok := errors.AsType[*gateway.Error](res.Err()); !ok || e.Kind != gateway.Unavailable || e.Limit != "few" {
					t.Errorf("%s: %v", name, res.Err())
				}
			}
			other := r.limiter()
			r.requireFull(other)
			time.Sleep(10 * time.Second)
			third, fourth := r.reserve(other, 1), r.reserve(other, 1)
			cut.set(nil)
			first.Release(t.Context())
			_ = second.Settle(t.Context(), usage(1))
			time.Sleep(time.Minute)
			r.requireFull(l)
			third.Release(t.Context())
			fourth.Release(t.Context())
			waitRefusalMemory()
			r.reserve(l, 1)
		})
	}
}

func TestSoftSlotOutlivesStore(t *testing.T) {
	bubble(t, []string{"name: few, concurrent: 2"}, func(t *testing.T, r *harness) {
		l := r.limiter()
		r.storeAway()
		first := r.reserve(l, 1)
		if !first.Degraded() || first.Done() != nil {
			t.Errorf("unsure %v, may be lost %v", first.Degraded(), first.Done() != nil)
		}
		time.Sleep(2 * time.Minute)
		r.heal()
		time.Sleep(2 * time.Second)
		other := r.limiter()
		r.reserve(other, 1)
		r.requireFull(other) // the entity knows of the first by now
		r.settle(first, 1)
		waitRefusalMemory()
		r.reserve(other, 1)
	})
}

// Slots of a busy counter are leased too.
func TestSlotsCostTheTableLittle(t *testing.T) {
	for _, tc := range []struct {
		limit string
		want  float64 // operations for 1,000 requests
	}{
		{"name: few, concurrent: 1000, hard: true", 40},
		{"name: few, concurrent: 12, hard: true", 400}, // 8 under way on average: near its limit
	} {
		bubble(t, []string{tc.limit}, func(t *testing.T, r *harness) {
			l, rng := r.limiter(), rand.New(rand.NewPCG(1, 1))
			const rate, total = 200, 4000
			var wg sync.WaitGroup
			var mu sync.Mutex
			refusals := 0
			for range total {
				time.Sleep(time.Duration(rng.ExpFloat64() / rate * float64(time.Second)))
				lasts := time.Duration(rng.Int64N(int64(80 * time.Millisecond)))
				wg.Go(func() {
					res, err := l.Reserve(t.Context(), alice, "gpt", tokens(1))
					if err != nil {
						mu.Lock()
						refusals++
						mu.Unlock()
						return
					}
					time.Sleep(lasts)
					r.settle(res, 1)
				})
			}
			wg.Wait()
			got := float64(r.operations()) / total * 1000
			t.Logf("%s: %.1f table operations for 1,000 requests, %d refused", tc.limit, got, refusals)
			if got > tc.want || tc.want == 40 && refusals > 0 {
				t.Errorf("want %.0f at most", tc.want)
			}
			time.Sleep(5 * time.Second)
			if got := slotsIn(t, r); got != "" {
				t.Errorf("slots %q are kept by an idle instance", got)
			}
		})
	}
}

// slotsIn is what the product's only entity says of slots.
func slotsIn(t *testing.T, r *harness) string {
	t.Helper()
	for e, err := range r.mem.Scan(t.Context(), "p|subscription|alice") {
		if err != nil {
			t.Fatal(err)
		}
		text, _ := e.Props["slots"].(string)
		return text
	}
	return "no entity"
}

// Many instances, some of which die or lose their store, ask for more than there is: the
// requests that believe to have a slot are never more than the limit.
func TestSlotsNeverExceedHardLimit(t *testing.T) {
	const limit = 7
	for seed := range uint64(5) {
		bubble(t, []string{"name: few, concurrent: 7, hard: true"}, func(t *testing.T, r *harness) {
			var g gauge
			var wg sync.WaitGroup
			for i := range uint64(12) {
				rng := rand.New(rand.NewPCG(seed, i))
				store := &faultyStore{Mem: r.mem}
				l := quota.New(quota.Options{Store: store, Policy: r.rules})
				stop := time.Now().Add(time.Duration(60+rng.IntN(300)) * time.Second)
				time.AfterFunc(time.Until(stop), func() { store.set(hang) }) // it is killed, or cut off
				for range 3 {
					lasts := time.Duration(rng.IntN(90)) * time.Second
					wg.Go(func() {
						for time.Now().Before(stop) {
							g.request(t, l, lasts)
						}
					})
				}
			}
			wg.Wait()
			if g.most > limit || g.most < limit-1 {
				t.Errorf("seed %d: %d in flight at one time, limit %d", seed, g.most, limit)
			}
			if g.granted < 25 { // there was a load at all; how much of it was granted is chance
				t.Errorf("seed %d: only %d granted", seed, g.granted)
			}
			time.Sleep(5 * time.Minute) // until the last of the dead has given up
		})
	}
}

// gauge counts requests in flight.
type gauge struct {
	mu                      sync.Mutex
	inFlight, most, granted int
}

func (g *gauge) add(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inFlight += n
	g.most = max(g.most, g.inFlight)
	g.granted += max(n, 0)
}

// request makes one request that lasts that long, or until its slot is lost.
func (g *gauge) request(t *testing.T, l *quota.Limiter, lasts time.Duration) {
	t.Helper()
	res, err := l.Reserve(t.Context(), alice, "gpt", tokens(1))
	if err != nil {
		time.Sleep(time.Second)
		return
	}
	g.add(1)
	select {
	case <-time.After(lasts):
	case <-res.Done():
	}
	g.add(-1)
	res.Release(t.Context())
}
