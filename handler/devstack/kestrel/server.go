// Package kestrel is the HTTP/1.1 server of the Functions host, as its callers meet it: the
// limits of a request's head, the least rate of an upload, the way it decodes a path, refusals
// without a body, and connections that are reset when an answer breaks off. The server of
// net/http accepts more and explains its refusals, so it cannot stand in for this one.
package kestrel

import (
	"bufio"
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// Server serves one listener. Its fields are set before Serve.
type Server struct {
	Handler   func(*Exchange)
	BodyLimit int64 // of a chunked body; the handler checks a length that is stated

	mu       sync.Mutex
	listener net.Listener
	conns    map[*net.TCPConn]bool
	closed   bool
	serving  sync.WaitGroup
}

const (
	leastRate = 240             // bytes per second of an upload
	grace     = 5 * time.Second // in which it may be slower
	keptAlive = 130 * time.Second
)

// Serve accepts connections until Close.
func (s *Server) Serve(l net.Listener) {
	s.mu.Lock()
	s.listener = l
	s.conns = map[*net.TCPConn]bool{}
	closed := s.closed
	s.mu.Unlock()
	if closed {
		_ = l.Close()
		return
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		if tcp, ok := c.(*net.TCPConn); ok && s.add(tcp) {
			s.serving.Go(func() {
				defer s.remove(tcp)
				s.serve(tcp)
			})
		}
	}
}

func (s *Server) add(c *net.TCPConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		reset(c)
		return false
	}
	s.conns[c] = true
	return true
}

func (s *Server) remove(c *net.TCPConn) {
	_ = c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// Close resets every connection and returns when no handler runs any more.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	if s.listener != nil {
		_ = s.listener.Close()
	}
	s.mu.Unlock()
	s.ResetAll()
	s.serving.Wait()
}

// ResetAll resets every connection. The server goes on accepting new ones.
func (s *Server) ResetAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		reset(c)
	}
}

// reset closes a connection by RST. What was sent and not yet received is lost.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

// serve answers the requests of one connection, one after the other.
func (s *Server) serve(c *net.TCPConn) {
	r, w := bufio.NewReaderSize(c, maxHeaders+2), bufio.NewWriterSize(c, 4<<10)
	for {
		_ = c.SetReadDeadline(time.Now().Add(keptAlive))
		if _, err := r.Peek(1); err != nil {
			return
		}
		head, err := readHead(r)
		ctx, cancel := context.WithCancelCause(context.Background())
		x := &Exchange{Head: head, server: s, conn: c, r: r, w: w, ctx: ctx, cancel: cancel}
		if status, ok := errors.AsType[refusal](err); ok {
			x.body.done = true
			x.Empty(int(status), true)
			x.closeGently()
		}
		if err != nil {
			cancel(nil)
			return
		}
		again := x.run()
		cancel(nil)
		if !again {
			return
		}
	}
}
