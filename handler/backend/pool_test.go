package backend_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"aoaigateway/handler/backend"
	"aoaigateway/handler/body"
	"aoaigateway/handler/body/bodytest"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/secret"
)

// outcomeCases are the rows of TestOutcomes.
var outcomeCases = []struct {
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
	{"503", false, status(503, `{}`), "server-error", true, 503, 0, false},
	{"503 with Retry-After", false, status(503, `{}`, "Retry-After=3"), "throttled", true, 0, gateway.RateLimited, true},
	{"connection refused", false, failing(errRefused), "connect-failed", true, 0, gateway.Unavailable, true},
	{"reset", false, failing(errors.New("read: connection reset by peer")), "reset", true, 0, gateway.Unavailable, false},
	{"TLS", false, failing(errors.New("tls: bad certificate")), "tls-failed", true, 0, gateway.Unavailable, true},
	{"body reset half way", false, cut(`{"ok":`), "broken-body", true, 0, gateway.Unavailable, false},
	{"stream reset before its first event", true, cut("", sse), "cut-before-first-event", true, 0, gateway.Unavailable, false},
	{"stream cut within its first event", true, cut("data: {", sse), "cut-before-first-event", true, 0, gateway.Unavailable, false},
	{
		"stream that opens with an error", true, status(200, "data: {\"error\":{\"code\":\"server_error\"}}\n\n", sse), "error-event", true,
		200, 0, false,
	},
	{
		"stream that opens with a content filter's error", true, status(200, "data: {\"error\":{\"code\":\"content_filter\"}}\n\n", sse), "",
		false, 200, 0, false,
	},
	{"401", false, status(401, `{}`), "credential-refused", true, 0, gateway.BadGateway, false},
	{"403", false, status(403, `{}`), "credential-refused", true, 0, gateway.BadGateway, false},
	{"400", false, status(400, `{"error":{"code":"content_filter"}}`), "", false, 400, 0, false},
	{"404", false, status(404, `{}`), "", false, 404, 0, false},
	{"409", false, status(409, `{}`), "", false, 409, 0, false},
	{"409 with Retry-After", false, status(409, `{}`, "Retry-After=2"), "conflict", true, 409, 0, false},
	{"422", false, status(422, `{}`), "", false, 422, 0, false},
}

// The decision table, as the client and the next request see it.
func TestOutcomes(t *testing.T) {
	for _, c := range outcomeCases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				better := good
				if c.stream {
					better = goodStream
				}
				p, s := newPool(t, map[string][]reply{"a": {c.first}, "b": {better}})
				cl := call(c.stream)
				a, err := ask(t.Context(), p, cl)
				if err != nil {
					t.Fatal(err)
				}
				defer a.Close()
				if (a.Region == "b") != c.moves || cl.Attempts[0].Reason != c.reason || len(cl.Attempts) != len(s.asked) {
					t.Errorf("answered by %s after %+v", a.Region, cl.Attempts)
				}
				before := len(s.asked)
				if a, err := ask(t.Context(), p, call(c.stream)); err == nil {
					a.Close()
				}
				if askedFirst := strings.HasPrefix(s.asked[before], "a/"); askedFirst == c.opens {
					t.Errorf("the next request asked %s first", s.asked[before])
				}
			})
			synctest.Test(t, func(t *testing.T) {
				p, _ := newPool(t, map[string][]reply{"a": {c.first}})
				a, err := ask(t.Context(), p, call(c.stream))
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

// A silent region is left while another is open, and waited for when none is.
func TestFirstByteTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := func(r *http.Request) (*http.Response, error) {
			time.Sleep(200 * time.Second)
			return good(r)
		}
		p, _ := newPool(t, map[string][]reply{"a": {hanging}, "b": {late}})
		start := time.Now()
		cl := call(false)
		a, err := ask(t.Context(), p, cl)
		if err != nil || a.Region != "b" {
			t.Fatalf("%+v, %v", a, err)
		}
		if took := time.Since(start); took != 300*time.Second {
			t.Errorf("took %v, want 100 s until the first is left and 200 s of waiting for the last", took)
		}
		if cl.Attempts[0].Reason != "first-byte-timeout" {
			t.Errorf("attempts %+v", cl.Attempts)
		}
	})
}

func TestRenewedSecretIsTriedOnce(t *testing.T) {
	p, s := newPool(t, map[string][]reply{"a": {status(401, ``), good}, "b": {good}})
	cl := call(false)
	if a, err := ask(t.Context(), p, cl); err != nil || a.Region != "a" || len(s.asked) != 2 {
		t.Fatalf("%+v, %v, asked %v", a, err, s.asked)
	}
}

