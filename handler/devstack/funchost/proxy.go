package funchost

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// serve is what an outside caller meets.
func (h *Host) serve(w http.ResponseWriter, r *http.Request) {
	if h.o.CollapseSlashes {
		r.URL.Path, r.URL.RawPath = oneSlash(r.URL.Path), oneSlash(r.URL.RawPath)
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if strings.EqualFold(first, "admin") || strings.EqualFold(first, "runtime") {
		http.NotFound(w, r) // the host's own; never reaches a function
		return
	}
	f, ok := h.app.find(r.Method, r.URL.Path)
	if !ok {
		if r.URL.Path == "/" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if r.ContentLength > h.bodyLimit {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	worker, err := h.ready(r.Context())
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	h.proxy(w, r, worker, f)
}

func oneSlash(path string) string {
	for strings.HasPrefix(path, "//") {
		path = path[1:]
	}
	return path
}

// proxy passes one request to the worker and its answer back as it comes.
func (h *Host) proxy(w http.ResponseWriter, r *http.Request, to *worker, f function) {
	_ = http.NewResponseController(w).EnableFullDuplex() // as Kestrel is
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	idle := time.AfterFunc(h.o.Idle, func() { cancel(errIdle) })
	defer idle.Stop()
	body := &tracked{ReadCloser: http.MaxBytesReader(w, r.Body, h.bodyLimit), alive: func() { idle.Reset(h.o.Idle) }}
	out := h.outgoing(r.WithContext(ctx), to, body)
	resp, err := h.forward(out, body)
	if err != nil {
		h.failed(ctx, w, f, err)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	idle.Reset(h.o.Idle)
	dropHopByHop(resp.Header)
	maps.Copy(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	if err := relay(w, resp.Body, func() { idle.Reset(h.o.Idle) }); err != nil {
		h.logf("%s: the handler's answer broke off: %v", f.name, err)
		panic(http.ErrAbortHandler)
	}
}

var errIdle = errors.New("no byte in either direction for the activity time-out")

func (h *Host) failed(ctx context.Context, w http.ResponseWriter, f function, err error) {
	tooLarge, isTooLarge := errors.AsType[*http.MaxBytesError](err)
	switch {
	case isTooLarge && tooLarge != nil:
		w.WriteHeader(http.StatusRequestEntityTooLarge)
	case errors.Is(context.Cause(ctx), errIdle):
		w.WriteHeader(http.StatusGatewayTimeout)
	case h.o.Fresh: // the instance is lost, and the connection with it
		panic(http.ErrAbortHandler)
	default:
		h.logf("%s: %v", f.name, err)
		w.WriteHeader(http.StatusBadGateway)
	}
}

// outgoing is the request as the proxy sends it: path and query unchanged, Host the
// worker's, X-Forwarded-* set from this side's view whatever the caller sent.
func (h *Host) outgoing(r *http.Request, to *worker, body *tracked) *http.Request {
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host = "http", to.addr
	out.Host, out.RequestURI, out.Close = "", "", false
	out.Body = body
	if r.ContentLength == 0 {
		out.Body = http.NoBody
	}
	dropHopByHop(out.Header)
	if out.Header.Get("User-Agent") == "" {
		out.Header["User-Agent"] = []string{""} // or the client would add its own
	}
	h.platformHeaders(out.Header, r)
	return out
}

func (h *Host) platformHeaders(x http.Header, r *http.Request) {
	peer, port, _ := net.SplitHostPort(r.RemoteAddr)
	id := uuid.NewString()
	x.Set("X-Forwarded-For", peer) // the platform's hop, never the chain before it
	x.Set("X-Forwarded-Host", r.Host)
	x.Set("X-Forwarded-Proto", "http")
	x.Del("X-Forwarded-Prefix")
	x.Set("X-Azure-Functions-InvocationId", id)
	x.Set("X-Azure-Functions-HostVersion", h.o.Version)
	x.Set("x-ms-invocation-id", id)
	x.Set("Client-Ip", net.JoinHostPort(peer, port))
	x.Set("X-Client-Ip", peer)
	x.Set("X-Client-Port", port)
	x.Set("Disguised-Host", r.Host)
	x.Set("Was-Default-Hostname", r.Host)
	x.Set("X-Arr-Log-Id", uuid.NewString())
	x.Set("X-Site-Deployment-Id", "gateway")
	x.Set("X-Original-Url", r.URL.RequestURI())
	x.Set("X-Waws-Unencoded-Url", r.URL.Path)
	x.Set("X-Appservice-Proto", "http")
	x.Set("Max-Forwards", "10")
}

var hopByHop = []string{
	"Connection", "Transfer-Encoding", "Keep-Alive", "Upgrade", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authentication-Info",
	"Proxy-Authorization", "Proxy-Features", "Proxy-Instruction", "Security-Scheme", "ALPN", "Close", "TE", "Alt-Svc", "HTTP2-Settings",
	"Upgrade-Insecure-Requests",
}

func dropHopByHop(x http.Header) {
	for _, list := range x.Values("Connection") {
		for name := range strings.SplitSeq(list, ",") {
			x.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range hopByHop {
		x.Del(name)
	}
}

// forward sends out, and again while the worker cannot be reached and nothing of the body
// was read: ten attempts, 50 to 250 ms apart, about 1.8 s in all.
func (h *Host) forward(out *http.Request, body *tracked) (*http.Response, error) {
	wait := 50 * time.Millisecond
	for attempt := 1; ; attempt++ {
		resp, err := h.transport.RoundTrip(out)
		if err == nil || body.read.Load() || attempt == 10 || out.Context().Err() != nil {
			return resp, err
		}
		select {
		case <-time.After(wait):
		case <-out.Context().Done():
			return nil, out.Context().Err()
		case <-h.ctx.Done():
			return nil, errStopped
		}
		wait = min(wait+50*time.Millisecond, 250*time.Millisecond)
		out = out.Clone(out.Context())
	}
}

// tracked is a request body that tells whether it was touched; it survives the transport's
// Close between attempts, because the server closes the real one.
type tracked struct {
	io.ReadCloser
	alive func()
	read  atomic.Bool
}

func (t *tracked) Read(p []byte) (int, error) {
	t.read.Store(true)
	n, err := t.ReadCloser.Read(p)
	if n > 0 {
		t.alive()
	}
	return n, err
}

func (t *tracked) Close() error { return nil }

// relay copies in pieces of at most 64 KiB, each flushed at once. As with the real proxy
// the headers leave with the first byte of the body, not before.
func relay(w http.ResponseWriter, body io.Reader, alive func()) error {
	rc := http.NewResponseController(w)
	buf := make([]byte, 64<<10)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			alive()
			if _, werr := w.Write(buf[:n]); werr != nil {
				return werr
			}
			if ferr := rc.Flush(); ferr != nil {
				return ferr
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
