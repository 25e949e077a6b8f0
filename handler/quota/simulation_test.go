package quota_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/quota"
	"aoaigateway/handler/table"
)

// simulation is a fleet of instances on one table, in virtual time.
type simulation struct {
	instances int
	rate      float64 // requests a second, each instance
	bound     int64
	answer    time.Duration // takes up to twice that
	limit     int64         // tokens
	minutes   int
	faults    int           // of 100 writes go wrong
	kill      time.Duration // one instance is killed each; 0 = none
	skew      time.Duration // clocks differ by up to that, either way
	seed      uint64
}

// ledger has the totals of a simulation.
type ledger struct {
	mu       sync.Mutex      // of all below; the maps are by window
	asked    map[int64]int64 // tokens requests would have used
	settled  map[int64]int64 // tokens used by requests admitted there
	unused   map[int64]int64 // of reservations under way when it ended
	stranded map[int64]int64 // held by reservations that were killed
	granted  int
	refused  int
	away     int
	ops      int
	killed   int
}

// link is the connection of one instance to the store. It is slow, it fails at times, it
// has its own clock, and it stops working when the instance dies.
type link struct {
	*table.Mem
	sim  *simulation
	acc  *ledger
	seen *windows
	skew time.Duration

	mu   sync.Mutex
	rng  *rand.Rand
	dead bool
}

var errCut = errors.New("connection cut")

// pass delays an operation and decides what becomes of it.
func (w *link) pass(ctx context.Context, write bool) (apply bool, err error) {
	w.mu.Lock()
	delay := time.Duration(2+w.rng.IntN(12)) * time.Millisecond
	dice := w.rng.IntN(300)
	dead := w.dead
	w.mu.Unlock()
	w.acc.mu.Lock()
	w.acc.ops++
	w.acc.mu.Unlock()
	if dead {
		<-ctx.Done()
		return false, ctx.Err()
	}
	time.Sleep(delay)
	if dice >= 3*w.sim.faults {
		return true, nil
	}
	if dice%3 == 2 {
		<-ctx.Done()
		return write && dice%2 == 0, ctx.Err()
	}
	return write && dice%3 == 1, errCut
}

func (w *link) Get(ctx context.Context, key table.Key) (table.Entity, error) {
	if _, err := w.pass(ctx, false); err != nil {
		return table.Entity{}, err
	}
	return w.Mem.Get(context.WithoutCancel(ctx), key)
}

func (w *link) write(
	ctx context.Context, e table.Entity, put func(context.Context, table.Entity) (table.Entity, error),
) (table.Entity, error) {
	apply, err := w.pass(ctx, true)
	if !apply {
		return table.Entity{}, err
	}
	got, perr := put(context.WithoutCancel(ctx), e)
	if perr == nil {
		w.seen.note(got)
	}
	if err != nil {
		return table.Entity{}, err
	}
	return got, perr
}

func (w *link) Insert(ctx context.Context, e table.Entity) (table.Entity, error) {
	return w.write(ctx, e, w.Mem.Insert)
}

func (w *link) Replace(ctx context.Context, e table.Entity) (table.Entity, error) {
	return w.write(ctx, e, w.Mem.Replace)
}

func (w *link) Offset() time.Duration { return w.skew }

// instance is one instance of the simulation.
type instance struct {
	*link
	limiter *quota.Limiter
	life    context.Context    // of the instance and its requests
	end     context.CancelFunc // of life
	stop    context.CancelFunc // no more requests come
}

func (s *simulation) newInstance(t *testing.T, r *harness, acc *ledger, seen *windows, n uint64) *instance {
	rng := rand.New(rand.NewPCG(s.seed, n))
	w := &link{Mem: r.mem, sim: s, acc: acc, seen: seen, rng: rng}
	if s.skew > 0 {
		w.skew = time.Duration(rng.Int64N(int64(2*s.skew))) - s.skew
	}
	m := &instance{link: w, limiter: quota.New(quota.Options{Store: w, Policy: r.rules})}
	m.life, m.end = context.WithCancel(t.Context())
	coming, stop := context.WithCancel(m.life)
	m.stop = stop
	go m.serve(coming, rand.New(rand.NewPCG(s.seed, n+1000)))
	return m
}

