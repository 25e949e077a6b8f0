package backend_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"aoaigateway/handler/backend"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/secret"
)

// The answer is 429 only if throttling is the only reason, and no message says anything untrue.
func TestMessageWhenAllFail(t *testing.T) {
	limit := status(429, `{}`, "Retry-After=30")
	for _, c := range []struct {
		name  string
		a, b  reply
		kind  gateway.Kind
		wait  time.Duration
		words string
	}{
		{
			"all throttle", limit, status(429, `{}`, "Retry-After=9"), gateway.RateLimited, 9 * time.Second,
			"All regions that serve this model are at their rate limit. Try again in 9 seconds.",
		},
		{
			"one throttles, one fails", limit, status(500, `{}`), gateway.Unavailable, time.Second,
			"are at their rate limit, and no other region can answer now",
		},
		{"one fails, one throttles", status(500, `{}`), limit, gateway.Unavailable, time.Second, "are at their rate limit, and no other region"},
		{"one throttles, one cannot be reached", limit, failing(errRefused), gateway.Unavailable, 10 * time.Second, "Try again in 10 seconds"},
		{"one throttles, one refuses us", limit, status(401, `{}`), gateway.Unavailable, 30 * time.Second, "Try again in 30 seconds"},
		{
			"throttled and willing again at once", status(429, `{}`, "retry-after-ms=0.001"), status(429, `{}`, "retry-after-ms=0.001"),
			gateway.RateLimited, time.Millisecond, "at their rate limit",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, _ := newPool(t, map[string][]reply{"a": {c.a}, "b": {c.b}})
				_, err := ask(t.Context(), p, call(false))
				e, ok := errors.AsType[*gateway.Error](err)
				if !ok || e.Kind != c.kind || e.RetryAfter != c.wait || !strings.Contains(e.Message, c.words) {
					t.Errorf("%+v", err)
				}
			})
		})
	}
}

// vault fails in the ways a vault does.
type vault struct {
	get, refresh error
}

var errVault = errors.New("GET https://vault.example/secrets/top-secret-name: 503")

func (v vault) Get(context.Context, string) (string, error)     { return "old", v.get }
func (v vault) Refresh(context.Context, string) (string, error) { return "new", v.refresh }

// secretCases are the rows of TestMissingSecretIsNotBlamed.
var secretCases = []struct {
	name     string
	vault    vault
	attempts string
	kind     gateway.Kind
	words    string
}{
	{"cannot be fetched", vault{get: errVault}, "a/no-credential b/no-credential", gateway.Unavailable, "cannot get its credential"},
	{
		"was refused and cannot be renewed",
		vault{refresh: errVault},
		"a/credential-refused a/no-credential b/credential-refused b/no-credential", gateway.BadGateway,
		"refused the credential of the gateway",
	},
	{
		"was refused, renewed and refused",
		vault{},
		"a/credential-refused a/credential-refused b/credential-refused b/credential-refused",
		gateway.BadGateway, "refused the credential of the gateway",
	},
}

// A region is not blamed for a secret that cannot be fetched.
func TestMissingSecretIsNotBlamed(t *testing.T) {
	for _, c := range secretCases {
		for _, pin := range []string{"", "a"} {
			t.Run(c.name+" "+pin, func(t *testing.T) {
				var regions []backend.Region
				for _, name := range []string{"a", "b"} {
					regions = append(regions, backend.Region{
						Name: name, Endpoint: &url.URL{Scheme: "https", Host: name}, Priority: 1 + len(regions), Credential: "top-secret-name",
						Models: map[string]string{"m": "m"},
					})
				}
				refuses := &script{lines: map[string][]reply{"a": {status(401, `{}`)}, "b": {status(401, `{}`)}}}
				p := backend.New(backend.Options{Regions: regions, Transport: refuses, Secrets: c.vault})
				cl := call(false)
				cl.Pin, cl.PinReason = pin, "keeps it"
				_, err := ask(t.Context(), p, cl)
				want, _, _ := strings.Cut(c.attempts, " b/")
				if pin == "" {
					want = c.attempts
				}
				if e, ok := errors.AsType[*gateway.Error](err); !ok || e.Kind != c.kind || tries(cl) != want {
					t.Errorf("%v after %s", err, tries(cl))
				} else if pin == "" && !strings.Contains(e.Message, c.words) ||
					strings.Contains(e.Message, "secret") || strings.Contains(e.Message, "vault") {
					t.Errorf("the client reads: %s", e.Message)
				}
				for _, h := range p.Health() {
					if h.State != "open" {
						t.Errorf("%+v", h)
					}
				}
			})
		}
	}
}

