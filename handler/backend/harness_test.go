package backend_test

import (
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

	"aoaigateway/handler/backend"
	"aoaigateway/handler/body/bodytest"
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

// streaming answers 200 with a body that is read while it arrives.
func streaming(from io.Reader, headers ...string) reply {
	return func(r *http.Request) (*http.Response, error) { return response(r, 200, from, headers...), nil }
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("connection reset by peer") }

var (
	errRefused = &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	sse        = "Content-Type=text/event-stream"
	good       = status(200, `{"ok":true}`)
	throttles  = status(429, `{}`, "Retry-After=60")
	resets     = failing(errors.New("read: connection reset by peer"))
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

// testCall is a call with its hold and with the attempts that ask fills in.
type testCall struct {
	backend.Call

	Hold     backend.Hold
	Attempts []gateway.Attempt
}

func ask(ctx context.Context, p *backend.Pool, c *testCall) (*backend.Answer, error) {
	answer, attempts, err := p.Do(ctx, &c.Call, c.Hold)
	c.Attempts = attempts
	return answer, err
}

// tries lists a call's attempts as region/reason.
func tries(c *testCall) string {
	var list []string
	for _, a := range c.Attempts {
		list = append(list, a.Region+"/"+a.Reason)
	}
	return strings.Join(list, " ")
}

func call(stream bool) *testCall {
	return &testCall{Call: backend.Call{
		Method: "POST", Path: "/openai/deployments/{deployment}/chat/completions", APIVersion: "2024-10-21",
		Header: http.Header{}, Body: bodytest.Of([]byte(`{"x":1}`)), Model: "m", Stream: stream,
	}}
}

// ledger is a hold that notes what a call asks of it.
type ledger struct {
	mu    sync.Mutex
	steps []string
	again error // refuses further attempts
	hedge error // refuses hedges
}

func (l *ledger) note(step string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.steps = append(l.steps, step)
}

func (l *ledger) call(stream bool) *testCall {
	c := call(stream)
	c.Hold, c.Hedge = l, true
	return c
}

func (l *ledger) Again(context.Context) error { l.note("again"); return l.again }

func (l *ledger) Keep() { l.note("kept") }

func (l *ledger) Release(context.Context) { l.note("released") }

func (l *ledger) Hedge(context.Context) (backend.Hold, error) {
	if l.hedge != nil {
		return nil, l.hedge
	}
	l.note("hedge")
	return &hedgeHold{ledger: l}, nil
}

// hedgeHold is the hold of one hedge.
type hedgeHold struct {
	*ledger
	kept bool
}

func (h *hedgeHold) Keep() { h.kept = true }

func (h *hedgeHold) Release(context.Context) { h.note(fmt.Sprintf("hedge kept %t", h.kept)) }

// first returns the data of a stream's first event that is no comment.
func first(t *testing.T, a *backend.Answer) string {
	t.Helper()
	for {
		e, err := a.Next()
		if err != nil {
			t.Fatal(err)
		}
		if e.Data != nil {
			return string(e.Data)
		}
	}
}
