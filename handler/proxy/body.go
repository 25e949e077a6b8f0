package proxy

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"aoaigateway/handler/gateway"
)

// readBody reads a request's body whole: failover needs it again. A body that is
// announced too long is refused unread.
func (s *session) readBody() ([]byte, error) {
	r, limit, pace := s.R, s.options.MaxBody, s.options.ClientIdleTimeout
	if r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	if r.Body == nil || r.ContentLength == 0 {
		return nil, nil
	}
	control := http.NewResponseController(s.W)
	src := &paced{Reader: r.Body, control: control, pace: pace}
	body, err := readAll(io.LimitReader(src, limit+1), r.ContentLength)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, gateway.BodyBroken.New("The request body stopped for %v. Send it without pauses.", pace).WithCause(err)
	case err != nil:
		return nil, gateway.BodyBroken.New("The request body ended after %d bytes, before its announced end.", len(body)).WithCause(err)
	case int64(len(body)) > limit:
		return nil, tooLarge(limit)
	}
	_ = control.SetReadDeadline(time.Time{}) // after a failure it stays: net/http would read on
	return body, nil
}

// readAll is io.ReadAll for bodies whose length is announced, or -1: what it returns is no
// longer than that, and it takes four times what has come in advance, never more.
func readAll(r io.Reader, announced int64) ([]byte, error) {
	const first = 1 << 20
	room := int64(first)
	if announced >= 0 {
		room = min(announced+1, first) // the one is for the end to be found
	}
	body := make([]byte, 0, room)
	for {
		n, err := r.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case errors.Is(err, io.EOF):
			return body, nil
		case err != nil:
			return body, err
		case len(body) < cap(body):
			continue
		}
		room = 4 * int64(cap(body))
		if announced >= int64(len(body)) {
			room = min(room, announced+1)
		}
		body = append(make([]byte, 0, room), body...)
	}
}

func tooLarge(limit int64) error {
	return gateway.RequestEntityTooLarge.New("The request body is longer than %d bytes, the most this gateway takes.", limit)
}

// paced moves the read deadline on while bytes come; not at each read, for it costs as
// much as a small one.
type paced struct {
	io.Reader
	control *http.ResponseController
	pace    time.Duration
	renew   time.Time
}

func (p *paced) Read(b []byte) (int, error) {
	if now := time.Now(); now.After(p.renew) {
		_ = p.control.SetReadDeadline(now.Add(p.pace))
		p.renew = now.Add(p.pace / 8)
	}
	return p.Reader.Read(b)
}