func TestHealthOrder(t *testing.T) {
	models := map[string]string{"alias": "zulu"}
	for i := range 20 {
		models[fmt.Sprint("m", i)] = fmt.Sprint("d", i)
	}
	models["zulu"] = "zulu"
	host := &url.URL{Scheme: "https", Host: "x"}
	transport := &script{lines: map[string][]reply{"x": {good}}}
	p := backend.New(backend.Options{Secrets: secret.Map{"k": "1"}, Transport: transport, Regions: []backend.Region{
		{Name: "later", Endpoint: host, Priority: 2, Models: models, Credential: "k"},
		{Name: "sooner", Endpoint: host, Priority: 1, Models: models, Credential: "k"},
	}})
	first := fmt.Sprintf("%+v", p.Health())
	for range 10 {
		if again := fmt.Sprintf("%+v", p.Health()); again != first {
			t.Fatalf("%s\n%s", first, again)
		}
	}
	if list := p.Health(); len(list) != 42 || list[0].Region != "sooner" || list[20].Deployment != "zulu" {
		t.Errorf("%d: %+v", len(list), list)
	}
	c := call(false)
	c.Model = ""
	if _, err := ask(t.Context(), p, c); err != nil {
		t.Fatal(err)
	}
	if list := p.Health(); len(list) != 42 {
		t.Errorf("operations without a model have a state: %+v", list)
	}
}

func TestStateChangesAreLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		var mu sync.Mutex
		logger := slog.New(slog.NewJSONHandler(locked{&mu, &out}, nil))
		s := &script{lines: map[string][]reply{"a": {failing(errRefused), good}, "b": {good}}}
		p := backend.New(backend.Options{Transport: s, Logger: logger, Secrets: secret.Map{"k": "1"}, Regions: []backend.Region{
			{Name: "a", Endpoint: &url.URL{Scheme: "https", Host: "a"}, Priority: 1, Credential: "k", Models: map[string]string{"m": "m-a"}},
			{Name: "b", Endpoint: &url.URL{Scheme: "https", Host: "b"}, Priority: 2, Credential: "k", Models: map[string]string{"m": "m-b"}},
		}})
		for range 4 {
			_, _ = ask(t.Context(), p, call(false))
			time.Sleep(11 * time.Second)
		}
		var lines []string
		for line := range strings.Lines(out.String()) {
			var l struct {
				Msg, Region, Deployment, From, To, Evidence string
				WaitMS                                      int64 `json:"wait_ms"`
			}
			if err := json.Unmarshal([]byte(line), &l); err != nil {
				t.Fatal(err)
			}
			if l.Msg == "the state of a deployment changed" {
				lines = append(lines, fmt.Sprintf("%s/%s %s>%s %s %d", l.Region, l.Deployment, l.From, l.To, l.Evidence, l.WaitMS))
			}
		}
		want := []string{
			"a/m-a open>unavailable 1 failures of 1 callers and 0 successes in 0s, the last: connect-failed 10000",
			"a/m-a unavailable>open it answers 0",
		}
		if strings.Join(lines, "\n") != strings.Join(want, "\n") {
			t.Errorf("lines:\n%s", strings.Join(lines, "\n"))
		}
	})
}

type locked struct {
	mu *sync.Mutex
	w  *bytes.Buffer
}

