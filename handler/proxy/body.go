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

// bodyPace is how long a client may stay silent in the middle of its body.
const bodyPace = 60 * time.Second

// readBody reads a request's body whole: failover needs it again. A body that is
// announced too long is refused unread.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
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
	control := http.NewResponseController(w)
	src := &paced{r.Body, control}
	_, err := buf.ReadFrom(io.LimitReader(src, limit+1))
	_ = control.SetReadDeadline(time.Time{})
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, &gateway.Error{Kind: gateway.BodyIncomplete, Reason: "ClientConnectionFailure", Message: fmt.Sprintf("The request body stopped for %d seconds. Send it without pauses.", int(bodyPace.Seconds())), Err: err}
	case err != nil:
		return nil, &gateway.Error{Kind: gateway.BodyIncomplete, Reason: "ClientConnectionFailure", Message: fmt.Sprintf("The request body ended after %d bytes, before its announced end.", buf.Len()), Err: err}
	case int64(buf.Len()) > limit:
		return nil, tooLarge(limit)
	}
	return buf.Bytes(), nil
}

func tooLarge(limit int64) error {
	return &gateway.Error{Kind: gateway.TooLarge, Code: "RequestEntityTooLarge", Message: fmt.Sprintf("The request body is longer than %d bytes, the most this gateway takes.", limit)}
}

type paced struct {
	io.Reader
	control *http.ResponseController
}

func (p *paced) Read(b []byte) (int, error) {
	_ = p.control.SetReadDeadline(time.Now().Add(bodyPace))
	return p.Reader.Read(b)
}
