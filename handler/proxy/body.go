package proxy

import (
	"errors"
	"io"
	"net/http"

	"aoaigateway/handler/gateway"
)

// readBody reads a request's body whole, because failover needs it again. A body that is
// announced too long is refused unread.
func readBody(r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	if r.Body == nil || r.ContentLength == 0 {
		return nil, nil
	}
	body, err := readAll(io.LimitReader(r.Body, limit+1), r.ContentLength)
	if _, ours := errors.AsType[*gateway.Error](err); ours { // the body paused for too long
		return nil, err
	}
	switch {
	case err != nil:
		return nil, gateway.BodyBroken.New("The request body broke off after %d bytes. Send the request again.", len(body)).WithCause(err)
	case int64(len(body)) > limit:
		return nil, tooLarge(limit)
	}
	return body, nil
}

// readAll is io.ReadAll for bodies whose announced length is known, or -1. The buffer is
// never larger than announced, and grows to four times what has arrived at most.
func readAll(r io.Reader, announced int64) ([]byte, error) {
	const first = 1 << 20
	size := int64(first)
	if announced >= 0 {
		size = min(announced+1, first) // one more byte, so that the end is found
	}
	body := make([]byte, 0, size)
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
		size = 4 * int64(cap(body))
		if announced >= int64(len(body)) {
			size = min(size, announced+1)
		}
		body = append(make([]byte, 0, size), body...)
	}
}

func tooLarge(limit int64) error {
	return gateway.RequestEntityTooLarge.New("The request body is longer than %d bytes, the most this gateway takes.", limit)
}
