package wire

import (
	"context"
	"encoding/binary"
	"net"
	"sync"
	"time"
)

// Conn is one connection of a client.
type Conn struct {
	net.Conn

	raw    net.Conn // below TLS
	server *Server
	frames bool // HTTP/2
	over   chan struct{}
	once   sync.Once

	writing chan struct{} // has an element while a frame is written; a mutex would stop virtual time
	held    []byte        // the beginning of a frame that is not complete yet

	mu      sync.Mutex
	stalled bool
	last    time.Time // of the last transfer
	codes   []uint32  // of the next RST_STREAM frames
}

type connKey struct{}

// Of returns the connection of a request, nil if the request did not come through a Server.
func Of(ctx context.Context) *Conn {
	c, _ := ctx.Value(connKey{}).(*Conn)
	return c
}

// HTTP2 reports whether requests share the connection.
func (c *Conn) HTTP2() bool { return c.frames }

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	idle := c.server.o.Idle > 0 && time.Since(c.last) > c.server.o.Idle
	c.last = time.Now()
	if idle && !c.server.o.IdleReset {
		c.stalled = true
	}
	stalled := c.stalled
	c.mu.Unlock()
	switch {
	case err != nil:
		return n, err
	case idle && c.server.o.IdleReset:
		c.Reset()
		return 0, net.ErrClosed
	case stalled:
		for err == nil { // the network takes what the client sends, but nobody answers
			_, err = c.Conn.Read(p)
		}
		<-c.over
		return 0, errStalled
	}
	return n, nil
}

// Write implements net.Conn. Over HTTP/2 it passes on whole frames only, so that a frame can
// be inserted between two others.
func (c *Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.last = time.Now()
	stalled := c.stalled
	c.mu.Unlock()
	if stalled {
		<-c.over
		return 0, errStalled
	}
	c.writing <- struct{}{}
	defer func() { <-c.writing }()
	if !c.frames {
		return c.Conn.Write(p)
	}
	c.held = append(c.held, p...)
	n := c.whole()
	if n == 0 {
		return len(p), nil
	}
	_, err := c.Conn.Write(c.held[:n])
	c.held = append(c.held[:0], c.held[n:]...)
	return len(p), err
}

// Sizes and types of frames (RFC 9113, section 6).
const (
	frameHead      = 9
	frameRSTStream = 3
	frameGoAway    = 7
)

// whole returns how many of the held bytes are whole frames. It gives RST_STREAM frames
// their codes.
func (c *Conn) whole() (n int) {
	for len(c.held) >= n+frameHead {
		head := c.held[n:]
		size := frameHead + int(head[0])<<16 + int(head[1])<<8 + int(head[2])
		if len(head) < size {
			break
		}
		if head[3] == frameRSTStream {
			c.setCode(head[frameHead:])
		}
		n += size
	}
	return n
}

func (c *Conn) setCode(frame []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.codes) > 0 {
		binary.BigEndian.PutUint32(frame, c.codes[0])
		c.codes = c.codes[1:]
	}
}

// NextRST sets the code of the next RST_STREAM frame.
func (c *Conn) NextRST(code int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.codes = append(c.codes, uint32(code))
}

// GoAway tells the client that the connection takes no further streams. Streams that are
// open go on. Over HTTP/1.1 it does nothing.
func (c *Conn) GoAway(code int) {
	c.mu.Lock()
	stalled := c.stalled
	c.mu.Unlock()
	if !c.frames || stalled {
		return
	}
	c.writing <- struct{}{}
	defer func() { <-c.writing }()
	frame := []byte{0, 0, 8, frameGoAway, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff}
	frame = binary.BigEndian.AppendUint32(frame, uint32(code))
	_, _ = c.Conn.Write(frame)
}

// Stall makes the connection silent in both directions until it is closed.
func (c *Conn) Stall() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stalled = true
}

// Reset closes the connection with a TCP reset.
func (c *Conn) Reset() {
	if tcp, ok := c.raw.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.close(c.raw)
}

// Close implements net.Conn.
func (c *Conn) Close() error { return c.close(c.Conn) }

// close closes the connection below TLS if it is stalled, because TLS would try to say
// goodbye.
func (c *Conn) close(conn net.Conn) error {
	c.mu.Lock()
	if c.stalled {
		conn = c.raw
	}
	c.mu.Unlock()
	c.once.Do(func() {
		close(c.over)
		c.server.mu.Lock()
		delete(c.server.conns, c)
		c.server.mu.Unlock()
	})
	return conn.Close()
}
