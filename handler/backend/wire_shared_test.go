package backend_test

import (
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// cutConnection answers over HTTP/2 until it is told to close the connection that carries
// the requests.
type cutConnection struct {
	mu      sync.Mutex
	conns   map[net.Conn]bool
	waiting sync.WaitGroup
	hold    bool
}

func (c *cutConnection) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	c.mu.Lock()
	hold := c.hold
	c.mu.Unlock()
	if hold {
		c.waiting.Done()
		<-r.Context().Done()
		return
	}
	_, _ = io.WriteString(w, `{"by":"a"}`)
}

func (c *cutConnection) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hold = false
	for conn := range c.conns {
		_ = conn.Close()
	}
}

// Many requests that one dying connection carries are one piece of evidence.
func TestOneConnectionIsOneFailure(t *testing.T) {
	handler := &cutConnection{conns: map[net.Conn]bool{}}
	region := httptest.NewUnstartedServer(handler)
	region.EnableHTTP2 = true
	region.Config.ConnState = func(c net.Conn, s http.ConnState) {
		handler.mu.Lock()
		defer handler.mu.Unlock()
		handler.conns[c] = s != http.StateClosed
	}
	region.StartTLS()
	defer region.Close()
	roots := x509.NewCertPool()
	roots.AddCert(region.Certificate())
	p := wired(t, region.URL, roots)
	if a, err := ask(t.Context(), p, from("first", 1)); err != nil || a.Region != "a" {
		t.Fatal(a, err)
	}
	const streams = 40
	handler.hold = true
	handler.waiting.Add(streams)
	var all sync.WaitGroup
	for i := range streams {
		all.Go(func() {
			c := from(fmt.Sprint("caller ", i%4), 1)
			if a, err := ask(t.Context(), p, c); err != nil || a.Region != "b" || tries(c) != "a/reset b/" {
				t.Errorf("%s, %v", tries(c), err)
			}
		})
	}
	handler.waiting.Wait()
	handler.cut()
	all.Wait()
	if s := stateOf(p, "a"); s != "open" {
		t.Errorf("state %s", s)
	}
	for range 100 {
		c := from("second", 1)
		if a, err := ask(t.Context(), p, c); err != nil || a.Region != "a" {
			t.Fatalf("%s, %v", tries(c), err)
		}
	}
}
