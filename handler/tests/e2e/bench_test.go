//go:build unix

package e2e_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"aoaigateway/handler/app"
	"aoaigateway/handler/app/settings"
	"aoaigateway/handler/auth"
	"aoaigateway/handler/backend"
	"aoaigateway/handler/blob"
	"aoaigateway/handler/devstack/aoaisim/wire"
	"aoaigateway/handler/policy"
	"aoaigateway/handler/secret"
	"aoaigateway/handler/table"
	"aoaigateway/handler/tests/harness"
)

const benchPolicy = `
version: 1
models: {}
products:
  default:
    models: ["*"]
    maxOutputTokens: 1000
    limits:
      - {name: pace, tokens: 1000000000, per: minute}
      - {name: calls, requests: 1000000000, per: minute}
      - {name: budget, tokens: 1000000000000, per: month, hard: true}
`

const (
	benchStreams = 32
	benchEvents  = 100
	benchCalls   = 256
	benchPrompt  = 4 << 10
)

// bench is a region with fixed answers, and in front of it both the complete gateway and a
// bare reverse proxy. All run in this process.
type bench struct {
	client *http.Client
	urls   map[string]string // by name: direct, bare, gateway
	key    string
}

// onBothWires measures with a region as Azure serves it, and with one without TLS.
func onBothWires(b *testing.B, measure func(b *testing.B, o wire.Options)) {
	b.Helper()
	b.Run("tls-http2", func(b *testing.B) { measure(b, wire.Options{}) })
	b.Run("plain-http1", func(b *testing.B) { measure(b, wire.Options{Plain: true}) })
}

// serveRegion serves the region on loopback and returns its URL.
func serveRegion(b *testing.B, region http.Handler, o wire.Options) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := wire.New(region, o)
	go server.Serve(l)
	b.Cleanup(func() { _ = l.Close(); server.Close() })
	return server.Scheme() + "://" + l.Addr().String()
}

func newBench(b *testing.B, region http.HandlerFunc, o wire.Options) *bench {
	b.Helper()
	serve := func(h http.Handler) string {
		s := httptest.NewServer(h)
		b.Cleanup(s.Close)
		return s.URL
	}
	direct := serveRegion(b, region, o)
	u, err := url.Parse(direct)
	if err != nil {
		b.Fatal(err)
	}
	bare := serve(&httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(u) },
		Transport: backend.NewTransport(wire.Roots()),
	})
	pol, err := policy.Parse("policy.yaml", []byte(benchPolicy))
	if err != nil {
		b.Fatal(err)
	}
	s := settings.Values{APIVersionFloor: "2024-10-21", MaxBodyMB: 1, Backends: []backend.Region{{
		Name: "a", Endpoint: u, Priority: 1, Weight: 1, Credential: "secret", Models: map[string]string{"chat": "chat"},
	}}}
	store := table.NewMem()
	p := app.New(s, pol, app.Services{
		Subscriptions: store, Quota: table.NewMem(), Usage: table.NewMem(), Journal: table.NewMem(), Blobs: &blob.Mem{},
		Secrets: secret.Map{"secret": "k"}, Transport: backend.NewTransport(wire.Roots()),
	}, slog.New(slog.NewJSONHandler(io.Discard, nil))) //nolint:sloglint // writing the log line is a part of the cost
	p.Start()
	_, keys, err := auth.NewSubscriptions(store).Create(b.Context(), auth.Subscription{ID: "team", Product: "default"}, auth.Keys{})
	if err != nil {
		b.Fatal(err)
	}
	gateway := serve(p.Handler)
	b.Cleanup(func() { p.Close(context.Background()) })
	client := &http.Client{Transport: backend.NewTransport(wire.Roots())}
	return &bench{client, map[string]string{"direct": direct, "bare": bare, "gateway": gateway}, keys.Primary}
}

