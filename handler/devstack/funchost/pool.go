package funchost

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// conn is a connection to the handler.
type conn struct {
	net.Conn
	r       *bufio.Reader
	w       *bufio.Writer
	addr    string
	since   time.Time     // when it became idle
	watched chan struct{} // while idle: closed when nobody reads it any more
	idleErr error         // what ended the watch
}

func (c *conn) close() { _ = c.Close() }

// pool keeps idle connections. One that the handler closes meanwhile is taken out.
type pool struct {
	mu   sync.Mutex
	idle []*conn
	done bool
}

const keptIdle = time.Minute

func (p *pool) get(ctx context.Context, addr string) (*conn, error) {
	for {
		c := p.take(addr)
		if c == nil {
			break
		}
		_ = c.SetReadDeadline(time.Unix(1, 0)) // wakes the watcher
		<-c.watched
		if c.usable() {
			return c, nil
		}
	}
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: nc, addr: addr, r: bufio.NewReader(nc), w: bufio.NewWriterSize(nc, 64<<10)}, nil
}

// usable says whether a connection that was idle is still open and silent.
func (c *conn) usable() bool {
	n, ok := errors.AsType[net.Error](c.idleErr)
	return ok && n.Timeout() && time.Since(c.since) < keptIdle && c.SetReadDeadline(time.Time{}) == nil
}

// watch reads an idle connection, on which nothing may come.
func (c *conn) watch() {
	defer close(c.watched)
	if _, c.idleErr = c.r.Peek(1); !errors.Is(c.idleErr, os.ErrDeadlineExceeded) || time.Since(c.since) >= keptIdle {
		c.close()
	}
}

func (p *pool) take(addr string) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.idle) > 0 {
		c := p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		if c.addr == addr {
			return c
		}
		c.close()
	}
	return nil
}

func (p *pool) put(c *conn) {
	c.watched, c.since = make(chan struct{}), time.Now()
	_ = c.SetReadDeadline(c.since.Add(keptIdle))
	go c.watch()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done {
		c.close()
		return
	}
	p.idle = append(p.idle, c)
}

func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = true
	for _, c := range p.idle {
		c.close()
	}
	p.idle = nil
}
