package quota_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/quota"
	"aoaigateway/handler/table"
)

// Requests come twice a second around the end of a window, each lasting 3 s, from two
// instances with leases: each is charged to the window that it was admitted in, and
// settled there, if that is still open.
func TestWindowEndsDuringRequests(t *testing.T) {
	for _, tc := range []struct{ per, end string }{
		{"minute", "2000-01-01T00:01:00Z"},
		{"hour", "2000-01-01T01:00:00Z"},
		{"day", "2000-02-29T00:00:00Z"},   // into a leap day
		{"day", "2000-03-01T00:00:00Z"},   // out of it
		{"week", "2000-01-03T00:00:00Z"},  // a Monday
		{"month", "2000-03-01T00:00:00Z"}, // February of a leap year
		{"month", "2000-05-01T00:00:00Z"}, // a month of 30 days
		{"year", "2001-01-01T00:00:00Z"},
	} {
		bubble(t, []string{"tokens: 100000, per: " + tc.per + ", hard: true"}, func(t *testing.T, r *harness) {
			end, err := time.Parse(time.RFC3339, tc.end)
			if err != nil {
				t.Fatal(err)
			}
			seen := newWindows()
			fleet := make([]*quota.Limiter, 2)
			for i := range fleet {
				fleet[i] = quota.New(quota.Options{Store: &skewedStore{Mem: r.mem, seen: seen}, Policy: r.rules})
			}
			time.Sleep(time.Until(end) - 10*time.Second)
			admitted, before := r.requestAround(t, fleet, end)
			for _, l := range fleet {
				if err := l.Close(t.Context()); err != nil {
					t.Error(err)
				}
			}
			if got := seen.last[end.Unix()]; got != admitted[end.Unix()] {
				t.Errorf("per %s: %d charged in the new window, want %d", tc.per, got, admitted[end.Unix()])
			}
			// The rest of the closed window's leases is lost with the window.
			if got := seen.last[before]; got < admitted[before] || got > admitted[before]+2000 {
				t.Errorf("per %s: %d charged in the old window, want %d and a lease at most", tc.per, got, admitted[before])
			}
		})
	}
}

// requestAround makes 40 requests, and returns what was charged by window id, and the id
// of the window that ends.
func (r *harness) requestAround(t *testing.T, fleet []*quota.Limiter, end time.Time) (admitted map[int64]int64, before int64) {
	t.Helper()
	admitted = map[int64]int64{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 40 {
		res := r.reserve(fleet[i%2], 100)
		admission, window := time.Now(), quota.WindowIDs(res)[0]
		if closed := window < end.Unix(); closed != admission.Before(end) {
			t.Errorf("end %v: admitted at %v, charged to the window of %v", end, admission, time.Unix(window, 0).UTC())
		} else if closed {
			before = window
		}
		wg.Go(func() {
			time.Sleep(3 * time.Second)
			used := int64(60)
			if admission.Before(end) && !time.Now().Before(end) {
				used = 100 // the window has ended, so nothing goes back
			}
			r.settle(res, 60)
			mu.Lock()
			defer mu.Unlock()
			admitted[window] += used
		})
		time.Sleep(500 * time.Millisecond)
	}
	wg.Wait()
	return admitted, before
}

// An instance learns that the store's clock is 2 s behind what it believed, just after the
// minute began: its windows stay where they are.
func TestClockSetBack(t *testing.T) {
	for _, busy := range []bool{true, false} {
		bubble(t, []string{"requests: 30, per: minute, hard: true", "requests: 1000, per: day"}, func(t *testing.T, r *harness) {
			store := &skewedStore{Mem: r.mem, seen: newWindows()}
			l := quota.New(quota.Options{Store: store, Policy: r.rules})
			at(t, "2000-01-01T00:00:59Z")
			use := func(n int) (granted int) {
				for range n {
					if _, err := l.Reserve(t.Context(), alice, "gpt", tokens(0)); err == nil {
						granted++
					} else if gateway.KindOf(err) != gateway.RateLimited {
						t.Error(err)
					}
					if !busy {
						time.Sleep(20 * time.Millisecond)
					}
				}
				return granted
			}
			if n := use(40); n != 30 {
				t.Errorf("busy %v: %d granted in the first minute, want 30", busy, n)
			}
			at(t, "2000-01-01T00:01:00.500Z")
			first := use(10)
			store.offset = -2 * time.Second // 00:00:58.5 there, it says
			second := use(30)
			if first != 10 || second != 20 {
				t.Errorf("busy %v: %d and %d granted in the second minute, want 10 and 20", busy, first, second)
			}
			time.Sleep(59 * time.Second)
			if n := use(1); n != 0 {
				t.Errorf("busy %v: granted in a third minute that has not begun there", busy)
			}
			time.Sleep(3 * time.Second)
			if n := use(30); n != 30 {
				t.Errorf("busy %v: %d granted in the third minute, want 30", busy, n)
			}
		})
	}
}

// Each write of eight busy instances in turn goes wrong in each way: nothing is over, and
// what the table has in the end is what was used, to the token.
func TestBusyWriterOneFault(t *testing.T) {
	for name, fault := range faultKinds {
		for nth := 0; ; nth++ {
			hit := false
			bubble(t, []string{"tokens: 40000, per: day, hard: true", "concurrent: 100, hard: true"}, func(t *testing.T, r *harness) {
				hit = r.breakNth(nth, fault.apply, fault.err, func() {
					granted, refusals := requestSteadily(t, r, 8, 12, 200*time.Millisecond)
					r.heal()
					if left := r.left(); left != 40_000-60*granted || refusals > 0 {
						t.Errorf("%s at write %d: %d left after %d granted and %d refused, want %d", name, nth, left, granted, refusals, 40_000-60*granted)
					}
				})
			})
			if !hit {
				t.Logf("%s: %d writes", name, nth)
				if nth < 20 {
					t.Errorf("%s: only %d writes", name, nth)
				}
				break
			}
		}
	}
}

// breakNth has one write go wrong while work runs, and tells whether there were so many.
func (r *harness) breakNth(nth int, apply bool, err error, work func()) (hit bool) {
	var mu sync.Mutex
	writes := 0
	r.fault(func(_ context.Context, op table.Op, _ table.Key) (bool, error) {
		mu.Lock()
		defer mu.Unlock()
		if !isWrite(op) {
			return true, nil
		}
		if writes++; writes != nth+1 {
			return true, nil
		}
		hit = true
		return apply, err
	})
	work()
	mu.Lock()
	defer mu.Unlock()
	return hit
}

// The answers of all writes are lost, and all of them were applied.
func TestWriterWithoutAnswers(t *testing.T) {
	for _, err := range []error{errAway, table.ErrConflict} {
		bubble(t, []string{"tokens: 100000, per: day, hard: true"}, func(t *testing.T, r *harness) {
			r.fault(func(_ context.Context, op table.Op, _ table.Key) (bool, error) {
				if isWrite(op) {
					return true, err
				}
				return true, nil
			})
			granted, refusals := requestSteadily(t, r, 8, 20, time.Second)
			r.heal()
			if left := r.left(); left != 100_000-60*granted || granted+refusals != 160 || refusals > 16 {
				t.Errorf("%v: %d left after %d granted and %d refused, want %d", err, left, granted, refusals, 100_000-60*granted)
			}
		})
	}
}
