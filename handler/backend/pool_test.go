package backend_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
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

// script is a transport that answers each region from its own list, the last one again
// and again.
type script struct {
	mu    sync.Mutex
	lines map[string][]reply // by host
	asked []string           // host + path + body
}

type reply func(*http.Request) (*http.Response, error)

func (s *script) RoundTrip(r *http.Request) (*http.Response, error) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.asked = append(s.asked, r.URL.Host+r.URL.Path+" "+string(body))
	list := s.lines[r.URL.Host]
	next := list[0]
	if len(list) > 1 {
		s.lines[r.URL.Host] = list[1:]
	}
	s.mu.Unlock()
	return next(r)
}

func status(code int, body string, headers ...string) reply {
	return func(r *http.Request) (*http.Response, error) {
		return response(r, code, strings.NewReader(body), headers...), nil
	}
}

func response(r *http.Request, code int, body io.Reader, headers ...string) *http.Response {
	h := http.Header{"Content-Type": {"application/json"}}
	for _, kv := range headers {
		name, value, _ := strings.Cut(kv, "=")
		h.Set(name, value)
	}
	return &http.Response{StatusCode: code, Header: h, Body: &abortable{body, r.Context()}, Request: r}
}

// abortable fails like a connection when the request is given up.
type abortable struct {
	io.Reader
	ctx context.Context //nolint:containedctx // a body belongs to its request
}

func (a *abortable) Read(p []byte) (int, error) {
	if err := a.ctx.Err(); err != nil {
		return 0, err
	}
	return a.Reader.Read(p)
}

func (a *abortable) Close() error { return nil }

func failing(err error) reply {
	return func(*http.Request) (*http.Response, error) { return nil, err }
}

func hanging(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func cut(sent string, headers ...string) reply {
	return func(r *http.Request) (*http.Response, error) {
		return response(r, 200, io.MultiReader(strings.NewReader(sent), errReader{}), headers...), nil
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("connection reset by peer") }

var (
	errRefused = &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	sse        = "Content-Type=text/event-stream"
	good       = status(200, `{"ok":true}`)
	goodStream = status(200, "data: {\"a\":1}\n\ndata: [DONE]\n\n", sse)
)

func newPool(t *testing.T, lines map[string][]reply) (*backend.Pool, *script) {
	t.Helper()
	s := &script{lines: lines}
	var regions []backend.Region
	for i, name := range []string{"a", "b", "c"} {
		if lines[name] == nil {
			continue
		}
		regions = append(regions, backend.Region{
			Name: name, Endpoint: &url.URL{Scheme: "https", Host: name}, Priority: i + 1, Weight: 1, Credential: "key-" + name,
			Models: map[string]string{"m": "m-" + name},
		})
	}
	return backend.New(backend.Options{Regions: regions, Transport: s, Secrets: secret.Map{"key-a": "1", "key-b": "2", "key-c": "3"}}), s
}

func call(stream bool) *backend.Call {
	return &backend.Call{
		Method: "POST", Path: "/openai/deployments/{deployment}/chat/completions", APIVersion: "2024-10-21",
		Header: http.Header{}, Body: []byte(`{"x":1}`), Model: "m", Stream: stream,
	}
}

// The decision table, as the client and the next request see it.
func TestWhatBecomesOfEachOutcome(t *testing.T) {
	for _, c := range []struct {
		name    string
		stream  bool
		first   reply
		reason  string // of the attempt at a
		moves   bool   // b answers
		aloneIs int    // status when there is no b; 0 = what errKind says
		errKind gateway.Kind
		opens   bool // the next request passes a by
	}{
		{"429", false, status(429, `{}`, "Retry-After=7"), "throttled", true, 0, gateway.RateLimited, true},
		{"429 in ms", false, status(429, `{}`, "retry-after-ms=1500"), "throttled", true, 0, gateway.RateLimited, true},
		{"408", false, status(408, `{}`), "server-error", true, 408, 0, false},
		{"500", false, status(500, `{"error":1}`), "server-error", true, 500, 0, false},
		{"503 with Retry-After", false, status(503, `{}`, "Retry-After=3"), "server-error", true, 503, 0, true},
		{"connection refused", false, failing(errRefused), "connect-failed", true, 0, gateway.Unavailable, true},
		{"reset", false, failing(errors.New("read: connection reset by peer")), "reset", true, 0, gateway.Unavailable, false},
		{"TLS", false, failing(errors.New("tls: bad certificate")), "tls-failed", true, 0, gateway.Unavailable, true},
		{"body reset half way", false, cut(`{"ok":`), "broken-body", true, 0, gateway.Unavailable, false},
		{"stream reset before its first event", true, cut("", sse), "cut-before-first-event", true, 0, gateway.Unavailable, false},
		{"stream cut within its first event", true, cut("data: {", sse), "cut-before-first-event", true, 0, gateway.Unavailable, false},
		{"stream that opens with an error", true, status(200, "data: {\"error\":{\"code\":\"server_error\"}}\n\n", sse), "error-event", true, 200, 0, false},
		{"stream that opens with a content filter's error", true, status(200, "data: {\"error\":{\"code\":\"content_filter\"}}\n\n", sse), "", false, 200, 0, false},
		{"401", false, status(401, `{}`), "credential-refused", true, 0, gateway.BadGateway, false},
		{"403", false, status(403, `{}`), "credential-refused", true, 0, gateway.BadGateway, false},
		{"400", false, status(400, `{"error":{"code":"content_filter"}}`), "", false, 400, 0, false},
		{"404", false, status(404, `{}`), "", false, 404, 0, false},
		{"409", false, status(409, `{}`), "", false, 409, 0, false},
		{"409 with Retry-After", false, status(409, `{}`, "Retry-After=2"), "conflict", true, 409, 0, true},
		{"422", false, status(422, `{}`), "", false, 422, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				better := good
				if c.stream {
					better = goodStream
				}
				p, s := newPool(t, map[string][]reply{"a": {c.first}, "b": {better}})
				cl := call(c.stream)
				a, err := p.Do(t.Context(), cl)
				if err != nil {
					t.Fatal(err)
				}
				defer a.Close()
				if (a.Region == "b") != c.moves || cl.Attempts[0].Reason != c.reason || len(cl.Attempts) != len(s.asked) {
					t.Errorf("answered by %s after %+v", a.Region, cl.Attempts)
				}
				before := len(s.asked)
				if a, err := p.Do(t.Context(), call(c.stream)); err == nil {
					a.Close()
				}
				if askedFirst := strings.HasPrefix(s.asked[before], "a/"); askedFirst == c.opens {
					t.Errorf("the next request asked %s first", s.asked[before])
				}
			})
			synctest.Test(t, func(t *testing.T) {
				p, _ := newPool(t, map[string][]reply{"a": {c.first}})
				a, err := p.Do(t.Context(), call(c.stream))
				switch {
				case c.aloneIs != 0 && (err != nil || a.Status != c.aloneIs):
					t.Errorf("alone: %+v, %v", a, err)
				case c.aloneIs == 0 && gateway.KindOf(err) != c.errKind:
					t.Errorf("alone: %v", err)
				}
			})
		})
	}
}