// serve makes requests come at random.
func (m *instance) serve(coming context.Context, rng *rand.Rand) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		pause := time.Duration(rng.ExpFloat64() / m.sim.rate * float64(time.Second))
		select {
		case <-coming.Done():
			return
		case <-time.After(pause):
		}
		used := 1 + rng.Int64N(m.sim.bound)
		lasts := time.Duration(1 + rng.Int64N(int64(2*m.sim.answer)))
		wg.Go(func() { m.request(m.life, used, lasts) })
	}
}

// checkAndReserve reserves, and asks before that whether the request can pass, as for a large
// body.
func (m *instance) checkAndReserve(ctx context.Context, cost quota.Cost, large bool) (*quota.Reservation, error) {
	if large {
		if err := m.limiter.Check(ctx, alice, "gpt", true); err != nil {
			return nil, err
		}
	}
	return m.limiter.Reserve(ctx, alice, "gpt", cost)
}

func (m *instance) request(ctx context.Context, used int64, lasts time.Duration) {
	asked := time.Now().Truncate(time.Minute).Unix()
	m.acc.mu.Lock()
	m.acc.asked[asked] += used
	m.acc.mu.Unlock()
	cost := quota.Cost{Estimate: m.sim.bound / 2, Bound: m.sim.bound}
	res, err := m.checkAndReserve(ctx, cost, used%2 == 0)
	m.acc.mu.Lock()
	switch kind := gateway.KindOf(err); {
	case err == nil:
		m.acc.granted++
	case kind == gateway.RateLimited:
		m.acc.refused++
	default:
		m.acc.away++
	}
	m.acc.mu.Unlock()
	if err != nil {
		return
	}
	select {
	case <-ctx.Done():
		m.inWindow(res, func(a *ledger, window int64) { a.stranded[window] += m.sim.bound })
		return
	case <-time.After(lasts):
	}
	m.inWindow(res, func(a *ledger, window int64) {
		a.settled[window] += used
		if time.Now().Unix() >= window+60 {
			a.unused[window] += m.sim.bound - used
		}
	})
	_ = res.Settle(ctx, usage(used))
}

// inWindow calls note with the window that a reservation was charged to.
func (m *instance) inWindow(res *quota.Reservation, note func(*ledger, int64)) {
	window := time.Now().Truncate(time.Hour).Unix() // of one that the store knows nothing of
	if ids := quota.WindowIDs(res); ids != nil {
		window = ids[0]
	}
	m.acc.mu.Lock()
	defer m.acc.mu.Unlock()
	note(m.acc, window)
}

// run lets the fleet work and returns what was counted.
func (s *simulation) run(t *testing.T, r *harness) (*ledger, *windows) {
	acc := &ledger{asked: map[int64]int64{}, settled: map[int64]int64{}, unused: map[int64]int64{}, stranded: map[int64]int64{}}
	seen := newWindows()
	rng := rand.New(rand.NewPCG(s.seed, 99))
	fleet, n := []*instance{}, uint64(0)
	for range s.instances {
		n++
		fleet = append(fleet, s.newInstance(t, r, acc, seen, n))
	}
	end := time.Now().Add(time.Duration(s.minutes) * time.Minute)
	for s.kill > 0 && time.Now().Before(end) {
		time.Sleep(s.kill)
		i := rng.IntN(len(fleet))
		fleet[i].die()
		acc.killed++
		n++
		fleet[i] = s.newInstance(t, r, acc, seen, n)
	}
	time.Sleep(time.Until(end))
	for _, m := range fleet {
		m.stop()
	}
	time.Sleep(2 * time.Minute) // until all writers have given up
	synctest.Wait()
	return acc, seen
}

func (m *instance) die() {
	m.mu.Lock()
	m.dead = true
	m.mu.Unlock()
	m.end()
}

