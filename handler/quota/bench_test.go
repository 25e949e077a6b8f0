package quota_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"aoaigateway/handler/quota"
	"aoaigateway/handler/table"
)

// shipped are the limits of the product default in infra/policy.yaml: one counter.
// They are larger here, so that nothing is refused.
var shipped = []string{"tokens: 10000000000, per: minute", "requests: 1000000000, per: minute", "tokens: 10000000000000, per: month"}

// BenchmarkReserveFromALease is one request's way through the limits when the store need
// not be asked: reserve and settle together, and the median of reserve alone.
func BenchmarkReserveFromALease(b *testing.B) {
	for name, limits := range map[string][]string{
		"soft": shipped,
		"hard": {"tokens: 100000000000, per: day, hard: true", "requests: 600000000, per: day, hard: true", "concurrent: 100000, hard: true"},
	} {
		b.Run(name, func(b *testing.B) {
			r := newHarness(b, limits...)
			l := r.limiter()
			took := make([]time.Duration, 0, 1<<20)
			b.ReportAllocs()
			for b.Loop() {
				began := time.Now()
				res := r.reserve(l, 400)
				if len(took) < cap(took) {
					took = append(took, time.Since(began))
				}
				r.settle(res, 250)
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "reserve-p50-ns")
			b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "reserve-p99-ns")
			b.ReportMetric(float64(r.operations())/float64(b.N)*1000, "table-ops/1000")
			if err := l.Close(b.Context()); err != nil {
				b.Error(err)
			}
		})
	}
}

// BenchmarkTableOperations counts what the limits of one counter cost the table, in virtual
// time.
func BenchmarkTableOperations(b *testing.B) {
	var busy, quiet float64
	for b.Loop() {
		ok := testing.RunTests(func(string, string) (bool, error) { return true, nil }, []testing.InternalTest{
			{Name: "busy", F: func(t *testing.T) { synctest.Test(t, func(t *testing.T) { busy = operationsWhenBusy(t) }) }},
			{Name: "quiet", F: func(t *testing.T) { synctest.Test(t, func(t *testing.T) { quiet = operationsWhenQuiet(t) }) }},
		})
		if !ok {
			b.Fatal("the count failed")
		}
	}
	b.ReportMetric(busy, "ops/1000-at-200/s")
	b.ReportMetric(quiet, "ops/request-at-1/min")
}

// operationsWhenBusy makes 200 requests a second for a minute, at random, with answers of
// up to 4 s, and returns the table operations for 1,000 of them.
func operationsWhenBusy(t *testing.T) float64 {
	const rate, total = 200, 12_000
	r, rng := newHarness(t, shipped...), rand.New(rand.NewPCG(1, 2))
	l := r.limiter()
	var wg sync.WaitGroup
	for range total {
		time.Sleep(time.Duration(rng.ExpFloat64() / rate * float64(time.Second)))
		used, lasts := 1+rng.Int64N(400), time.Duration(rng.Int64N(int64(4*time.Second)))
		wg.Go(func() {
			res := r.reserve(l, 400)
			time.Sleep(lasts)
			r.settle(res, used)
		})
	}
	wg.Wait()
	if err := l.Close(t.Context()); err != nil {
		t.Error(err)
	}
	return float64(r.operations()) / total * 1000
}

// operationsWhenQuiet makes a request a minute and returns the table operations for each.
func operationsWhenQuiet(t *testing.T) float64 {
	const total = 60
	r := newHarness(t, shipped...)
	l := r.limiter()
	for range total {
		res := r.reserve(l, 400)
		time.Sleep(20 * time.Second)
		r.settle(res, 250)
		time.Sleep(40 * time.Second)
	}
	return float64(r.operations()) / total
}

func TestLimitsCostTheTableLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := operationsWhenBusy(t)
		t.Logf("%.1f table operations for 1,000 requests, at 200 a second", got)
		if got > 40 {
			t.Error("want 40 at most")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		got := operationsWhenQuiet(t)
		t.Logf("%.2f table operations a request, at one a minute", got)
		if got > 3 {
			t.Error("want 3 at most")
		}
	})
}

// Of 100,000 callers the last few thousand are remembered.
func TestCountersBoundMemory(t *testing.T) {
	const callers, most = 100_000, 32 << 20
	r := newHarness(t, "tokens: 1000, per: minute, by: ip", "requests: 10, per: day, by: ip", "concurrent: 5, hard: true, by: ip")
	l := quota.New(quota.Options{Store: blackHole{table.NewMem()}, Policy: r.rules})
	before := heap()
	for i := range callers {
		c := alice
		c.IP = fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)
		res, err := l.Reserve(t.Context(), c, "m", quota.Cost{Estimate: 10})
		if err != nil {
			t.Fatal(err)
		}
		// A busy machine may take longer than an answer's end waits for.
		if err := res.Settle(t.Context(), usage(7)); err != nil && !errors.Is(err, quota.ErrPending) {
			t.Fatal(err)
		}
	}
	grew := heap() - before
	t.Logf("%d counters remembered, heap grown by %.1f MB", quota.CounterCount(l), float64(grew)/(1<<20))
	if n := quota.CounterCount(l); n > 2*4096 || grew > most {
		t.Errorf("%d counters in %d bytes, want %d in %d at most", n, grew, 2*4096, most)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
