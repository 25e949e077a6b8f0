package backend_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"aoaigateway/handler/backend"
	"aoaigateway/handler/gateway"
)

// after answers later, or not at all when the request is given up before.
func after(d time.Duration, then reply) reply {
	return func(r *http.Request) (*http.Response, error) {
		select {
		case <-time.After(d):
			return then(r)
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
}

// used has region a answer n requests, the first 19 within 100 ms and the others faster,
// so that its latency window is known: 95 of 100 take 100 ms at most.
func used(t *testing.T, n int, lines map[string][]reply) (*backend.Pool, *script) {
	t.Helper()
	usual := lines["a"][0]
	lines["a"] = append(make([]reply, n), lines["a"][1:]...)
	for i := range n {
		lines["a"][i] = after(50*time.Millisecond, usual)
		if i < 19 {
			lines["a"][i] = after(100*time.Millisecond, usual)
		}
	}
	p, s := newPool(t, lines)
	for range n {
		c := (&ledger{}).call(false)
		if a, err := ask(t.Context(), p, c); err != nil || a.Region != "a" {
			t.Fatal(a, err)
		}
	}
	return p, s
}

// hedgeCases are the rows of TestHedgeWhenFirstIsLate.
var hedgeCases = []struct {
	name     string
	observed int
	a, b     reply
	third    reply
	refused  error // the hold of the hedge
	took     time.Duration
	attempts string
	steps    string
}{
	{"it is in time", 20, after(90*time.Millisecond, good), good, nil, nil, 90 * time.Millisecond, "a/", "[]"},
	{
		"the second is faster", 20, after(time.Second, good), after(50*time.Millisecond, good), nil, nil, 150 * time.Millisecond,
		"a/hedge-lost b/", "[hedge hedge kept true]",
	},
	{
		"the first is faster after all", 20, after(120*time.Millisecond, good), after(time.Second, good), nil, nil, 120 * time.Millisecond,
		"a/ b/hedge-lost", "[hedge hedge kept true]",
	},
	{"the first is not known well", 19, after(time.Second, good), good, nil, nil, time.Second, "a/", "[]"},
	{
		"the second is not allowed", 20, after(time.Second, good), good, nil, &gateway.Error{Kind: gateway.QuotaExceeded}, time.Second, "a/",
		"[]",
	},
	{"the second refuses", 20, after(time.Second, good), throttles, nil, nil, time.Second, "a/ b/throttled", "[hedge hedge kept false]"},
	{
		"the second fails", 20, after(time.Second, good), resets, nil, nil, time.Second, "a/ b/reset",
		"[hedge hedge kept true]",
	},
	{
		"the first fails meanwhile", 20, after(time.Second, resets), after(2*time.Second, good), nil, nil,
		2100 * time.Millisecond, "a/reset b/", "[hedge hedge kept true]",
	},
	{
		"the first refuses meanwhile", 20, after(time.Second, throttles), after(2*time.Second, good), nil, nil, 2100 * time.Millisecond,
		"a/throttled b/", "[hedge hedge kept false]",
	},
	{
		"both fail", 20, after(time.Second, resets), after(time.Second, throttles), good, nil, 1100 * time.Millisecond,
		"a/reset b/throttled c/", "[hedge hedge kept true again]",
	},
	{
		"both fail, tokens used by both", 20, after(time.Second, resets), after(time.Second, resets), good, nil,
		1100 * time.Millisecond, "a/reset b/reset c/", "[hedge hedge kept true kept again]",
	},
	{
		"it fails before", 20, after(50*time.Millisecond, resets), good, nil, nil, 50 * time.Millisecond, "a/reset b/",
		"[kept again]",
	},
}

func TestHedgeWhenFirstIsLate(t *testing.T) {
	for _, c := range hedgeCases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lines := map[string][]reply{"a": {good, c.a, good}, "b": {c.b, good}}
				if c.third != nil {
					lines["c"] = []reply{c.third}
				}
				p, s := used(t, c.observed, lines)
				l := &ledger{hedge: c.refused}
				cl := l.call(false)
				start := time.Now()
				a, err := ask(t.Context(), p, cl)
				if err != nil || a.Status != 200 {
					t.Fatal(a, err)
				}
				a.Close()
				if took := time.Since(start); took != c.took || tries(cl) != c.attempts || fmt.Sprint(l.steps) != c.steps {
					t.Errorf("after %v: %s, %v", took, tries(cl), l.steps)
				}
				for _, h := range p.Health() {
					open := strings.Contains(tries(cl), "throttled")
					if h.State != "open" && !open && c.third == nil {
						t.Errorf("%+v", h)
					}
				}
				if asked := len(s.asked) - c.observed; asked != len(cl.Attempts) {
					t.Errorf("%d requests for %d attempts", asked, len(cl.Attempts))
				}
			})
		})
	}
}

func TestLostHedgesCloseNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := used(t, 100, map[string][]reply{"a": {good, after(time.Minute, good)}, "b": {good}})
		for i := range 8 {
			cl := (&ledger{}).call(false)
			if _, err := ask(t.Context(), p, cl); err != nil || tries(cl) != "a/hedge-lost b/" {
				t.Fatalf("request %d: %s, %v", i, tries(cl), err)
			}
		}
		for _, h := range p.Health() {
			if h.State != "open" {
				t.Errorf("%+v", h)
			}
		}
	})
}

func TestHedgesStayInBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := used(t, 100, map[string][]reply{"a": {good, after(time.Second, good)}, "b": {after(time.Second, good)}})
		before := len(s.asked)
		var all sync.WaitGroup
		for range 1000 {
			all.Go(func() { _, _ = ask(t.Context(), p, (&ledger{}).call(false)) })
		}
		all.Wait()
		if n := len(s.asked) - before; n < 1005 || n > 1015 {
			t.Errorf("%d requests were sent for 1000 at once", n)
		}
	})
}

func TestHedgedStreamNeedsFirstEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		early := func(r *http.Request) (*http.Response, error) { // headers and a comment, then nothing
			in, _ := io.Pipe()
			context.AfterFunc(r.Context(), func() { _ = in.CloseWithError(r.Context().Err()) })
			return response(r, 200, io.MultiReader(strings.NewReader(": hello\n\n"), in), sse), nil
		}
		lines := map[string][]reply{"a": {}, "b": {goodStream}}
		for range 20 {
			lines["a"] = append(lines["a"], after(100*time.Millisecond, goodStream))
		}
		lines["a"] = append(lines["a"], early)
		p, _ := newPool(t, lines)
		l := &ledger{}
		for i := range 21 {
			cl := l.call(true)
			start := time.Now()
			a, err := ask(t.Context(), p, cl)
			if err != nil {
				t.Fatal(err)
			}
			if i == 20 && (a.Region != "b" || time.Since(start) != 100*time.Millisecond || first(t, a) != `{"a":1}`) {
				t.Errorf("%s after %v: %s", a.Region, time.Since(start), first(t, a))
			}
			a.Close()
		}
		// What whole answers take says nothing of streams, and the other way round.
		p, _ = used(t, 20, map[string][]reply{"a": {good, after(time.Second, goodStream)}, "b": {goodStream}})
		cl := l.call(true)
		if a, err := ask(t.Context(), p, cl); err != nil || a.Region != "a" {
			t.Errorf("%s, %v", tries(cl), err)
		}
	})
}