// check prints what became of each window and holds it against the limit; use is what it
// must have been used to, in per cent.
func (s *simulation) check(t *testing.T, acc *ledger, seen *windows, use float64) {
	acc.mu.Lock()
	defer acc.mu.Unlock()
	for minute := range s.minutes {
		w := time.Date(2000, 1, 1, 0, minute, 0, 0, time.UTC).Unix()
		got := 100 * float64(acc.settled[w]) / float64(s.limit-acc.unused[w])
		t.Logf("minute %d: asked %d, charged at most %d of %d, answered %d, stranded by kills %d, use %.2f %%",
			minute, acc.asked[w], seen.most[w], s.limit, acc.settled[w], acc.stranded[w], got)
		if seen.most[w] > s.limit {
			t.Errorf("minute %d: %d charged, limit %d", minute, seen.most[w], s.limit)
		}
		if acc.settled[w] > seen.last[w] {
			t.Errorf("minute %d: %d answered, but only %d charged", minute, acc.settled[w], seen.last[w])
		}
		if acc.asked[w] < s.limit {
			t.Fatalf("minute %d: demand of %d is no pressure", minute, acc.asked[w])
		}
		if got < use {
			t.Errorf("minute %d: use %.2f %%, want %.0f %%", minute, got, use)
		}
	}
	t.Logf("granted %d, refused %d, not decided %d, killed %d, %d table operations", acc.granted, acc.refused, acc.away, acc.killed, acc.ops)
}

func (s *simulation) test(t *testing.T, use float64) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newHarness(t, fmt.Sprintf("tokens: %d, per: minute, hard: true", s.limit))
		acc, seen := s.run(t, r)
		s.check(t, acc, seen, use)
		// What kills stranded is gone with its window.
		res := r.reserve(r.limiter(), s.limit)
		t.Logf("the whole limit of %d was free again afterwards", s.limit)
		res.Release(t.Context())
	})
}

// A fleet uses a hard limit up and never goes over.
func TestFleetUsesUpHardLimit(t *testing.T) {
	for name, s := range map[string]simulation{
		"50 instances, a request a second each":           {instances: 50, rate: 1, bound: 1000, answer: 2 * time.Second, limit: 600_000},
		"50 instances, five requests a second each":       {instances: 50, rate: 5, bound: 1000, answer: 2 * time.Second, limit: 3_000_000},
		"8 instances, short answers, a small limit":       {instances: 8, rate: 25, bound: 100, answer: 50 * time.Millisecond, limit: 30_000},
		"8 instances, a limit that just does not suffice": {instances: 8, rate: 25, bound: 1000, answer: 2 * time.Second, limit: 5_700_000},
		"1 instance":                     {instances: 1, rate: 40, bound: 1000, answer: 2 * time.Second, limit: 600_000},
		"50 instances, clocks 2 s apart": {instances: 50, rate: 2, bound: 1000, answer: 5 * time.Second, limit: 1_200_000, skew: 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			s.minutes, s.seed = 2, 1
			s.test(t, 97)
		})
	}
}

// Every twentieth operation fails, fails after applying, or hangs.
func TestFleetWithFaultyStore(t *testing.T) {
	for seed := range uint64(2) {
		s := simulation{
			instances: 50, rate: 5, bound: 1000, answer: 2 * time.Second, limit: 3_000_000, minutes: 2,
			faults: 5, skew: 2 * time.Second, seed: seed,
		}
		s.test(t, 97)
	}
}

// Windows close with reservations and leases in flight, clocks differ by up to 2 s either
// way, writes go wrong, and an instance is killed each second.
func TestFleetWithFaultsAndKills(t *testing.T) {
	for seed := range uint64(2) {
		s := simulation{
			instances: 50, rate: 5, bound: 1000, answer: 4 * time.Second, limit: 3_000_000, minutes: 3,
			faults: 5, skew: 2 * time.Second, kill: time.Second, seed: seed,
		}
		s.test(t, 0)
	}
}

// A soft limit holds estimates, and goes on without its store, so that it may be passed a
// little.
func TestFleetWithSoftLimit(t *testing.T) {
	for faults, most := range map[int]float64{0: 2, 2: 5} {
		s := simulation{instances: 50, rate: 5, bound: 1000, answer: 2 * time.Second, limit: 3_000_000, minutes: 2, faults: faults, seed: 1}
		synctest.Test(t, func(t *testing.T) {
			r := newHarness(t, fmt.Sprintf("tokens: %d, per: hour", s.limit))
			acc, _ := s.run(t, r)
			acc.mu.Lock()
			defer acc.mu.Unlock()
			used := acc.settled[time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Unix()]
			over := 100 * float64(used-s.limit) / float64(s.limit)
			t.Logf("%d of 100 operations go wrong: %d used of %d, overshoot %.2f %%", faults, used, s.limit, over)
			if over > most || over < -3 {
				t.Errorf("overshoot %.2f %%, want %.0f %% at most", over, most)
			}
		})
	}
}