func TestASilentRegionIsLeftWhileAnotherIsOpenAndWaitedForWhenNoneIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := func(r *http.Request) (*http.Response, error) {
			time.Sleep(200 * time.Second)
			return good(r)
		}
		p, _ := newPool(t, map[string][]reply{"a": {hanging}, "b": {late}})
		start := time.Now()
		cl := call(false)
		a, err := p.Do(t.Context(), cl)
		if err != nil || a.Region != "b" {
			t.Fatalf("%+v, %v", a, err)
		}
		if took := time.Since(start); took != 300*time.Second {
			t.Errorf("took %v, want 100 s of patience and 200 s of waiting for the last", took)
		}
		if cl.Attempts[0].Reason != "first-byte-timeout" {
			t.Errorf("attempts %+v", cl.Attempts)
		}
	})
}

func TestARenewedSecretIsTriedOnce(t *testing.T) {
	p, s := newPool(t, map[string][]reply{"a": {status(401, ``), good}, "b": {good}})
	cl := call(false)
	if a, err := p.Do(t.Context(), cl); err != nil || a.Region != "a" || len(s.asked) != 2 {
		t.Fatalf("%+v, %v, asked %v", a, err, s.asked)
	}
}

func TestStreamOptionsAreDroppedWhereTheyAreRefusedAndThatIsRemembered(t *testing.T) {
	refusal := status(400, `{"error":{"message":"Unrecognized request argument supplied: stream_options"}}`)
	p, s := newPool(t, map[string][]reply{"a": {refusal, goodStream}})
	for i, want := range []int{2, 3} {
		cl := call(true)
		cl.PlainBody, cl.Body = cl.Body, []byte(`{"x":1,"stream_options":{}}`)
		a, err := p.Do(t.Context(), cl)
		if err != nil || a.UsageAsked || len(s.asked) != want {
			t.Fatalf("call %d: %+v, %v, asked %v", i, a, err, s.asked)
		}
		a.Close()
	}
}

