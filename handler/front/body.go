package front

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/idle"
)

// Limits on draining, that is on reading the rest of a body that the gateway does not need.
const (
	drainSize = 128 << 20
	drainIdle = 5 * time.Second
	drainTime = 2 * time.Minute
)

// clientBody is the body of a request. Its Read fails when the client sends nothing for the
// idle timeout.
type clientBody struct {
	io.ReadCloser

	control  *http.ResponseController
	deadline idle.Deadline
	limit    time.Duration
	waits    bool // the client waits for "100 Continue" before it sends the body (Expect: 100-continue)
	ended    bool // the body was read to its end, or reading failed
}

// newClientBody replaces the body of r by a clientBody.
func newClientBody(r *http.Request, control *http.ResponseController, idleTimeout time.Duration) *clientBody {
	b := &clientBody{
		ReadCloser: r.Body, control: control, deadline: idle.NewDeadline(idleTimeout, control.SetReadDeadline), limit: idleTimeout,
		waits: r.Header.Get("Expect") != "", ended: r.Body == nil || r.Body == http.NoBody,
	}
	if !b.ended {
		r.Body = b
	}
	return b
}

// Read implements io.Reader. At the end of the body it clears the read deadline, which
// would otherwise cancel the request's context later. After a failure the deadline stays,
// so that net/http does not read the rest of the body.
func (b *clientBody) Read(p []byte) (int, error) {
	b.waits = false
	b.deadline.Extend()
	n, err := b.ReadCloser.Read(p)
	b.ended = err != nil
	switch {
	case errors.Is(err, io.EOF):
		b.deadline.Clear()
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = gateway.BodyBroken.New("The request body paused for %v. Send it without pauses.", b.limit).WithCause(err)
	}
	return n, err
}

// unread reports whether the client sends, or has sent, bytes of the body that were not read.
func (b *clientBody) unread() bool { return !b.ended && !b.waits }

// drain reads the rest of the body and discards it. The Functions host sends the whole body
// before it reads the answer; if the connection closes earlier, the host loses the answer.
func (b *clientBody) drain() {
	if !b.unread() {
		return
	}
	b.deadline, b.limit = idle.NewDeadline(drainIdle, b.control.SetReadDeadline), drainIdle
	buf := make([]byte, 32<<10)
	for n, start := 0, time.Now(); !b.ended && n < drainSize && time.Since(start) < drainTime; {
		m, _ := b.Read(buf) // after an error b.ended is true, which ends the loop
		n += m
	}
}
