package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"aoaigateway/handler/gateway"
)

// readBody reads a request's body whole: failover needs it again. A body that is
// announced too long is refused unread.
func (s *session) readBody() ([]byte, error) {
	r, limit, pace := s.R, s.options.MaxBody, s.options.ClientPace
	if r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	if r.Body == nil || r.ContentLength == 0 {
		return nil, nil
	}
	var buf bytes.Buffer
	if r.ContentLength > 0 {
		buf.Grow(int(min(r.ContentLength, 1<<20)) + bytes.MinRead)
	}
	control := http.NewResponseController(s.W)
	src := &paced{Reader: r.Body, control: control, pace: pace}
	_, err := buf.ReadFrom(io.LimitReader(src, limit+1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, &gateway.Error{Kind: gateway.BodyIncomplete, Reason: "ClientConnectionFailure", Message: fmt.Sprintf("The request body stopped for %v. Send it without pauses.", pace), Err: err}
	case err != nil:
		return nil, &gateway.Error{Kind: gateway.BodyIncomplete, Reason: "ClientConnectionFailure", Message: fmt.Sprintf("The request body ended after %d bytes, before its announced end.", buf.Len()), Err: err}
	case int64(buf.Len()) > limit:
		return nil, tooLarge(limit)
	}
	_ = control.SetReadDeadline(time.Time{}) // after a failure it stays: net/http would read on
	return buf.Bytes(), nil
}

func tooLarge(limit int64) error {
	return &gateway.Error{Kind: gateway.TooLarge, Code: "RequestEntityTooLarge", Message: fmt.Sprintf("The request body is longer than %d bytes, the most this gateway takes.", limit)}
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
