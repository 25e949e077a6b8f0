package funchost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"aoaigateway/handler/devstack/kestrel"
)

// invocation is a request on its way to the handler.
type invocation struct {
	ctx      context.Context
	x        *kestrel.Exchange
	addr     string
	header   kestrel.Fields
	body     []byte // of a request with a length
	chunked  bool
	consumed bool // the body was sent, which can be done once
	idle     *time.Timer
	limit    time.Duration // of idle
}

func (h *Host) newInvocation(ctx context.Context, x *kestrel.Exchange, addr string, body []byte) *invocation {
	return &invocation{
		ctx: ctx, x: x, addr: addr, body: body, chunked: x.Length < 0, limit: h.o.Idle,
		header: h.requestHeader(x, addr, uuid.NewString()),
	}
}

func (i *invocation) alive() { i.idle.Reset(i.limit) }

var (
	errIdle     = errors.New("no byte in either direction for the activity timeout")
	errConsumed = errors.New("the body was sent already and cannot be sent again")
	errNotASCII = errors.New("request headers must contain only ASCII characters")
)

const tries = 10

// forward sends a request and reads the head of the answer. Whatever fails is tried again: ten
// tries, 50, 100, 200 and then 250 ms apart, 1.85 s in all. A request whose body was sent is
// not sent again, but its tries take the same time.
func (h *Host) forward(i *invocation) (*answer, error) {
	for attempt, wait := 1, 50*time.Millisecond; ; attempt++ {
		a, err := h.try(i)
		if err == nil {
			return a, nil
		}
		if errors.Is(err, kestrel.ErrSlow) || errors.Is(err, kestrel.ErrTooLarge) || attempt == tries {
			return nil, err
		}
		select {
		case <-time.After(wait):
		case <-i.ctx.Done():
			return nil, i.ctx.Err()
		case <-h.ctx.Done():
			return nil, errStopped
		}
		wait = min(2*wait, 250*time.Millisecond)
	}
}

func (h *Host) try(i *invocation) (*answer, error) {
	switch {
	case !isASCII(i.header):
		return nil, errNotASCII
	case i.consumed:
		return nil, errConsumed
	}
	c, err := h.pool.get(i.ctx, i.addr)
	if err != nil {
		return nil, err
	}
	a := &answer{c: c, pool: h.pool, unwatch: context.AfterFunc(i.ctx, c.close)}
	if err := i.exchange(a); err != nil {
		a.close(false)
		return nil, err
	}
	return a, nil
}

// exchange sends the request to its end and then reads the head of the answer. An answer that
// comes earlier is looked at only if the caller expects 100 Continue.
func (i *invocation) exchange(a *answer) error {
	c := a.c
	_, _ = fmt.Fprintf(c.w, "%s %s HTTP/1.1\r\n", i.x.Method, kestrel.EncodePath(i.x.Path)+kestrel.EncodeQuery(i.x.Query))
	for _, f := range i.header {
		_, _ = c.w.WriteString(f.Name + ": " + f.Value + "\r\n")
	}
	_, _ = c.w.WriteString("\r\n")
	if strings.EqualFold(i.x.Header.Get("Expect"), "100-continue") && (i.chunked || len(i.body) > 0) {
		if early, err := i.awaitContinue(a); early || err != nil {
			return err
		}
	}
	if err := i.send(c); err != nil {
		return fmt.Errorf("sending the body: %w", err)
	}
	for a.Response == nil || a.StatusCode == http.StatusContinue || a.StatusCode == http.StatusEarlyHints {
		if err := i.readHead(a); err != nil {
			return err
		}
	}
	return nil
}

// awaitContinue waits up to a second for 100 Continue. An error that comes instead is the answer, and the body is not sent.
func (i *invocation) awaitContinue(a *answer) (early bool, err error) {
	if err := a.c.w.Flush(); err != nil {
		return false, err
	}
	_ = a.c.SetReadDeadline(time.Now().Add(time.Second))
	_, err = a.c.r.Peek(1)
	_ = a.c.SetReadDeadline(time.Time{})
	if err != nil { // silence; if the connection is broken, sending will tell
		return false, nil
	}
	if err := i.readHead(a); err != nil {
		return false, err
	}
	early = a.StatusCode >= 300
	a.Close = a.Close || early
	return early, nil
}

func (i *invocation) readHead(a *answer) error {
	resp, err := http.ReadResponse(a.c.r, &http.Request{Method: i.x.Method}) //nolint:bodyclose // answer.close closes its connection
	if err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	i.alive()
	a.Response = resp
	return nil
}

func (i *invocation) send(c *conn) error {
	if !i.chunked {
		i.consumed = len(i.body) > 0
		_, _ = c.w.Write(i.body)
		return c.w.Flush()
	}
	i.consumed = true
	for part := make([]byte, 64<<10); ; {
		n, err := i.x.Body().Read(part)
		if n > 0 {
			i.alive()
			_, _ = fmt.Fprintf(c.w, "%x\r\n", n)
			_, _ = c.w.Write(part[:n])
			_, _ = c.w.WriteString("\r\n")
		}
		if errors.Is(err, io.EOF) {
			_, _ = c.w.WriteString("0\r\n\r\n")
			return c.w.Flush()
		}
		if ferr := c.w.Flush(); ferr != nil {
			return ferr
		}
		if err != nil {
			return err
		}
	}
}

// answer is a handler's answer on its connection.
type answer struct {
	*http.Response
	c       *conn
	pool    *pool
	unwatch func() bool
}

// close gives the connection back if the answer was read to its end.
func (a *answer) close(whole bool) {
	if canceled := !a.unwatch(); canceled || !whole || a.Close || a.c.r.Buffered() > 0 {
		a.c.close()
		return
	}
	a.pool.put(a.c)
}

// afterIdle cancels when no byte moved for the activity timeout.
func (h *Host) afterIdle(cancel context.CancelCauseFunc) *time.Timer {
	return time.AfterFunc(h.o.Idle, func() { cancel(errIdle) })
}
