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
	limit     int64         // tokens per minute
	minutes   int
	faults    int           // of 100 writes go wrong
	kill      time.Duration // one instance is killed each; 0 = none
	skew      time.Duration // clocks differ by up to that, either way
	hard      bool
	seed      uint64
}

// account is what a simulation counts, by window.
type account struct {
	mu       sync.Mutex
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

// wire is one instance's connection: slow, faulty, cut for good when the instance dies,
// and with a clock of its own.
type wire struct {
	*table.Mem
	sim  *simulation
	acc  *account
	seen *windows
	skew time.Duration

	mu   sync.Mutex
	rng  *rand.Rand
	dead bool
}

var errCut = errors.New("connection cut")

// pass delays an operation and decides what becomes of it.
func (w *wire) pass(ctx context.Context, write bool) (apply bool, err error) {
	w.mu.Lock()
	delay := time.Duration(2+w.rng.IntN(12)) * time.Millisecond
	fate := w.rng.IntN(300)
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
	if fate >= 3*w.sim.faults {
		return true, nil
	}
	if fate%3 == 2 {
		<-ctx.Done()
		return write && fate%2 == 0, ctx.Err()
	}
	return write && fate%3 == 1, errCut
}

func (w *wire) Get(ctx context.Context, key table.Key) (table.Entity, error) {
	if _, err := w.pass(ctx, false); err != nil {
		return table.Entity{}, err
	}
	return w.Mem.Get(context.WithoutCancel(ctx), key)
}

func (w *wire) write(ctx context.Context, e table.Entity, put func(context.Context, table.Entity) (table.Entity, error)) (table.Entity, error) {
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

func (w *wire) Insert(ctx context.Context, e table.Entity) (table.Entity, error) {
	return w.write(ctx, e, w.Mem.Insert)
}

func (w *wire) Replace(ctx context.Context, e table.Entity) (table.Entity, error) {
	return w.write(ctx, e, w.Mem.Replace)
}

func (w *wire) Offset() time.Duration { return w.skew }

// member is one instance of the fleet.
type member struct {
	*wire
	limiter *quota.Limiter
	stop    context.CancelFunc
}

func (s *simulation) member(t *testing.T, r *rig, acc *account, seen *windows, n uint64) *member {
	rng := rand.New(rand.NewPCG(s.seed, n))
	w := &wire{Mem: r.mem, sim: s, acc: acc, seen: seen, rng: rng}
	if s.skew > 0 {
		w.skew = time.Duration(rng.Int64N(int64(2*s.skew))) - s.skew
	}
	m := &member{wire: w, limiter: quota.New(quota.Options{Store: w, Policy: r.rules})}
	var ctx context.Context
	ctx, m.stop = context.WithCancel(t.Context())
	go m.serve(ctx, rand.New(rand.NewPCG(s.seed, n+1000)))
	return m
}

// serve makes requests come at random until the instance dies.
func (m *member) serve(ctx context.Context, rng *rand.Rand) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		pause := time.Duration(rng.ExpFloat64() / m.sim.rate * float64(time.Second))
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		used := 1 + rng.Int64N(m.sim.bound)
		lasts := time.Duration(1 + rng.Int64N(int64(2*m.sim.answer)))
		wg.Go(func() { m.request(ctx, used, lasts) })
	}
}

func (m *member) request(ctx context.Context, used int64, lasts time.Duration) {
	asked := time.Now().Truncate(time.Minute).Unix()
	m.acc.mu.Lock()
	m.acc.asked[asked] += used
	m.acc.mu.Unlock()
	cost := quota.Cost{Estimate: m.sim.bound / 2, Bound: m.sim.bound}
	res, err := m.limiter.Reserve(ctx, alice, "gpt", cost)
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
		m.count(res, func(a *account, window int64) { a.stranded[window] += m.sim.bound })
		return
	case <-time.After(lasts):
	}
	m.count(res, func(a *account, window int64) {
		a.settled[window] += used
		if time.Now().Unix() >= window+60 {
			a.unused[window] += m.sim.bound - used
		}
	})
	_ = res.Settle(ctx, usage(used))
}

