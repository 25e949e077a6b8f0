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

// The rest of a body that the gateway does not want is read within these limits.
const (
	drainSize = 128 << 20
	drainIdle = 5 * time.Second
	drainTime = 2 * time.Minute
)

// clientBody is a request's body. It gives up a client that sends nothing for the idle
// timeout.
type clientBody struct {
	io.ReadCloser

	control  *http.ResponseController
	deadline idle.Deadline
	limit    time.Duration
	waits    bool // the client sends nothing before it is asked to (Expect: 100-continue)
	ended    bool // at its end, or broken
}

// newClientBody takes the place of the body of r.
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

// Read implements io.Reader. At the end of the body the deadline must go, because it would
// end the request's context later. After a failure it stays: net/http would read on.
func (b *clientBody) Read(p []byte) (int, error) {
	b.waits = false
	b.deadline.Extend()
	n, err := b.ReadCloser.Read(p)
	b.ended = err != nil
	switch {
	case errors.Is(err, io.EOF):
		b.deadline.Clear()
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = gateway.BodyBroken.New("The request body stopped for %v. Send it without pauses.", b.limit).WithCause(err)
	}
	return n, err
}

// drain reads the rest of the body and throws it away. The Functions host sends a body to
// its end before it reads the answer, and loses an answer whose connection closes earlier.
func (b *clientBody) drain() {
	if b.ended || b.waits {
		return
	}
	b.deadline, b.limit = idle.NewDeadline(drainIdle, b.control.SetReadDeadline), drainIdle
	buf := make([]byte, 32<<10)
	for n, start := 0, time.Now(); !b.ended && n < drainSize && time.Since(start) < drainTime; {
		m, _ := b.Read(buf) // an error ends the body
		n += m
	}
}