func (x *bench) call(b *testing.B, to, body string) {
	req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, x.urls[to]+harness.ChatPath, strings.NewReader(body))
	if err != nil {
		b.Error(err)
		return
	}
	req.Header.Set("Api-Key", x.key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := x.client.Do(req)
	if err != nil {
		b.Error(err)
		return
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n == 0 || resp.StatusCode != http.StatusOK {
		b.Errorf("%s: %d, %d bytes, %v", to, resp.StatusCode, n, err)
	}
}

// cost returns the CPU time of this process for n simultaneous calls. It includes the
// client and the region; subtracting the cost of direct calls removes them.
func (x *bench) cost(b *testing.B, to, body string, n int) time.Duration {
	before := cpu(b)
	var calls sync.WaitGroup
	for range n {
		calls.Go(func() { x.call(b, to, body) })
	}
	calls.Wait()
	return cpu(b) - before
}

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// compare measures the three ways alternately, so that other load on the machine affects
// all of them.
func (x *bench) compare(b *testing.B, body string, calls, units int) {
	ways := []string{"direct", "bare", "gateway"}
	for _, to := range ways {
		x.cost(b, to, body, calls) // opens the connections before the measurement
	}
	sum := map[string]time.Duration{}
	rounds := 0
	for b.Loop() {
		for _, to := range ways {
			sum[to] += x.cost(b, to, body, calls)
		}
		rounds++
	}
	micros := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 / float64(rounds*calls*units) }
	bare, gateway := micros(sum["bare"]-sum["direct"]), micros(sum["gateway"]-sum["direct"])
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(bare, "µs-bare")
	b.ReportMetric(gateway, "µs-gateway")
	b.ReportMetric(gateway/bare, "×bare")
	b.ReportMetric(micros(sum["gateway"])/micros(sum["bare"]), "×bare-with-ends")
}

// BenchmarkCPUOfARequest measures requests with a prompt of 4 KiB and an answer of 2 KiB in
// one piece.
func BenchmarkCPUOfARequest(b *testing.B) {
	answer := strings.Replace(wholeChat, "one two three", strings.Repeat("word ", 400), 1)
	region := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, answer)
	}
	body := fmt.Sprintf(`{"messages":[{"role":"user","content":"%s"}],"max_tokens":100}`, strings.Repeat("ask ", benchPrompt/4))
	onBothWires(b, func(b *testing.B, o wire.Options) { newBench(b, region, o).compare(b, body, benchCalls, 1) })
}

// BenchmarkCPUOfAStreamedChunk measures 32 simultaneous streams that send each event
// separately.
func BenchmarkCPUOfAStreamedChunk(b *testing.B) {
	region := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		control := http.NewResponseController(w)
		pace := time.NewTicker(2 * time.Millisecond)
		defer pace.Stop()
		for range benchEvents {
			<-pace.C // before the first event too, because a bare proxy may still be reading the end of the request
			_, _ = io.WriteString(w, firstChunk)
			_ = control.Flush()
		}
		_, _ = io.WriteString(w, lastChunk+usageChunk+doneEvent)
	}
	const body = `{"messages":[{"role":"user","content":"ask"}],"max_tokens":100,"stream":true,"stream_options":{"include_usage":true}}`
	onBothWires(b, func(b *testing.B, o wire.Options) { newBench(b, region, o).compare(b, body, benchStreams, benchEvents) })
}

// BenchmarkMemoryOfAStream measures how much heap and stack memory each open stream needs.
func BenchmarkMemoryOfAStream(b *testing.B) { onBothWires(b, memoryOfAStream) }

func memoryOfAStream(b *testing.B, o wire.Options) {
	const streams = 200
	release := make(chan struct{})
	x := newBench(b, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, strings.Repeat(firstChunk, 20))
		_ = http.NewResponseController(w).Flush()
		<-release
	}, o)
	defer close(release)
	held := map[string]float64{}
	for _, to := range []string{"direct", "bare", "gateway"} {
		before := inUse()
		var opened sync.WaitGroup
		for range streams {
			opened.Go(func() { b.Cleanup(x.open(b, to)) })
		}
		opened.Wait()
		held[to] = (inUse() - before) / streams / 1024
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(held["bare"]-held["direct"], "KiB-bare")
	b.ReportMetric(held["gateway"]-held["direct"], "KiB-gateway")
}

// open opens a stream and reads the region's first event. It returns the function that
// closes the stream.
func (x *bench) open(b *testing.B, to string) func() {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, x.urls[to]+harness.ChatPath,
		strings.NewReader(harness.ChatStream))
	if err != nil {
		b.Error(err)
		return func() {}
	}
	req.Header.Set("Api-Key", x.key)
	resp, err := x.client.Do(req)
	if err != nil {
		b.Error(err)
		return func() {}
	}
	if _, err := io.ReadFull(resp.Body, make([]byte, 20*len(firstChunk))); err != nil {
		b.Error(err)
	}
	return func() { _ = resp.Body.Close() }
}

func inUse() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc + m.StackInuse)
}