func TestHedgeNeedsHealthyRegion(t *testing.T) {
	for name, b := range map[string]reply{
		"little left":     status(200, `{}`, "x-ratelimit-remaining-tokens=1"),
		"throttled":       status(429, `{}`, "Retry-After=200"),
		"no requests now": status(200, `{}`, "x-ratelimit-remaining-requests=0"),
	} {
		synctest.Test(t, func(t *testing.T) {
			slow := after(10*time.Second, good)
			p, s := used(t, 30, map[string][]reply{"a": {good, status(429, `{}`, "retry-after-ms=100"), slow, slow}, "b": {b, good}})
			_, _ = ask(t.Context(), p, call(false)) // b answers or refuses
			time.Sleep(2 * time.Second)
			cl := (&ledger{}).call(false)
			cl.Need = 50
			if a, err := ask(t.Context(), p, cl); err != nil || a.Region != "a" || tries(cl) != "a/" {
				t.Errorf("%s: %s, %v; asked %v", name, tries(cl), err, s.asked[30:])
			}
		})
	}
}

func TestClientLeftEndsBothAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := used(t, 20, map[string][]reply{"a": {good, hanging}, "b": {hanging}})
		l := &ledger{}
		cl := l.call(false)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := ask(ctx, p, cl)
		if gateway.KindOf(err) != gateway.ClientGone || tries(cl) != "a/client-cancelled b/client-cancelled" ||
			fmt.Sprint(l.steps) != "[hedge hedge kept true kept]" {
			t.Errorf("%v, %s, %v", err, tries(cl), l.steps)
		}
		for _, h := range p.Health() {
			if h.State != "open" {
				t.Errorf("%+v", h)
			}
		}
	})
}

// The panic is raised again in the caller, and what the hedge held is given back.
func TestHedgePanicReachesCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		panics := func(*http.Request) (*http.Response, error) { panic("a fault") }
		p, _ := used(t, 20, map[string][]reply{"a": {good, after(time.Second, good)}, "b": {panics}})
		l := &ledger{}
		defer func() {
			if recover() == nil || fmt.Sprint(l.steps) != "[hedge hedge kept false]" {
				t.Errorf("the panic was swallowed, or the hedge's hold is still taken: %v", l.steps)
			}
		}()
		_, _ = ask(t.Context(), p, l.call(false))
	})
}

// A request that panics after a throttle must not keep the deployment closed.
func TestPanicClosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		panics := func(*http.Request) (*http.Response, error) { panic("a fault") }
		p, _ := newPool(t, map[string][]reply{"a": {status(429, `{}`, "Retry-After=1"), panics, good}})
		_, _ = ask(t.Context(), p, call(false))
		time.Sleep(2 * time.Second)
		func() {
			defer func() { _ = recover() }()
			_, _ = ask(t.Context(), p, call(false))
		}()
		if a, err := ask(t.Context(), p, call(false)); err != nil || a.Region != "a" {
			t.Errorf("%+v, %v", a, err)
		}
	})
}

// Under the race detector: attempts side by side, regions that fail at random, clients
// that leave.
func TestHedgesUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		flaky := func(r *http.Request) (*http.Response, error) {
			n := time.Now().UnixNano() / 1000 % 7
			if n == 0 {
				return nil, errors.New("read: connection reset by peer")
			}
			return after(time.Duration(n)*40*time.Millisecond, good)(r)
		}
		p, s := used(t, 100, map[string][]reply{"a": {good, flaky}, "b": {flaky}, "c": {flaky}})
		before := len(s.asked)
		var mu sync.Mutex
		attempts := 0
		var all sync.WaitGroup
		for i := range 400 {
			all.Go(func() {
				time.Sleep(time.Duration(i) * 7127 * time.Microsecond)
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(100+i)*time.Millisecond)
				defer cancel()
				l := &ledger{}
				cl := l.call(false)
				a, err := ask(ctx, p, cl)
				if err == nil {
					a.Close()
				}
				mu.Lock()
				defer mu.Unlock()
				attempts += len(cl.Attempts)
				if n := strings.Count(fmt.Sprint(l.steps), "hedge"); n != 2*strings.Count(fmt.Sprint(l.steps), "hedge kept") {
					t.Errorf("a hold was not released: %v", l.steps)
				}
			})
		}
		all.Wait()
		if n := len(s.asked) - before; n != attempts {
			t.Errorf("%d requests, %d attempts", n, attempts)
		}
	})
}
