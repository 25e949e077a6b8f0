package e2e_test

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"aoaigateway/handler/app"
	"aoaigateway/handler/app/settings"
	"aoaigateway/handler/backend"
	"aoaigateway/handler/blob"
	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/devstack/aoaisim/wire"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/policy"
	"aoaigateway/handler/secret"
	"aoaigateway/handler/table"
	"aoaigateway/handler/tests/harness"
)

// pipes are connections in memory. With them, servers and clients can run in a synctest
// bubble, where time advances as soon as all goroutines wait.
type pipes map[string]chan net.Conn

func (p pipes) dial(ctx context.Context, _, address string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case p[address] <- there:
		return here, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p pipes) transport() *http.Transport {
	t := backend.NewTransport(wire.Roots())
	t.DialContext, t.Proxy = p.dial, nil
	return t
}

// serve makes the server listen under this name. The function that it returns stops the
// server.
func (p pipes) serve(name string, server *http.Server) (end func()) {
	l := p.listen(name + ":80")
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	return func() { _ = server.Close(); <-done }
}

func (p pipes) listen(address string) *pipeListener {
	p[address] = make(chan net.Conn)
	return &pipeListener{conns: p[address], closed: make(chan struct{})}
}

type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { close(l.closed); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// inVirtualTime runs a test in virtual time, with the whole gateway, default settings and
// the given number of simulated regions.
func inVirtualTime(t *testing.T, regions int, test func(t *testing.T, r *harness.Gateway)) {
	t.Helper()
	inVirtualTimeUnder(t, harness.TestPolicy, regions, func(t *testing.T, r *harness.Gateway, _ *ledger) { test(t, r) })
}

// defaultSettings returns settings in which only the required ones are set.
func defaultSettings(t *testing.T) settings.Values {
	t.Helper()
	s, err := settings.For(settings.Serving, []string{
		"FUNCTIONS_CUSTOMHANDLER_PORT=1", "GATEWAY_STORAGE=UseDevelopmentStorage=true",
		`GATEWAY_SECRETS={"gateway-admin-key":"` + harness.AdminKey + `","k":"key"}`,
		`GATEWAY_BACKENDS=[{"name":"a","endpoint":"https://a","priority":1,"credential":"k","models":{"chat":"chat"}}]`,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Backends = nil
	return s
}

// inVirtualTimeUnder is inVirtualTime with the given policy. The test also gets the charges
// of the counters.
func inVirtualTimeUnder(t *testing.T, text string, regions int, test func(t *testing.T, r *harness.Gateway, charges *ledger)) {
	t.Helper()
	inVirtualTimeOver(t, wire.Options{Plain: true}, text, regions, test)
}

// inVirtualTimeOver is inVirtualTimeUnder with connections of another kind.
func inVirtualTimeOver(
	t *testing.T, kind wire.Options, text string, regions int, test func(t *testing.T, r *harness.Gateway, charges *ledger),
) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		logger := slog.New(slog.NewTextHandler(t.Output(), nil))
		world := pipes{}
		toRegions, toGateway := world.transport(), world.transport()
		s := defaultSettings(t)
		r := &harness.Gateway{T: t, URL: "http://gateway", Client: &http.Client{Transport: toGateway}, Store: table.NewMem()}
		r.Blobs = &blob.Mem{Fault: r.BlobOperation}
		for i := range regions {
			defer addVirtualRegion(r, &s, world, kind, i)()
		}
		pol, err := policy.Parse("policy.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		charges := newLedger()
		e := app.Services{
			Exporter:      takesAll(t),
			Subscriptions: r.Store, Quota: charges.store, Affinity: table.NewMem(), Regions: table.NewMem(), Usage: table.NewMem(),
			Journal: table.NewMem(), Blobs: r.Blobs,
			Secrets: secret.Map(s.Secrets), Transport: toRegions,
		}
		p := app.New(s, pol, e, logger)
		r.Settings, r.Policy, r.Services, r.Program = s, pol, e, p
		defer p.Close(context.WithoutCancel(t.Context()))
		defer toRegions.CloseIdleConnections()
		defer world.serve("gateway", app.NewServer(p.Handler, logger))()
		defer toGateway.CloseIdleConnections()
		r.Key = r.Subscribe("default", "team-a")
		test(t, r, charges)
	})
}

// addVirtualRegion starts the next region (a, b, …). Its priority is its position.
func addVirtualRegion(r *harness.Gateway, s *settings.Values, world pipes, kind wire.Options, i int) (end func()) {
	name := string(rune('a' + i))
	region := aoaisim.New(aoaisim.Options{
		Name: name, Key: "key", Wire: kind, Deployments: map[string]aoaisim.Deployment{"chat": {Model: "gpt-4o"}},
	})
	endpoint := &url.URL{Scheme: "https", Host: "localhost:" + strconv.Itoa(i+1)} // the name in the regions' certificate
	if kind.Plain {
		endpoint = &url.URL{Scheme: "http", Host: name + ":80"}
	}
	r.Regions = append(r.Regions, region)
	s.Backends = append(s.Backends, backend.Region{
		Name: name, Endpoint: endpoint, Priority: i + 1, Credential: "k", Models: map[string]string{"chat": "chat"},
	})
	return region.Serve(world.listen(endpoint.Host))
}

func timed(r *harness.Gateway, body string) (harness.Answer, time.Duration) {
	began := time.Now()
	a := r.Post(harness.ChatPath, body)
	return a, time.Since(began).Truncate(time.Second)
}

func comments(body []byte) (n int) {
	for _, e := range harness.Events(body) {
		if strings.HasPrefix(e, ":") {
			n++
		}
	}
	return n
}

func TestSilenceBeforeFirstToken(t *testing.T) {
	for name, do := range map[string]aoaisim.Do{"no header": aoaisim.DoHang, "headers and no event": aoaisim.DoHangEvent} {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, 1, func(t *testing.T, r *harness.Gateway) {
				r.Regions[0].Fault(aoaisim.Fault{Do: do, Millis: 150_000})
				a, took := timed(r, harness.ChatStream)
				rec := wantComplete(r, a)
				if !strings.HasSuffix(string(a.Body), doneEvent) || rec.Usage.Estimated || took != 150*time.Second || len(rec.Attempts) != 1 {
					t.Errorf("after %v, record %+v: %s", took, rec, a.Body)
				}
				if n := comments(a.Body); n != 3 { // after 100, 120 and 140 s
					t.Errorf("%d heartbeats in %s", n, a.Body)
				}
			})
		})
	}
}