// The deployment is remembered, so the next request is sent without them at once.
func TestRefusedStreamOptionsAreDropped(t *testing.T) {
	refusal := status(400, `{"error":{"message":"Unrecognized request argument supplied: stream_options"}}`)
	p, s := newPool(t, map[string][]reply{"a": {refusal, goodStream}})
	for i, want := range []int{2, 3} {
		cl := call(true)
		cl.AskUsage = &body.Edit{From: 6, To: 6, Text: `,"stream_options":{}`}
		a, err := ask(t.Context(), p, cl)
		if err != nil || a.UsageAsked || len(s.asked) != want {
			t.Fatalf("call %d: %+v, %v, asked %v", i, a, err, s.asked)
		}
		a.Close()
	}
}

// All other bytes stay.
func TestDeploymentNameIsRewritten(t *testing.T) {
	p, s := newPool(t, map[string][]reply{"a": {status(500, ``)}, "b": {good}})
	if _, err := ask(t.Context(), p, call(false)); err != nil {
		t.Fatal(err)
	}
	v1 := call(false)
	v1.Path, v1.Body = "/openai/v1/chat/completions", bodytest.Of([]byte(`{"model":"m", "n":1}`))
	v1.ModelEdit = func(name string) body.Edit { return body.Edit{From: 9, To: 12, Text: strconv.Quote(name)} }
	if _, err := ask(t.Context(), p, v1); err != nil {
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

func TestAllThrottledNamesSmallestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := newPool(t, map[string][]reply{"a": {status(429, ``, "Retry-After=30")}, "b": {status(429, ``, "retry-after-ms=4000")}})
		for range 2 {
			_, err := ask(t.Context(), p, call(false))
			e, ok := errors.AsType[*gateway.Error](err)
			if !ok || e.Kind != gateway.RateLimited || e.RetryAfter != 4*time.Second {
				t.Fatalf("%+v", err)
			}
		}
		if len(s.asked) != 2 {
			t.Errorf("asked %d times: the stated waits must keep the second request away", len(s.asked))
		}
	})
}

func TestClientLeftBlamesNoRegion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := newPool(t, map[string][]reply{"a": {hanging}, "b": {good}})
		for range 5 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			cl := call(false)
			_, err := ask(ctx, p, cl)
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

func TestLongBodyCommitsEarly(t *testing.T) {
	long := bytes.Repeat([]byte("x"), backend.WholeBody+10)
	p, _ := newPool(t, map[string][]reply{"a": {status(200, string(long))}})
	a, err := ask(t.Context(), p, call(false))
	if err != nil || a.Rest == nil {
		t.Fatalf("%+v, %v", a, err)
	}
	defer a.Close()
	rest, err := io.ReadAll(a.Rest)
	if err != nil || !bytes.Equal(append(a.Whole, rest...), long) {
		t.Fatalf("%d + %d bytes, %v", len(a.Whole), len(rest), err)
	}
}

// Again is called before each further attempt, Keep where tokens may have been used.
func TestHoldFollowsAttempts(t *testing.T) {
	p, _ := newPool(t, map[string][]reply{"a": {status(500, ``)}, "b": {resets}, "c": {good}})
	l := &ledger{}
	cl := l.call(false)
	if _, err := ask(t.Context(), p, cl); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(l.steps) != "[again kept again]" {
		t.Errorf("steps %v", l.steps)
	}
	refusal := &gateway.Error{Kind: gateway.RateLimited}
	cl = (&ledger{again: refusal}).call(false)
	p, s := newPool(t, map[string][]reply{"a": {status(500, ``)}, "b": {good}})
	if _, err := ask(t.Context(), p, cl); !errors.Is(err, refusal) || len(s.asked) != 1 {
		t.Errorf("%v, asked %v", err, s.asked)
	}
}

func TestWeightsShareOnePriority(t *testing.T) {
	s := &script{lines: map[string][]reply{"a": {good}, "b": {good}, "c": {good}}}
	region := func(name string, priority, weight int) backend.Region {
		return backend.Region{
			Name: name, Endpoint: &url.URL{Scheme: "https", Host: name}, Priority: priority, Weight: weight, Credential: "k",
			Models: map[string]string{"m": "m"},
		}
	}
	regions := []backend.Region{region("c", 2, 100), region("a", 1, 3), region("b", 1, 1)}
	p := backend.New(backend.Options{Transport: s, Secrets: secret.Map{"k": "1"}, Regions: regions})
	const n = 10_000
	share := map[string]int{}
	for range n {
		a, err := ask(t.Context(), p, call(false))
		if err != nil {
			t.Fatal(err)
		}
		share[a.Region]++
	}
	if got := share["a"] * 100 / n; got < 73 || got > 77 || share["c"] != 0 {
		t.Errorf("shares %v", share)
	}
}
