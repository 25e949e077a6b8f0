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
	"time"
)

// contact is what a failed attempt must know of its connection. The transport may tell
// more after it has given up.
type connTrace struct {
	since     time.Time
	reused    atomic.Bool
	firstByte atomic.Bool // a byte of the answer came
}

// traced has the transport tell.
func (c *connTrace) attach(req *http.Request) *http.Request {
	return req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GotConn:              func(i httptrace.GotConnInfo) { c.reused.Store(i.Reused) },
		GotFirstResponseByte: func() { c.firstByte.Store(true) },
	}))
}

// staleTime is how soon a region hangs up that closed an idle connection just as we used
// it; one that breaks down at work takes longer, or resets.
const staleTime = time.Second

func (c *connTrace) stale(err error) bool {
	closed := errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE) || strings.Contains(err.Error(), "server closed idle connection")
	return closed && c.reused.Load() && !c.firstByte.Load() && time.Since(c.since) < staleTime
}

func transportFailure(ctx context.Context, c *connTrace, err error) failure {
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
	if text := err.Error(); strings.Contains(text, "tls: ") || strings.Contains(text, "x509: ") || strings.Contains(text, "TLS handshake timeout") {
		return failure{outcome: notConnected, reason: "tls-failed", err: err}
	}
	if c.stale(err) {
		return failure{outcome: stale, reason: "stale-connection", err: err}
	}
	return failure{outcome: broken, reason: "reset", err: err}
}
