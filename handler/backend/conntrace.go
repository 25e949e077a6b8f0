package backend

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"syscall"
)

// connTrace records how far a request got on its connection. The transport may still update
// it after the attempt has ended.
type connTrace struct {
	reused    atomic.Bool
	firstByte atomic.Bool // the first byte of the answer arrived
	conn      atomic.Pointer[net.Conn]
}

// connection identifies the connection whose end err reports. It is empty if there was none,
// or if the region ended only one HTTP/2 stream of it.
func (t *connTrace) connection(err error) string {
	streamOnly := strings.Contains(err.Error(), "stream error: stream ID") // the error's type is not exported
	if c := t.conn.Load(); c != nil && !streamOnly {
		return (*c).LocalAddr().String() + " > " + (*c).RemoteAddr().String()
	}
	return ""
}

// attach returns a copy of req whose context has the trace.
func (t *connTrace) attach(req *http.Request) *http.Request {
	return req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GotConn:              func(i httptrace.GotConnInfo) { t.reused.Store(i.Reused); t.conn.Store(&i.Conn) },
		GotFirstResponseByte: func() { t.firstByte.Store(true) },
	}))
}

// stale reports whether a kept connection broke before any byte of an answer came. Usually
// the region, or something before it, had closed the connection while it was idle.
func (t *connTrace) stale(err error) bool {
	closed := errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) ||
		strings.Contains(err.Error(), "server closed idle connection")
	return closed && t.reused.Load() && !t.firstByte.Load()
}

func transportFailure(ctx context.Context, t *connTrace, err error) failure {
	if errors.Is(context.Cause(ctx), errFirstByte) {
		return failure{outcome: firstByteTimeout, reason: "first-byte-timeout", err: errFirstByte}
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		reason := "connect-failed"
		if op.Timeout() {
			reason = "connect-timeout"
		}
		return failure{outcome: notConnected, reason: reason, err: err}
	}
	if isTLSFailure(err) {
		return failure{outcome: notConnected, reason: "tls-failed", err: err}
	}
	if t.stale(err) {
		return failure{outcome: stale, reason: "stale-connection", err: err}
	}
	return failure{outcome: broken, reason: "reset", err: err, connection: t.connection(err)}
}

func isTLSFailure(err error) bool {
	text := err.Error()
	return strings.Contains(text, "tls: ") || strings.Contains(text, "x509: ") || strings.Contains(text, "TLS handshake timeout")
}
