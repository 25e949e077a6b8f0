package backend_test

import (
	"testing"
	"testing/synctest"
	"time"

	"aoaigateway/handler/backend"
)

func left(tokens, requests string) reply {
	return status(200, `{"ok":true}`, "x-ratelimit-remaining-tokens="+tokens, "x-ratelimit-remaining-requests="+requests)
}

// answeredBy sends one call that needs the given tokens and returns the region that answered.
func answeredBy(t *testing.T, p *backend.Pool, need int64) string {
	t.Helper()
	c := call(false)
	c.Need = need
	a, err := ask(t.Context(), p, c)
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
	if len(c.Attempts) != 1 {
		t.Errorf("attempts %+v", c.Attempts)
	}
	return a.Region
}

func TestNextAvoidsFullRegion(t *testing.T) {
	for _, c := range []struct {
		name             string
		tokens, requests string
		need             int64
		steers           bool
	}{
		{"room enough", "500", "5", 400, false},
		{"too few tokens", "300", "5", 400, true},
		{"no tokens at all, need not known", "0", "5", 0, true},
		{"no requests", "5000", "0", 1, true},
		{"nothing said", "", "", 4000, false},
		{"nonsense", "-1", "many", 4000, false},
		{"tokens only", "10", "", 11, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			p, _ := newPool(t, map[string][]reply{"a": {left(c.tokens, c.requests)}, "b": {good}})
			if by := answeredBy(t, p, 0); by != "a" {
				t.Fatalf("%s: first by %s", c.name, by)
			}
			if by := answeredBy(t, p, c.need); (by == "b") != c.steers {
				t.Errorf("%s: answered by %s", c.name, by)
			}
			time.Sleep(time.Minute)
			if by := answeredBy(t, p, c.need); by != "a" {
				t.Errorf("%s: a minute later answered by %s", c.name, by)
			}
		})
	}
}

func TestNextTakesFullRegionLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := newPool(t, map[string][]reply{"a": {left("0", "0")}, "b": {left("0", "0")}})
		for i, want := range []string{"a", "b", "a", "a"} {
			if by := answeredBy(t, p, 100); by != want {
				t.Errorf("request %d answered by %s, want %s", i, by, want)
			}
		}
		p, _ = newPool(t, map[string][]reply{"a": {left("0", "0")}, "b": {status(429, ``, "Retry-After=60")}})
		answeredBy(t, p, 100)
		c := call(false)
		c.Need = 100
		if a, err := ask(t.Context(), p, c); err != nil || a.Region != "a" || len(c.Attempts) != 2 {
			t.Errorf("%+v, %v, %+v", a, err, c.Attempts)
		}
		if by := answeredBy(t, p, 100); by != "a" {
			t.Errorf("while b is throttled: answered by %s", by)
		}
	})
}

func TestHeadroomCountsSentRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := newPool(t, map[string][]reply{"a": {left("1000", "9"), good}, "b": {good}})
		for i, want := range []string{"a", "a", "a", "b"} {
			if by := answeredBy(t, p, 400); by != want {
				t.Errorf("request %d answered by %s, want %s", i, by, want)
			}
		}
		for _, h := range p.Health() {
			if h.Region == "a" && (h.RemainingTokens == nil || *h.RemainingTokens != 200 || *h.RemainingRequests != 7) {
				t.Errorf("health %+v", h)
			}
			if h.Region == "b" && (h.RemainingTokens != nil || h.RemainingRequests != nil) {
				t.Errorf("health %+v of a region that said nothing", h)
			}
		}
	})
}

func TestModelsFirstByteTimeout(t *testing.T) {
	for _, stream := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			better := good
			if stream {
				better = goodStream
			}
			p, _ := newPool(t, map[string][]reply{"a": {hanging}, "b": {better}})
			c := call(stream)
			c.FirstByteTimeout = 7 * time.Second
			start := time.Now()
			if a, err := ask(t.Context(), p, c); err != nil || a.Region != "b" || time.Since(start) != 7*time.Second {
				t.Errorf("%+v, %v after %v", a, err, time.Since(start))
			}
		})
	}
}
