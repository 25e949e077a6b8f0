// Package body holds the body of a request while the gateway serves the request.
package body

import (
	"errors"
	"io"
	"net/http"

	"aoaigateway/handler/gateway"
)

// Read reads the whole body of a request, because a further attempt at another region
// needs it again.
func Read(r *http.Request, limit int64) ([]byte, error) {
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
		return nil, TooLarge(limit)
	}
	return body, nil
}

// readAll works as io.ReadAll. announced is the body's Content-Length, -1 = unknown. The
// buffer is never larger than announced, and never larger than four times the bytes that
// have arrived.
func readAll(r io.Reader, announced int64) ([]byte, error) {
	const first = 1 << 20
	size := int64(first)
	if announced >= 0 {
		size = min(announced+1, first) // one byte more than announced, so that Read can report the end without another buffer
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

// TooLarge is the error for a body that is longer than limit.
func TooLarge(limit int64) error {
	return gateway.RequestEntityTooLarge.New("The request body is longer than %d bytes, the most that the gateway accepts.", limit)
}
