package e2e_test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"aoaigateway/handler/app"
	"aoaigateway/handler/app/settings"
	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/tests/harness"
)

// quiet waits until there are no more goroutines than before.
func quiet(t *testing.T, before int) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
		http.DefaultClient.CloseIdleConnections()
		time.Sleep(5 * time.Millisecond)
	}
}

// departure is a test case: a client disconnects at some stage of a request.
type departure struct {
	name    string
	fault   aoaisim.Do
	request string
	until   string // the client reads up to this text and then disconnects
	gate    bool   // true = no record becomes durable in the meantime
	outcome gateway.Outcome
}

func TestClientLeavesAtAnyStage(t *testing.T) {
	head := strings.NewReplacer("{host}", "gateway").Replace(unsent(request("POST", harness.ChatPath, "", "api-key: {key}")))
	send := func(body string) string {
		return strings.Replace(call("POST", harness.ChatPath, body), "{host}", "gateway", 1)
	}
	stream := strings.Replace(harness.ChatStream, "tokens:6", "tokens:400", 1)
	for _, c := range []departure{
		{"before its body", "", head, "", false, gateway.Refused},
		{"in its body", "", head + harness.ChatBody, "", false, gateway.Refused},
		{"before a call is answered", aoaisim.DoHang, send(harness.ChatBody), "", false, gateway.ClientLeft},
		{"before a stream is answered", aoaisim.DoHang, send(harness.ChatStream), "", false, gateway.ClientLeft},
		{"before the first event", aoaisim.DoHangEvent, send(harness.ChatStream), "", false, gateway.ClientLeft},
		{"before its begin is durable", "", send(harness.ChatStream), "", true, gateway.ClientLeft},
		{"in a stream", aoaisim.DoSlow, send(stream), "data: ", false, gateway.ClientLeft},
		{"while the end is held", "", send(harness.ChatStream), `"finish_reason":"stop"`, true, ""},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t) })
	}
}

func (c departure) run(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1, Settings: func(s *settings.Values) { s.AuditWait = 500 * time.Millisecond }})
	wantComplete(r, r.Post(harness.ChatPath, harness.ChatBody))
	http.DefaultClient.CloseIdleConnections()
	before := runtime.NumGoroutine()
	if c.fault != "" {
		r.Regions[0].Fault(aoaisim.Fault{Do: c.fault, Millis: map[aoaisim.Do]int{aoaisim.DoSlow: 20}[c.fault]})
	}
	gate := make(chan struct{})
	conn := dial(r)
	if c.gate && c.until == "" {
		r.Fault.Store(harness.NoAppends(gate))
	}
	_, _ = io.WriteString(conn, strings.Replace(c.request, "{key}", r.Key, 1))
	readUntil(r, conn, c.until, func() {
		if c.gate {
			r.Fault.Store(harness.NoAppends(gate))
		}
	})
	if c.fault != "" {
		waitFor(r, "the region to be asked", func() bool { return r.Regions[0].Counts().Open > 0 })
	}
	_ = conn.Close()
	time.AfterFunc(100*time.Millisecond, func() { close(gate) })
	waitFor(r, "two end records", func() bool { return r.Ends() == 2 })
	waitFor(r, "the region to be left alone", func() bool { return r.Regions[0].Counts().Open == 0 })
	if c.outcome != "" {
		r.Find("one of outcome "+string(c.outcome), func(rec gateway.Record) bool { return rec.Outcome == c.outcome })
	}
	quiet(t, before)
}

// readUntil reads up to the text mark. It calls reached after the first event.
func readUntil(r *harness.Gateway, in io.Reader, mark string, reached func()) {
	r.T.Helper()
	var seen []byte
	for buf := make([]byte, 256); mark != "" && !bytes.Contains(seen, []byte(mark)); {
		n, err := in.Read(buf)
		if seen = append(seen, buf[:n]...); err != nil {
			r.T.Fatalf("%v before %q in %s", err, mark, seen)
		}
		if reached != nil && bytes.Contains(seen, []byte("data: ")) {
			reached()
			reached = nil
		}
	}
}

