package backend_test

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"aoaigateway/handler/backend"
	"aoaigateway/handler/body/bodytest"
	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/secret"
)

// wired is a pool over real connections: region a is what is tested, b answers.
func wired(t *testing.T, a string, roots *x509.CertPool) *backend.Pool {
	t.Helper()
	b := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, `{"by":"b"}`)
	}))
	t.Cleanup(b.Close)
	var regions []backend.Region
	for i, endpoint := range []string{a, b.URL} {
		if endpoint == "" {
			continue
		}
		u, err := url.Parse(endpoint)
		if err != nil {
			t.Fatal(err)
		}
		regions = append(regions, backend.Region{
			Name: []string{"a", "b"}[i], Endpoint: u, Priority: i + 1, Credential: "k", Models: map[string]string{"m": "m"},
		})
	}
	transport := backend.NewTransport(roots)
	t.Cleanup(transport.CloseIdleConnections)
	return backend.New(backend.Options{Regions: regions, Transport: transport, Secrets: secret.Map{"k": "1"}})
}

func stateOf(p *backend.Pool, region string) string {
	for _, h := range p.Health() {
		if h.Region == region {
			return h.State
		}
	}
	return ""
}

func blackHole(t *testing.T) string {
	t.Helper()
	address, end, err := aoaisim.BlackHole()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(end)
	return address
}

// mute takes connections and says nothing.
func mute(t *testing.T) string {
	t.Helper()
	return serve(t, func(conn net.Conn, _ int) { _, _ = io.Copy(io.Discard, conn) })
}

// serve handles each connection, numbered from 1, and closes it then.
func serve(t *testing.T, handle func(conn net.Conn, n int)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	t.Cleanup(open.Wait)
	t.Cleanup(func() { _ = l.Close() })
	open.Go(func() {
		for n := 1; ; n++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = conn.Close() })
			open.Go(func() {
				defer func() { _ = conn.Close() }()
				handle(conn, n)
			})
		}
	})
	return l.Addr().String()
}

func TestDialTimeout(t *testing.T) {
	for _, c := range []struct{ name, endpoint, reason string }{
		{"SYNs are dropped", "http://" + blackHole(t), "connect-timeout"},
		{"TLS is not answered", "https://" + mute(t), "tls-failed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := wired(t, c.endpoint, nil)
			cl := call(true)
			began := time.Now()
			a, err := ask(t.Context(), p, cl)
			if err != nil || a.Region != "b" || tries(cl) != "a/"+c.reason+" b/" {
				t.Fatalf("%v after %s", err, tries(cl))
			}
			a.Close()
			if took := time.Since(began); took < 4500*time.Millisecond || took > 8*time.Second {
				t.Errorf("it was waited for for %v", took)
			}
			if s := stateOf(p, "a"); s != "unavailable" {
				t.Errorf("its state is %s", s)
			}
			began = time.Now()
			if a, err := ask(t.Context(), p, call(true)); err != nil || a.Region != "b" || time.Since(began) > 2*time.Second {
				t.Errorf("the next request: %v after %v", err, time.Since(began))
			}
		})
	}
}

const okAnswer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{\"by\":\"a\"}"

func TestStaleConnectionIsRetried(t *testing.T) {
	for _, alone := range []bool{true, false} {
		t.Run(fmt.Sprintf("alone %t", alone), func(t *testing.T) {
			var asked atomic.Int64
			address := serve(t, func(conn net.Conn, n int) {
				in := bufio.NewReader(conn)
				for i := 0; ; i++ {
					r, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, r.Body)
					if asked.Add(1); n == 1 && i == 1 { // its time was over when the request came
						return
					}
					_, _ = io.WriteString(conn, okAnswer)
				}
			})
			p := wired(t, "http://"+address, nil)
			for i, want := range []string{"a/", "a/stale-connection a/", "a/"} {
				cl := call(false)
				if alone {
					cl.Pin = "a"
				}
				l := &ledger{}
				cl.Hold = l
				a, err := ask(t.Context(), p, cl)
				if err != nil || a.Region != "a" || tries(cl) != want || strings.Count(fmt.Sprint(l.steps), "kept") != len(cl.Attempts)-1 {
					t.Errorf("request %d: %s, %v", i, tries(cl), err)
				}
			}
			if n := asked.Load(); n != 4 || stateOf(p, "a") != "open" {
				t.Errorf("asked %d times, state %s", n, stateOf(p, "a"))
			}
		})
	}
}

func TestHangingUpIsUnavailable(t *testing.T) {
	address := serve(t, func(conn net.Conn, _ int) {
		if r, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			_, _ = io.Copy(io.Discard, r.Body)
		}
	})
	p := wired(t, "http://"+address, nil)
	for range 5 {
		cl := call(false)
		if a, err := ask(t.Context(), p, cl); err != nil || a.Region != "b" || tries(cl) != "a/reset b/" {
			t.Errorf("%s, %v", tries(cl), err)
		}
	}
	if s := stateOf(p, "a"); s != "unavailable" {
		t.Errorf("state %s", s)
	}
}