func (m *member) count(res *quota.Reservation, note func(*account, int64)) {
	stamps := quota.Stamps(res)
	if stamps == nil {
		return
	}
	m.acc.mu.Lock()
	defer m.acc.mu.Unlock()
	note(m.acc, stamps[0])
}

// run lets the fleet work and returns what was counted.
func (s *simulation) run(t *testing.T, r *rig) (*account, *windows) {
	acc := &account{asked: map[int64]int64{}, settled: map[int64]int64{}, unused: map[int64]int64{}, stranded: map[int64]int64{}}
	seen := &windows{most: map[int64]int64{}}
	rng := rand.New(rand.NewPCG(s.seed, 99))
	fleet, n := []*member{}, uint64(0)
	for range s.instances {
		n++
		fleet = append(fleet, s.member(t, r, acc, seen, n))
	}
	end := time.Now().Add(time.Duration(s.minutes) * time.Minute)
	for time.Now().Before(end) {
		if s.kill == 0 {
			time.Sleep(time.Until(end))
			break
		}
		time.Sleep(s.kill)
		i := rng.IntN(len(fleet))
		fleet[i].die()
		acc.killed++
		n++
		fleet[i] = s.member(t, r, acc, seen, n)
	}
	for _, m := range fleet {
		m.stop()
	}
	time.Sleep(2 * time.Minute) // until all writers have given up
	synctest.Wait()
	return acc, seen
}

func (m *member) die() {
	m.mu.Lock()
	m.dead = true
	m.mu.Unlock()
	m.stop()
}

func (s *simulation) test(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, fmt.Sprintf("tokens: %d, per: minute, hard: %v", s.limit, s.hard))
		acc, seen := s.run(t, r)
		acc.mu.Lock()
		defer acc.mu.Unlock()
		for w := range int64(s.minutes) {
			start := time.Date(2000, 1, 1, 0, int(w), 0, 0, time.UTC).Unix()
			use := float64(acc.settled[start]) / float64(s.limit-acc.unused[start])
			t.Logf("window %d: asked %d, charged at most %d of %d, settled %d, unused under way %d, stranded %d: use %.2f %%",
				w, acc.asked[start], seen.most[start], s.limit, acc.settled[start], acc.unused[start], acc.stranded[start], 100*use)
			if seen.most[start] > s.limit {
				t.Errorf("window %d: %d charged, limit %d", w, seen.most[start], s.limit)
			}
		}
		t.Logf("granted %d, refused %d, away %d, killed %d, %d table operations", acc.granted, acc.refused, acc.away, acc.killed, acc.ops)
	})
}

func TestSim(t *testing.T) {
	for name, s := range map[string]simulation{
		"50 slow":         {instances: 50, rate: 1, bound: 1000, answer: 2 * time.Second, limit: 600_000, minutes: 3, hard: true},
		"50 fast":         {instances: 50, rate: 10, bound: 1000, answer: 2 * time.Second, limit: 6_000_000, minutes: 3, hard: true},
		"8 fast":          {instances: 8, rate: 25, bound: 1000, answer: 2 * time.Second, limit: 3_000_000, minutes: 3, hard: true},
		"8 fast, small":   {instances: 8, rate: 25, bound: 100, answer: 50 * time.Millisecond, limit: 30_000, minutes: 3, hard: true},
		"8 just enough":   {instances: 8, rate: 25, bound: 1000, answer: 2 * time.Second, limit: 5_700_000, minutes: 3, hard: true},
		"50 fast, faults": {instances: 50, rate: 10, bound: 1000, answer: 2 * time.Second, limit: 6_000_000, minutes: 3, hard: true, faults: 5, skew: 2 * time.Second},
		"50 fast, kills":  {instances: 50, rate: 10, bound: 1000, answer: 2 * time.Second, limit: 6_000_000, minutes: 3, hard: true, faults: 5, skew: 2 * time.Second, kill: time.Second},
		"8 kills":         {instances: 8, rate: 25, bound: 1000, answer: 2 * time.Second, limit: 3_000_000, minutes: 3, hard: true, kill: time.Second},
	} {
		t.Run(name, s.test)
	}
}