func TestEachRegionGetsItsOwnDeploymentAndOtherwiseTheSameBytes(t *testing.T) {
	p, s := newPool(t, map[string][]reply{"a": {status(500, ``)}, "b": {good}})
	if _, err := p.Do(t.Context(), call(false)); err != nil {
		t.Fatal(err)
	}
	v1 := call(false)
	v1.Path, v1.ModelInBody, v1.Body = "/openai/v1/chat/completions", true, []byte(`{"model":"m", "n":1}`)
	if _, err := p.Do(t.Context(), v1); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`a/openai/deployments/m-a/chat/completions {"x":1}`, `b/openai/deployments/m-b/chat/completions {"x":1}`,
		`a/openai/v1/chat/completions {"model":"m-a", "n":1}`, `b/openai/v1/chat/completions {"model":"m-b", "n":1}`,
	}
	if fmt.Sprint(s.asked) != fmt.Sprint(want) {
		t.Errorf("asked %q", s.asked)
	}
}

func TestWhenAllRegionsThrottleTheSmallestWaitIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := newPool(t, map[string][]reply{"a": {status(429, ``, "Retry-After=30")}, "b": {status(429, ``, "retry-after-ms=4000")}})
		for range 2 {
			_, err := p.Do(t.Context(), call(false))
			e, ok := errors.AsType[*gateway.Error](err)
			if !ok || e.Kind != gateway.RateLimited || e.RetryAfter != 4*time.Second {
				t.Fatalf("%+v", err)
			}
		}
		if len(s.asked) != 2 {
			t.Errorf("asked %d times: open breakers must keep the second request away", len(s.asked))
		}
	})
}

func TestAClientThatLeavesBlamesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := newPool(t, map[string][]reply{"a": {hanging}, "b": {good}})
		for range 5 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			cl := call(false)
			_, err := p.Do(ctx, cl)
			cancel()
			if gateway.KindOf(err) != gateway.ClientGone || len(cl.Attempts) != 1 {
				t.Fatalf("%v, %+v", err, cl.Attempts)
			}
		}
		if len(s.asked) != 5 || !strings.HasPrefix(s.asked[4], "a/") {
			t.Errorf("asked %v", s.asked)
		}
	})
}

func TestALongBodyIsHandedOverBeforeItsEnd(t *testing.T) {
	long := bytes.Repeat([]byte("x"), backend.WholeBody+10)
	p, _ := newPool(t, map[string][]reply{"a": {status(200, string(long))}})
	a, err := p.Do(t.Context(), call(false))
	if err != nil || a.Rest == nil {
		t.Fatalf("%+v, %v", a, err)
	}
	defer a.Close()
	rest, err := io.ReadAll(a.Rest)
	if err != nil || !bytes.Equal(append(a.Whole, rest...), long) {
		t.Fatalf("%d + %d bytes, %v", len(a.Whole), len(rest), err)
	}
}

func TestHoldsAreAskedForBeforeEachFurtherAttemptAndKeptWhereTokensMayBeGone(t *testing.T) {
	p, _ := newPool(t, map[string][]reply{"a": {status(429, ``)}, "b": {status(500, ``)}, "c": {good}})
	var steps []string
	cl := call(false)
	cl.Before = func(context.Context) error { steps = append(steps, "hold"); return nil }
	cl.Kept = func() { steps = append(steps, "kept") }
	if _, err := p.Do(t.Context(), cl); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(steps) != "[hold kept hold]" {
		t.Errorf("steps %v", steps)
	}
	refusal := &gateway.Error{Kind: gateway.RateLimited}
	cl = call(false)
	cl.Before = func(context.Context) error { return refusal }
	p, s := newPool(t, map[string][]reply{"a": {status(500, ``)}, "b": {good}})
	if _, err := p.Do(t.Context(), cl); !errors.Is(err, refusal) || len(s.asked) != 1 {
		t.Errorf("%v, asked %v", err, s.asked)
	}
}

func TestWeightsShareAPriorityGroupAndNeverLeakToTheNext(t *testing.T) {
	s := &script{lines: map[string][]reply{"a": {good}, "b": {good}, "c": {good}}}
	region := func(name string, priority, weight int) backend.Region {
		return backend.Region{Name: name, Endpoint: &url.URL{Scheme: "https", Host: name}, Priority: priority, Weight: weight, Credential: "k", Models: map[string]string{"m": "m"}}
	}
	p := backend.New(backend.Options{Transport: s, Secrets: secret.Map{"k": "1"}, Regions: []backend.Region{region("c", 2, 100), region("a", 1, 3), region("b", 1, 1)}})
	const n = 10_000
	share := map[string]int{}
	for range n {
		a, err := p.Do(t.Context(), call(false))
		if err != nil {
			t.Fatal(err)
		}
		share[a.Region]++
	}
	if got := share["a"] * 100 / n; got < 73 || got > 77 || share["c"] != 0 {
		t.Errorf("shares %v", share)
	}
}