// unusualAnswers are the rows of TestUnusualHTTPAnswers.
var unusualAnswers = []struct {
	name, answer string
	body         int
	unread       bool // the request's body is left
	status       int
	attempts     string
}{
	{
		"a redirect is not followed",
		"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/elsewhere\r\nContent-Length: 0\r\n\r\n", 10, false, 307, "a/",
	},
	{"a moved resource", "HTTP/1.1 301 Moved Permanently\r\nLocation: /openai/elsewhere\r\nContent-Length: 0\r\n\r\n", 10, false, 301, "a/"},
	{
		"informational answers are passed over", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + okAnswer,
		10, false, 200, "a/",
	},
	{
		"a thousand of them are no answer",
		strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: <"+strings.Repeat("l", 1000)+">\r\n\r\n", 1000), 10, false, 200, "a/reset b/",
	},
	{"endless headers", "HTTP/1.1 200 OK\r\nX-Long: " + strings.Repeat("x", 300<<10) + "\r\n\r\n", 10, false, 200, "a/reset b/"},
	{"long headers", "HTTP/1.1 200 OK\r\nX-Long: " + strings.Repeat("x", 100<<10) + "\r\nContent-Length: 0\r\n\r\n", 10, false, 200, "a/"},
	{"no HTTP at all", "SSH-2.0-OpenSSH_9.2\r\n", 10, false, 200, "a/reset b/"},
	{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabcde", 10, false, 200, "a/reset b/"},
	{"broken chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 10, false, 200, "a/broken-body b/"},
	{"chunks that end early", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n", 10, false, 200, "a/broken-body b/"},
	{"less than announced", "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{\"a\":1}", 10, false, 200, "a/broken-body b/"},
	{
		"broken gzip", "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 7\r\n\r\n{\"a\":1}", 10, false, 200,
		"a/bad-encoding b/",
	},
	{"a status of four digits", "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n", 10, false, 200, "a/reset b/"},
	{
		"a refusal before the body is read", "HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}", 4 << 20, true,
		400, "a/",
	},
}

func TestUnusualHTTPAnswers(t *testing.T) {
	for _, c := range unusualAnswers {
		t.Run(c.name, func(t *testing.T) {
			address := serve(t, func(conn net.Conn, _ int) {
				r, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					return
				}
				if !c.unread {
					_, _ = io.Copy(io.Discard, r.Body)
				}
				_, _ = io.WriteString(conn, c.answer)
				if c.unread { // or the answer would be lost in a reset
					_ = conn.(*net.TCPConn).CloseWrite()
					_, _ = io.Copy(io.Discard, conn)
				}
			})
			p := wired(t, "http://"+address, nil)
			cl := call(false)
			cl.Body = bodytest.Of(bytes.Repeat([]byte("x"), c.body))
			a, err := ask(t.Context(), p, cl)
			if err != nil || a.Status != c.status || tries(cl) != c.attempts {
				t.Fatalf("%v after %s", err, tries(cl))
			}
			a.Close()
		})
	}
}

// leaving answers over HTTP/2: requests with X-Leave close the connection, others get a
// stream that ends when going is closed.
func leaving(t *testing.T, going chan struct{}) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.ProtoMajor != 2 {
			t.Errorf("asked over %s", r.Proto)
		}
		if r.Header.Get("X-Leave") != "" {
			w.Header().Set("Connection", "close") // net/http sends GOAWAY then
			_, _ = io.WriteString(w, `{"by":"a"}`)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: {\"a\":1}\n\n")
		_ = http.NewResponseController(w).Flush()
		<-going
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	})
}

// A region over HTTP/2 that is being replaced tells its clients to come again; streams
// under way go on.
func TestGoAwayLosesNoRequest(t *testing.T) {
	var opened atomic.Int64
	going := make(chan struct{})
	region := httptest.NewUnstartedServer(leaving(t, going))
	region.EnableHTTP2 = true
	region.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	region.StartTLS()
	defer region.Close()
	roots := x509.NewCertPool()
	roots.AddCert(region.Certificate())
	p := wired(t, region.URL, roots)
	a, err := ask(t.Context(), p, call(true))
	if err != nil || a.Region != "a" {
		t.Fatal(a, err)
	}
	defer a.Close()
	for range 3 {
		cl := call(false)
		cl.Header.Set("X-Leave", "1")
		if b, err := ask(t.Context(), p, cl); err != nil || b.Region != "a" || tries(cl) != "a/" {
			t.Fatalf("%s, %v", tries(cl), err)
		}
	}
	close(going)
	if e, err := a.Events.Next(); err != nil || string(e.Data) != "[DONE]" {
		t.Errorf("the stream that was under way: %s, %v", e.Data, err)
	}
	if n := opened.Load(); n < 2 {
		t.Errorf("%d connections: the region was not left", n)
	}
}
