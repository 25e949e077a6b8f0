package backend

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// wholeBody is the size, in bytes, up to which the body of an answer is read whole before
// the commit point.
const wholeBody = 1 << 20

// commit reads up to the commit point. In streams the first-byte timeout lasts until the
// first event that is no comment; in other answers it ends with the response header.
func (a *Answer) commit(resp *http.Response, firstByte *firstByteTimer, limitIdle func()) failure {
	if resp.StatusCode < http.StatusOK {
		return failure{reason: "bad-status", err: fmt.Errorf("backend: the region answered with the informational status %d", resp.StatusCode)}
	}
	body, err := plainBody(resp)
	if err != nil {
		return failure{reason: "bad-encoding", err: err}
	}
	if a.Succeeded() && isEventStream(resp.Header) {
		return a.commitStream(body, func() { limitIdle(); firstByte.stop() })
	}
	if limitIdle(); a.Succeeded() {
		firstByte.stop()
	}
	var whole bytes.Buffer
	whole.Grow(int(min(max(resp.ContentLength, 0), wholeBody)) + bytes.MinRead)
	if _, err := whole.ReadFrom(io.LimitReader(body, wholeBody+1)); err != nil {
		return failure{reason: "broken-body", err: err}
	}
	a.Whole = whole.Bytes()
	if whole.Len() > wholeBody {
		a.Rest = body
		return failure{}
	}
	a.Close()
	return failure{}
}

func isEventStream(h http.Header) bool {
	kind, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(kind), "text/event-stream")
}

// plainBody returns the body without compression. A region may send gzip although the
// gateway never asks for it.
func plainBody(resp *http.Response) (io.Reader, error) {
	if !strings.EqualFold(resp.Header.Get("Content-Encoding"), "gzip") {
		return resp.Body, nil
	}
	z, err := gzip.NewReader(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("backend: the region's answer is not valid gzip: %w", noEOF(err))
	}
	resp.Header.Del("Content-Encoding")
	resp.Header.Del("Content-Length")
	return z, nil
}

// noEOF replaces io.EOF by io.ErrUnexpectedEOF, so that no caller takes an early end for
// success.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
