package kestrel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Exchange is one request and its answer.
type Exchange struct {
	Head

	server *Server
	conn   *net.TCPConn
	r      *bufio.Reader
	w      *bufio.Writer
	ctx    context.Context
	cancel context.CancelCauseFunc

	body    body
	watched chan struct{} // closed when nobody reads the connection any more

	started, ended, closes bool
	plain, chunked         bool // the answer's body is written as it is, or in chunks
}

// errGone is the cause of a context whose caller has left. A caller that closes its half of
// the connection counts as one that left.
var errGone = errors.New("the caller has left")

// Context ends when the caller leaves.
func (x *Exchange) Context() context.Context { return x.ctx }

// Peer is the caller's address.
func (x *Exchange) Peer() net.Addr { return x.conn.RemoteAddr() }

// Body is the request's body.
func (x *Exchange) Body() io.Reader { return &x.body }

// Started tells whether an answer has begun.
func (x *Exchange) Started() bool { return x.started }

// run lets the handler answer and says whether the connection can be used again.
func (x *Exchange) run() bool {
	x.body.open(x)
	x.server.Handler(x)
	x.closes = x.closes || x.ended && !x.body.drain()
	x.unwatch()
	if x.ctx.Err() != nil {
		return false
	}
	if !x.ended {
		x.Abort()
		return false
	}
	if x.closes {
		x.closeGently()
	}
	return !x.closes
}

// watch notices that the caller leaves. It runs from the end of the body to the end of the answer.
func (x *Exchange) watch() {
	_ = x.conn.SetReadDeadline(time.Time{})
	x.watched = make(chan struct{})
	go func() {
		defer close(x.watched)
		if _, err := x.r.Peek(1); err != nil && !isTimeout(err) {
			x.cancel(errGone)
		}
	}()
}

func (x *Exchange) unwatch() {
	if x.watched != nil {
		_ = x.conn.SetReadDeadline(time.Unix(1, 0))
		<-x.watched
	}
}

func isTimeout(err error) bool {
	n, ok := errors.AsType[net.Error](err)
	return ok && n.Timeout()
}

// closeGently lets a caller that is still sending read the answer first: closing with unread
// bytes would reset the connection.
func (x *Exchange) closeGently() {
	_ = x.conn.CloseWrite()
	_ = x.conn.SetReadDeadline(time.Now().Add(time.Second))
	_, _ = io.Copy(io.Discard, x.conn)
	_ = x.conn.Close()
}

// Empty answers with a status and nothing else, as the host does for whatever fails in it.
func (x *Exchange) Empty(status int, closes bool) {
	x.closes = x.closes || closes
	x.Begin(status, "", nil, 0)
	x.End()
}

// Begin writes the head of the answer, which leaves with the first bytes of the body. A length of -1 means that it is not known.
func (x *Exchange) Begin(status int, reason string, header Fields, length int64) {
	x.started = true
	bodyless := x.Method == http.MethodHead || status == http.StatusNoContent || status == http.StatusNotModified
	x.plain, x.chunked = !bodyless, false
	x.closes = x.closes || x.Minor == 0 || hasItem(x.Header.Get("Connection"), "close") || x.bothFramings()
	if reason == "" {
		reason = http.StatusText(status)
	}
	_, _ = fmt.Fprintf(x.w, "HTTP/1.1 %d %s\r\n", status, reason)
	switch {
	case length >= 0 && status != http.StatusNoContent:
		header = append(header, Field{"Content-Length", strconv.FormatInt(length, 10)})
	case bodyless:
	case x.Minor == 1:
		x.chunked, x.plain = true, false
		header = append(header, Field{"Transfer-Encoding", "chunked"})
	default:
		x.closes = true
	}
	if x.closes {
		header = append(header, Field{"Connection", "close"})
	}
	if header.Get("Date") == "" {
		header = append(header, Field{"Date", time.Now().UTC().Format(http.TimeFormat)})
	}
	if header.Get("Server") == "" {
		header = append(header, Field{"Server", "Kestrel"})
	}
	for _, f := range header {
		_, _ = x.w.WriteString(f.Name + ": " + f.Value + "\r\n")
	}
	_, _ = x.w.WriteString("\r\n")
}

func (x *Exchange) bothFramings() bool {
	return x.Header.Get("Transfer-Encoding") != "" && x.Header.Get("Content-Length") != ""
}

func hasItem(list, item string) bool {
	for s := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(strings.TrimSpace(s), item) {
			return true
		}
	}
	return false
}

// Write sends a part of the answer's body at once.
func (x *Exchange) Write(p []byte) (int, error) {
	switch {
	case x.chunked && len(p) > 0:
		_, _ = fmt.Fprintf(x.w, "%x\r\n", len(p))
		_, _ = x.w.Write(p)
		_, _ = x.w.WriteString("\r\n")
	case x.plain:
		_, _ = x.w.Write(p)
	}
	return len(p), x.w.Flush()
}

// End ends the answer.
func (x *Exchange) End() {
	if x.chunked {
		_, _ = x.w.WriteString("0\r\n\r\n")
	}
	_ = x.w.Flush()
	x.ended = true
}

// Abort resets the connection.
func (x *Exchange) Abort() {
	x.ended = false
	reset(x.conn)
	x.cancel(errGone)
}