func TestSilenceBetweenTokens(t *testing.T) {
	inVirtualTime(t, 2, func(t *testing.T, r *harness.Gateway) {
		r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoSlow, Millis: 59_000})
		a, took := timed(r, harness.ChatStream)
		rec := wantComplete(r, a)
		tokens := len(harness.Events(a.Body)) - comments(a.Body)
		if !strings.HasSuffix(string(a.Body), doneEvent) || rec.Region != "a" || len(rec.Attempts) != 1 ||
			took < time.Duration(tokens-1)*59*time.Second {
			t.Errorf("%d events after %v by %s", tokens, took, rec.Region)
		}
		if n := comments(a.Body); n < 2*(tokens-1) {
			t.Errorf("%d heartbeats between %d events", n, tokens)
		}
		wantWholeEvents(t, a.Body)
	})
}

func TestAnswerAfter230Seconds(t *testing.T) {
	inVirtualTime(t, 1, func(t *testing.T, r *harness.Gateway) {
		r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoHang, Millis: 230_000})
		a, took := timed(r, harness.ChatBody)
		message, _ := a.Event(t, "error", "message").(string)
		if a.Status != http.StatusGatewayTimeout || took != 220*time.Second || !strings.Contains(message, `Ask for a stream ("stream": true)`) {
			t.Errorf("after %v: %d %s", took, a.Status, a.Body)
		}
		if rec := r.RecordOf(a); rec.Status != 504 || rec.ErrorReason != "Timeout" {
			t.Errorf("record %+v", rec)
		}
	})
}

func TestSilentRegionIsLeft(t *testing.T) {
	for body, want := range map[string]time.Duration{harness.ChatStream: 60 * time.Second, harness.ChatBody: 100 * time.Second} {
		inVirtualTime(t, 2, func(t *testing.T, r *harness.Gateway) {
			r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoHang})
			defer r.Regions[0].ClearFaults()
			a, took := timed(r, body)
			if rec := wantComplete(r, a); rec.Region != "b" || rec.Attempts[0].Reason != "first-byte-timeout" || took != want {
				t.Errorf("by %s after %v, want %v", rec.Region, took, want)
			}
		})
	}
}

func TestStreamSilentForGood(t *testing.T) {
	inVirtualTime(t, 1, func(t *testing.T, r *harness.Gateway) {
		r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoStep})
		r.Regions[0].Step(3)
		defer r.Regions[0].ClearFaults()
		a, took := timed(r, harness.ChatStream)
		wantCut(r, a, gateway.UpstreamCut, "upstream_cut")
		if n := comments(a.Body); took != 10*time.Minute || n < 29 || n > 30 {
			t.Errorf("after %v, %d heartbeats", took, n)
		}
	})
}

func TestRequestEndsAfterAnHour(t *testing.T) {
	inVirtualTime(t, 1, func(t *testing.T, r *harness.Gateway) {
		r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoSlow, Millis: 9 * 60_000})
		a, took := timed(r, harness.ChatStream)
		if a.Err == nil || took != time.Hour || strings.Contains(string(a.Body), "[DONE]") {
			t.Errorf("after %v: %v %s", took, a.Err, a.Body)
		}
	})
}
