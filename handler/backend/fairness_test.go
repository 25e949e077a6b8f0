package backend_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"aoaigateway/handler/backend"
	"aoaigateway/handler/gateway"
)

// tally counts the results of one caller's requests.
type tally struct {
	mu                sync.Mutex
	answered, refused int // refused = without asking a region
	failed            int
}

// send sends a request and counts its result.
func (n *tally) send(ctx context.Context, p *backend.Pool, c *testCall) {
	a, err := ask(ctx, p, c)
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case err == nil && a.Succeeded():
		n.answered++
	case err != nil && len(c.Attempts) == 0:
		n.refused++
	default:
		n.failed++
	}
	if err == nil {
		a.Close()
	}
}

func from(caller string, size int64) *testCall {
	c := call(false)
	c.Caller, c.Need = caller, size
	return c
}

// After a throttle of 1 s, an answer of 60 s must not keep others waiting.
func TestSlowAnswerRefusesNobody(t *testing.T) {
	for regions := 1; regions <= 2; regions++ {
		synctest.Test(t, func(t *testing.T) {
			lines := map[string][]reply{}
			for _, name := range []string{"a", "b"}[:regions] {
				lines[name] = []reply{status(429, ``, "Retry-After=1"), after(time.Minute, good), good}
			}
			p, _ := newPool(t, lines)
			_, _ = ask(t.Context(), p, from("first", 100))
			time.Sleep(time.Second)
			var slow, others tally
			var all sync.WaitGroup
			for range regions {
				all.Go(func() { slow.send(t.Context(), p, from("first", 100)) })
			}
			synctest.Wait()
			for range 100 * regions {
				all.Go(func() { others.send(t.Context(), p, from("second", 100)) })
				time.Sleep(100 * time.Millisecond)
			}
			all.Wait()
			if others.answered != 100*regions || slow.answered != regions {
				t.Errorf("%d regions: others %+v, slow %+v", regions, &others, &slow)
			}
		})
	}
}

// limited refuses requests of more than most tokens.
func limited(most int64, wait string) reply {
	return func(r *http.Request) (*http.Response, error) {
		if r.Header.Get("Size") > fmt.Sprintf("%09d", most) {
			return status(429, ``, "Retry-After="+wait)(r)
		}
		return good(r)
	}
}

// A caller whose prompts are too large for the region must not close it for small ones.
func TestLargePromptRefusesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := newPool(t, map[string][]reply{"a": {limited(20_000, "60")}})
		sized := func(caller string, size int64) *testCall {
			c := from(caller, size)
			c.Header.Set("Size", fmt.Sprintf("%09d", size))
			return c
		}
		var large, small tally
		for i := range 600 {
			if i%10 == 0 {
				large.send(t.Context(), p, sized("large", 1_000_000))
			}
			small.send(t.Context(), p, sized("small", 1_000))
			time.Sleep(100 * time.Millisecond)
		}
		if small.answered != 600 || large.answered != 0 || large.refused < 1 {
			t.Errorf("small %+v, large %+v", &small, &large)
		}
	})
}

// Two callers whose requests end badly in every region send 10 % of the traffic.
func TestPoisonRefusesNobody(t *testing.T) {
	for name, bad := range map[string]reply{
		"500": status(500, `{}`), "503": status(503, `{}`), "reset": resets, "hang": hanging,
		"cut": cut(`{"ok":`), "error event": status(200, "data: {\"error\":{\"code\":\"server_error\"}}\n\n", sse),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				region := func(r *http.Request) (*http.Response, error) {
					if r.Header.Get("Poison") != "" {
						return bad(r)
					}
					return after(100*time.Millisecond, good)(r)
				}
				p, _ := newPool(t, map[string][]reply{"a": {region}, "b": {region}, "c": {region}})
				var poison, others tally
				var all sync.WaitGroup
				for i := range 50 * 60 {
					caller, n := fmt.Sprint("caller ", i%2), &others
					c := from(caller, 100)
					if i%10 == 0 {
						c, n = from(fmt.Sprint("poison ", i/10%2), 100), &poison
						c.Header.Set("Poison", "1")
					}
					all.Go(func() {
						ctx, cancel := context.WithTimeout(t.Context(), 220*time.Second)
						defer cancel()
						n.send(ctx, p, c)
					})
					time.Sleep(20 * time.Millisecond)
				}
				all.Wait()
				if others.answered != 2700 || poison.answered != 0 && name != "error event" {
					t.Errorf("others %+v, poison %+v", &others, &poison)
				}
				for _, h := range p.Health() {
					if h.Evidence != "" || h.State != "open" {
						t.Errorf("%+v", h)
					}
				}
			})
		})
	}
}

// An error of an operation without a model closes nothing for another operation.
func TestNoModelClosesNothing(t *testing.T) {
	for name, bad := range map[string]reply{
		"429": status(429, `{"error":{"message":"files"}}`, "Retry-After=120"), "500": status(500, `{}`), "503": status(503, `{}`),
		"refused": failing(errRefused), "reset": resets,
	} {
		synctest.Test(t, func(t *testing.T) {
			lines := []reply{bad, bad, bad, bad, bad, bad, good}
			p, _ := newPool(t, map[string][]reply{"a": lines, "b": {good}})
			without := func() *testCall {
				c := from("first", 0)
				c.Model, c.Pin, c.PinReason = "", "a", "serves this operation"
				return c
			}
			for range 6 {
				a, err := ask(t.Context(), p, without())
				if name == "429" && (err != nil || a.Status != 429 || string(a.Whole) != `{"error":{"message":"files"}}`) {
					t.Errorf("the region's own 429 became %+v, %v", a, err)
				}
			}
			if a, err := ask(t.Context(), p, without()); err != nil || !a.Succeeded() {
				t.Errorf("%s: another operation got %+v, %v", name, a, err)
			}
			if a, err := ask(t.Context(), p, from("second", 1)); err != nil || a.Region != "a" {
				t.Errorf("%s: a request with a model went to %+v, %v", name, a, err)
			}
		})
	}
}

// With nowhere else to go a region is asked, except while a wait that it stated runs.
func TestOnlyRegionIsAsked(t *testing.T) {
	for _, c := range []struct {
		name  string
		reply reply
		asked int // of two requests
	}{
		{"unreachable", failing(errRefused), 2},
		{"throttled without a wait", status(429, ``), 2},
		{"throttled", status(429, ``, "Retry-After=60"), 1},
		{"unavailable", status(503, ``), 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			p, s := newPool(t, map[string][]reply{"a": {c.reply}})
			for range 2 {
				_, _ = ask(t.Context(), p, from("first", 100))
			}
			if len(s.asked) != c.asked {
				t.Errorf("%s: asked %d times, want %d", c.name, len(s.asked), c.asked)
			}
			time.Sleep(61 * time.Second)
			if _, _ = ask(t.Context(), p, from("first", 100)); len(s.asked) != c.asked+1 {
				t.Errorf("%s: not asked after the wait", c.name)
			}
		})
	}
}

// The time that the client is told is what is left of the region's own.
func TestRefusalNamesWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := newPool(t, map[string][]reply{"a": {status(429, ``, "x-rate-limit-reset-tokens=55")}})
		for _, want := range []time.Duration{55 * time.Second, 45 * time.Second} {
			_, err := ask(t.Context(), p, from("first", 100))
			if e, ok := errors.AsType[*gateway.Error](err); !ok || e.RetryAfter != want {
				t.Errorf("%+v, want %v", err, want)
			}
			time.Sleep(10 * time.Second)
		}
	})
}