func (l locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

func TestRetryAfterIsCapped(t *testing.T) {
	const cooldown = 10 * time.Second
	for _, c := range []struct {
		headers []string
		want    time.Duration
	}{
		{[]string{"Retry-After=NaN"}, cooldown},
		{[]string{"Retry-After=Inf"}, 5 * time.Minute},
		{[]string{"Retry-After=-Inf"}, cooldown},
		{[]string{"Retry-After=1e308"}, 5 * time.Minute},
		{[]string{"Retry-After=1e999"}, cooldown},
		{[]string{"Retry-After=" + strings.Repeat("9", 300)}, 5 * time.Minute},
		{[]string{"Retry-After=-1"}, cooldown},
		{[]string{"Retry-After=0"}, 0},
		{[]string{"Retry-After="}, cooldown},
		{[]string{"Retry-After=7; drop table"}, cooldown},
		{[]string{"Retry-After=1e-300"}, 0},
		{[]string{"Retry-After=7", "retry-after-ms=0"}, 7 * time.Second},
		{[]string{"Retry-After=7", "retry-after-ms=-9223372036854775808"}, 7 * time.Second},
		{[]string{"Retry-After=7", "retry-after-ms=1e300"}, 5 * time.Minute},
		{[]string{"Retry-After=Thu, 01 Jan 1970 00:00:00 GMT"}, 0},
		{[]string{"Retry-After=Fri, 31 Dec 9999 23:59:59 GMT"}, 5 * time.Minute},
		{[]string{"Retry-After=Sat, 01 Jan 2000 00:00:42 GMT"}, 42 * time.Second}, // a bubble begins on that day
		{[]string{"retry-after-ms=" + fmt.Sprint(math.MaxInt64)}, 5 * time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			p, _ := newPool(t, map[string][]reply{"a": {status(429, `{}`, c.headers...)}})
			_, _ = ask(t.Context(), p, call(false))
			if h := p.Health()[0]; (h.State == "throttled") != (c.want > 0) || time.Duration(h.WaitMillis)*time.Millisecond != c.want {
				t.Errorf("%.60v: %s for %d ms, want %v", c.headers, h.State, h.WaitMillis, c.want)
			}
		})
	}
}

func TestUnusableAnswersFailOver(t *testing.T) {
	stalled := func(sent string, headers ...string) reply {
		return func(r *http.Request) (*http.Response, error) {
			return response(r, 200, &stalling{strings.NewReader(sent), r.Context()}, headers...), nil
		}
	}
	for _, c := range []struct {
		name   string
		a      reply
		stream bool
		reason string
		took   time.Duration
	}{
		{"switched protocols", status(101, ``), false, "bad-status", 0},
		{"a body that stops for good", stalled(`{"ok":`), false, "fell-silent", 10 * time.Minute},
		{"a body to a stream that stops for good", stalled(`{"ok":`), true, "fell-silent", 10 * time.Minute},
		{"a stream of comments", stalled(": hi\n\n: hi\n\n", sse), true, "first-byte-timeout", time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				better := good
				if c.stream {
					better = goodStream
				}
				p, _ := newPool(t, map[string][]reply{"a": {c.a}, "b": {better}})
				cl := call(c.stream)
				start := time.Now()
				a, err := ask(t.Context(), p, cl)
				if err != nil || a.Region != "b" || tries(cl) != "a/"+c.reason+" b/" || time.Since(start) != c.took {
					t.Errorf("%v, %s after %v", err, tries(cl), time.Since(start))
				}
			})
		})
	}
}

// stalling sends what it has and then nothing, until the request is given up.
type stalling struct {
	*strings.Reader
	ctx context.Context //nolint:containedctx // a body belongs to its request
}

func (s *stalling) Read(p []byte) (int, error) {
	if s.Len() > 0 {
		return s.Reader.Read(p)
	}
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}

// keyed takes one key only.
type keyed struct{ key string }

func (k keyed) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Api-Key") != k.key {
		return status(401, `{}`)(r)
	}
	return good(r)
}

func TestRotatedSecretIsFetched(t *testing.T) {
	p := backend.New(backend.Options{Transport: keyed{"new"}, Secrets: vault{}, Regions: []backend.Region{
		{Name: "a", Endpoint: &url.URL{Scheme: "https", Host: "a"}, Credential: "k", Models: map[string]string{"m": "m"}},
	}})
	cl := call(false)
	if a, err := ask(t.Context(), p, cl); err != nil || a.Status != 200 || tries(cl) != "a/credential-refused a/" {
		t.Errorf("%s, %v", tries(cl), err)
	}
}