func waitFor(r *harness.Gateway, what string, ok func() bool) {
	r.T.Helper()
	for deadline := time.Now().Add(5 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.T.Fatalf("waited in vain for %s", what)
		}
	}
}

// lastOf returns what the first region saw last. A region counts an exchange after it has
// sent the answer.
func lastOf(r *harness.Gateway) *aoaisim.Exchange {
	r.T.Helper()
	waitFor(r, "the region to count its answers", func() bool {
		c := r.Regions[0].Counts()
		return c.Open == 0 && c.Last != nil
	})
	return r.Regions[0].Counts().Last
}

func TestStuckClientIsGivenUp(t *testing.T) {
	for name, c := range map[string]struct {
		region http.HandlerFunc
		body   string
	}{
		"stream": {longStream(64 << 20), harness.ChatStream},
		"long body": {func(w http.ResponseWriter, q *http.Request) {
			_, _ = io.Copy(io.Discard, q.Body)
			_, _ = io.Copy(w, io.LimitReader(endless{}, 64<<20))
		}, harness.ChatBody},
	} {
		t.Run(name, func(t *testing.T) {
			scripted := scripted(t, c.region)
			r := harness.Start(t, harness.Options{
				Regions:  1,
				Settings: func(s *settings.Values) { scripted(s); s.ClientIdleTimeout = 200 * time.Millisecond },
			})
			conn := dial(r)
			defer conn.Close()
			_, _ = io.WriteString(conn, strings.NewReplacer("{key}", r.Key, "{host}", "gateway").Replace(call("POST", harness.ChatPath, c.body)))
			r.Find("one of a client that left", func(rec gateway.Record) bool { return rec.Outcome == gateway.ClientLeft })
		})
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func TestConnectionReuse(t *testing.T) {
	var opened atomic.Int64
	region := httptest.NewUnstartedServer(says(firstChunk, lastChunk, usageChunk, doneEvent))
	region.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	region.Start()
	defer region.Close()
	u, _ := url.Parse(region.URL)
	r := harness.Start(t, harness.Options{Regions: 1, Settings: func(s *settings.Values) { s.Backends[0].Endpoint = u }})
	const streams = 30
	for range streams {
		wantComplete(r, r.Post(harness.ChatPath, harness.ChatStream))
	}
	if n := opened.Load(); n > streams/5 {
		t.Errorf("%d connections for %d streams, one after another", n, streams)
	}
}

// faulty is a region's transport that panics.
type faulty struct {
	http.RoundTripper
	after int // panics after this many bytes of the body; negative = instead of an answer
}

func (f faulty) RoundTrip(req *http.Request) (*http.Response, error) {
	if f.after < 0 {
		panic("a fault of ours")
	}
	resp, err := f.RoundTripper.RoundTrip(req)
	if err == nil {
		resp.Body = &faultyBody{resp.Body, f.after}
	}
	return resp, err
}

type faultyBody struct {
	io.ReadCloser
	left int
}

func (b *faultyBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		panic("a fault of ours")
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

func TestPanicLeavesRecord(t *testing.T) {
	for name, after := range map[string]int{"before the answer": -1, "in a stream": 1500} {
		t.Run(name, func(t *testing.T) {
			r := harness.Start(t, harness.Options{Regions: 1, Services: func(e *app.Services) { e.Transport = faulty{e.Transport, after} }})
			a := r.Post(harness.ChatPath, harness.ChatStream)
			if after < 0 && (a.Status != 500 || a.Event(t, "error", "message") == "" || bytes.Contains(a.Body, []byte("a fault of ours"))) {
				t.Errorf("%d %s", a.Status, a.Body)
			}
			if after > 0 && (a.Err == nil || bytes.Contains(a.Body, []byte("[DONE]"))) {
				t.Errorf("%v: %s", a.Err, a.Body)
			}
			if rec := r.RecordOf(a); rec.Outcome != gateway.GatewayFailed || rec.Status != 500 {
				t.Errorf("record %+v", rec)
			}
		})
	}
}
