// Package wire serves a handler as Azure's front does, over TLS with HTTP/2, and lets
// handlers do to a connection what happens to connections on the way: RST_STREAM with any
// code, GOAWAY, a connection that transfers nothing any more, a reset.
package wire

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

// Options of New. The zero value is TLS with HTTP/2 and HTTP/1.1.
type Options struct {
	Plain     bool          // HTTP/1.1 without TLS
	HTTP1     bool          // TLS with HTTP/1.1 only
	Streams   int           // the most simultaneous streams of a connection; default 100
	Idle      time.Duration // connections that are idle for longer die in silence; 0 = they live
	IdleReset bool          // such connections are reset at their next request, instead of being silent
}

const defaultStreams = 100

// Server serves a handler on one listener after another.
type Server struct {
	o    Options
	http *http.Server
	tls  *tls.Config

	mu     sync.Mutex
	closed bool
	conns  map[*Conn]bool
}

// New returns a server that does not listen yet.
func New(handler http.Handler, o Options) *Server {
	s := &Server{o: o, conns: map[*Conn]bool{}}
	s.http = &http.Server{
		Handler: handler, ReadHeaderTimeout: time.Minute, MaxHeaderBytes: 1 << 20,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
	}
	// What has passed TLS is served here, so HTTP/2 is unencrypted for this server.
	s.http.Protocols = &http.Protocols{}
	s.http.Protocols.SetHTTP1(true)
	s.http.Protocols.SetUnencryptedHTTP2(!o.Plain && !o.HTTP1)
	s.http.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: cmp.Or(o.Streams, defaultStreams)}
	s.tls = &tls.Config{
		Certificates: []tls.Certificate{certificate().pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
	}
	if o.HTTP1 {
		s.tls.NextProtos = s.tls.NextProtos[1:]
	}
	return s
}

// Scheme is http or https.
func (s *Server) Scheme() string {
	if s.o.Plain {
		return "http"
	}
	return "https"
}

// Serve accepts connections until the listener is closed.
func (s *Server) Serve(l net.Listener) {
	first := &delivered{conns: make(chan net.Conn), done: make(chan struct{}), addr: l.Addr()}
	var open sync.WaitGroup
	open.Go(func() { _ = s.http.Serve(first) })
	for {
		raw, err := l.Accept()
		if err != nil {
			break
		}
		c := &Conn{Conn: raw, raw: raw, server: s, over: make(chan struct{}), writing: make(chan struct{}, 1), last: time.Now()}
		if !s.add(c) {
			_ = raw.Close()
			break
		}
		open.Go(func() { s.connect(c, first) })
	}
	_ = first.Close()
	open.Wait()
}

// connect serves a new connection in the protocol that the client chooses.
func (s *Server) connect(c *Conn, first *delivered) {
	if s.o.Plain {
		first.deliver(c)
		return
	}
	secured := tls.Server(c.raw, s.tls)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	err := secured.HandshakeContext(ctx)
	cancel()
	if err != nil {
		_ = c.Close()
		return
	}
	c.Conn = secured
	c.frames = secured.ConnectionState().NegotiatedProtocol == "h2"
	first.deliver(c)
}

func (s *Server) add(c *Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = true
	return !s.closed
}

// Drain lets answers in progress go on, and makes clients open new connections for further
// requests.
func (s *Server) Drain() {
	s.http.SetKeepAlivesEnabled(false)
	for _, c := range s.open() {
		c.GoAway(0)
	}
}

// Resume ends the effect of Drain.
func (s *Server) Resume() { s.http.SetKeepAlivesEnabled(true) }

// Close closes all connections. The listeners are closed by those who opened them.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	for _, c := range s.open() {
		_ = c.Close()
	}
	_ = s.http.Close()
}

func (s *Server) open() []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*Conn
	for c := range s.conns {
		list = append(list, c)
	}
	return list
}

// delivered is a listener of connections that were accepted elsewhere.
type delivered struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
	addr  net.Addr
}

func (h *delivered) deliver(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.done:
		_ = c.Close()
	}
}

// Accept implements net.Listener.
func (h *delivered) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *delivered) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

// Addr implements net.Listener.
func (h *delivered) Addr() net.Addr { return h.addr }

var errStalled = errors.New("wire: the connection transfers nothing any more")
