package kestrel

import (
	"errors"
	"io"
	"net"
	"net/http/httputil"
	"time"
)

// Errors of reading a request's body.
var (
	ErrSlow     = errors.New("the upload is slower than 240 bytes per second")
	errBadChunk = errors.New("the chunked encoding is malformed")
	ErrTooLarge = errors.New("the body is larger than the limit")
)

// body reads the request's body from the connection.
type body struct {
	x      *Exchange
	chunks io.Reader // nil when the length is known
	left   int64
	got    int64
	waited time.Duration // time spent waiting for the caller
	asked  bool          // a caller that expects 100 Continue got it
	done   bool
	err    error
}

func (b *body) open(x *Exchange) {
	b.x, b.left = x, x.Length
	if x.Length < 0 {
		b.chunks = httputil.NewChunkedReader(x.r)
	}
	b.asked = !hasItem(x.Header.Get("Expect"), "100-continue")
	if x.Length == 0 {
		b.finish()
	}
}

func (b *body) finish() {
	b.done = true
	b.x.watch()
}

func (b *body) Read(p []byte) (n int, err error) {
	if b.done {
		return 0, io.EOF
	}
	if b.err != nil {
		return 0, b.err
	}
	if !b.asked {
		b.asked = true
		_, _ = b.x.w.WriteString("HTTP/1.1 100 Continue\r\n\r\n")
		_ = b.x.w.Flush()
	}
	began := time.Now()
	allowed := max(grace, time.Duration(b.got)*time.Second/leastRate)
	_ = b.x.conn.SetReadDeadline(began.Add(allowed - b.waited))
	n, err = b.read(p)
	b.waited += time.Since(began)
	if b.got += int64(n); b.chunks != nil && b.got > b.x.server.BodyLimit {
		err = ErrTooLarge
	}
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = b.cause(err)
		return n, b.err
	}
	return n, err
}

// drain reads what the handler left of the body, so that the next request can follow. It
// fails for a body that the caller was not asked for, and for one that takes too long.
func (b *body) drain() bool {
	for start, part := time.Now(), make([]byte, 4<<10); b.asked && !b.done && b.err == nil && time.Since(start) < grace; {
		_, _ = b.Read(part)
	}
	return b.done
}

func (b *body) read(p []byte) (n int, err error) {
	if b.chunks == nil {
		n, err = b.x.r.Read(p[:min(int64(len(p)), b.left)])
		if b.left -= int64(n); b.left == 0 {
			b.finish()
			return n, nil
		}
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return n, err
	}
	n, err = b.chunks.Read(p)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	for { // trailers, which are dropped
		line, lineErr := readLine(b.x.r, maxHeaders, 0)
		if lineErr != nil {
			return n, lineErr
		}
		if line == "" {
			b.finish()
			return n, io.EOF
		}
	}
}

func (b *body) cause(err error) error {
	_, fromNetwork := errors.AsType[net.Error](err)
	switch {
	case errors.Is(err, ErrTooLarge):
		return ErrTooLarge
	case isTimeout(err):
		return ErrSlow
	case fromNetwork, errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		b.x.cancel(errGone)
		return errGone
	}
	return errBadChunk
}
