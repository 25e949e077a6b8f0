// Package front is where requests arrive: it routes them, makes one record of each
// inference request, renders every error, and sees to it that the record is durable
// before the answer is complete.
package front

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"github.com/julienschmidt/httprouter"

	"aoaigateway/handler/audit"
	"aoaigateway/handler/auth"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/openai"
	"aoaigateway/handler/proxy"
)

// Options of a Handler.
type Options struct {
	Auth              *auth.Authenticator
	Audit             *audit.Log
	Proxy             *proxy.Proxy
	Admin             func(http.ResponseWriter, *http.Request) error // everything below /manage
	Timer             []Step                                         // tasks of the timer's run
	Logger            *slog.Logger
	Fronted           bool          // the edge's X-Gateway-Client-IP names the client
	InAzure           bool          // the peer is the Functions host, never the client
	ClientIdleTimeout time.Duration // how long a client may take none of its answer; 0 = proxy.DefaultClientIdleTimeout
}

// MaxHeader bounds a request's URL and headers, names and values together. The server must let
// more than that through for the refusal to be ours, with a record.
const MaxHeader = 64 << 10

// Handler is the gateway's HTTP surface.
type Handler struct {
	options Options
	routes  *httprouter.Router
}

// New builds the route table.
func New(o Options) *Handler {
	o.ClientIdleTimeout = cmp.Or(o.ClientIdleTimeout, proxy.DefaultClientIdleTimeout)
	h := &Handler{options: o, routes: httprouter.New()}
	h.routes.RedirectTrailingSlash = false
	h.routes.RedirectFixedPath = false
	h.routes.HandleMethodNotAllowed = false
	h.routes.HandleOPTIONS = false
	h.routes.NotFound = http.HandlerFunc(h.unknown)
	h.routes.HandlerFunc(http.MethodGet, "/", readiness)
	h.routes.HandlerFunc(http.MethodGet, "/healthz", health)
	h.routes.Handler(http.MethodPost, "/sweep", &timer{steps: o.Timer, logger: o.Logger})
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
		h.routes.HandlerFunc(method, "/manage/*path", h.manage)
		h.routes.HandlerFunc(method, "/openai/*path", h.openai)
	}
	return h
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	out := newResponse(w, h.options.ClientIdleTimeout)
	defer out.done()
	defer h.recoverPanic(out, r)
	r.URL.Path = collapseSlashes(r.URL.Path)
	if r.URL.RawPath != "" {
		r.URL.RawPath = collapseSlashes(r.URL.RawPath)
	}
	h.routes.ServeHTTP(out, r)
}

// recovered turns a panic into an error of ours, or breaks off what had begun: a clean end
// would pass for a whole answer. ErrAbortHandler is the server's own way to break a
// connection off and must reach it.
func (h *Handler) recoverPanic(w *response, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler { //nolint:errorlint // a panic value, compared by identity as net/http does
		panic(v)
	}
	h.options.Logger.Error("panic", "value", v, "path", r.URL.Path, "stack", string(debug.Stack()))
	if w.started {
		panic(http.ErrAbortHandler)
	}
	_ = writeError(w, gateway.Panic.Because(nil))
}

// collapse drops what a client's doubled slash put before the path.
func collapseSlashes(path string) string { return "/" + strings.TrimLeft(path, "/") }

// ready answers the host's start-up probe.
func readiness(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }

func health(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(`{"status":"ok"}` + "\n"))
}

func (h *Handler) manage(w http.ResponseWriter, r *http.Request) {
	err := h.options.Admin(w, r)
	if err == nil {
		return
	}
	e, ok := errors.AsType[*gateway.Error](err)
	if !ok {
		e = gateway.InternalServerError.Because(err)
	}
	h.options.Logger.Warn("management request refused", "path", r.URL.Path, "status", e.Kind.Status(), "error", err)
	_ = writeError(w, e)
}

// unknown answers what no route takes. Below /openai even that leaves a record.
func (h *Handler) unknown(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/openai" || strings.HasPrefix(r.URL.Path, "/openai/") {
		h.openai(w, r)
		return
	}
	_ = writeError(w, operationNotFound(nil))
}

// openai serves one inference request and keeps its record.
func (h *Handler) openai(w http.ResponseWriter, r *http.Request) {
	rec := h.newRecord(r)
	x := h.options.Audit.Exchange(rec)
	w.Header().Set("X-Gateway-Request-Id", rec.ID)
	defer h.recordPanic(r.Context(), rec, x)
	err := h.infer(w, r, rec, x)
	if e, ok := errors.AsType[*gateway.Error](err); ok {
		err = h.refuse(r.Context(), w, e, rec, x)
	} else if err != nil && !errors.Is(err, proxy.ErrAborted) {
		err = h.refuse(r.Context(), w, gateway.InternalServerError.Because(err), rec, x)
	}
	h.log(r.Context(), rec, err)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
}

// lost keeps the record of a request that a panic ends.
func (h *Handler) recordPanic(ctx context.Context, rec *gateway.Record, x *audit.Exchange) {
	if !x.Ended() {
		recordError(rec, gateway.Panic.Because(nil))
		_ = x.End(ctx)
	}
}

func (h *Handler) infer(w http.ResponseWriter, r *http.Request, rec *gateway.Record, x *audit.Exchange) error {
	if err := checkHeader(r); err != nil {
		return err
	}
	if err := checkPath(r.URL); err != nil {
		return err
	}
	m, allow, ok := openai.Find(r.Method, strings.TrimPrefix(r.URL.Path, "/openai"))
	if ok {
		rec.Operation, rec.Surface = m.ID, m.Surface
	}
	caller, err := h.options.Auth.Authenticate(r)
	ip := rec.IP
	rec.Caller = caller
	rec.IP = ip
	if err != nil {
		return err
	}
	if !ok {
		return operationNotFound(allow)
	}
	return h.options.Proxy.Serve(proxy.Exchange{W: w, R: r, Match: m, Record: rec, Audit: x})
}

// refuse records an error and then renders it. When the record cannot be made durable
// the client learns that instead, unless it is told already to try again later.
func (h *Handler) refuse(ctx context.Context, w http.ResponseWriter, e *gateway.Error, rec *gateway.Record, x *audit.Exchange) error {
	if x.Ended() {
		rec.Status = e.Kind.Status()
		return writeError(w, e)
	}
	recordError(rec, e)
	capture := x.Response("application/json")
	_, _ = capture.Write(errorBody(e))
	if err := x.End(ctx); err != nil {
		if late, ok := errors.AsType[*gateway.Error](err); ok && e.Kind != gateway.Unavailable {
			e = late
		}
	}
	return writeError(w, e)
}

func recordError(rec *gateway.Record, e *gateway.Error) {
	rec.Status = e.Kind.Status()
	rec.ErrorReason, rec.ErrorMessage, rec.Limit = e.Code, e.Message, e.Limit
	rec.TotalMilli = time.Since(rec.Time).Milliseconds()
	switch {
	case e.Kind == gateway.ClientGone:
		rec.Outcome = gateway.ClientLeft
	case e.Kind == gateway.Internal:
		rec.Outcome = gateway.GatewayFailed
	case len(rec.Attempts) == 0:
		rec.Outcome = gateway.Refused
	default:
		rec.Outcome = gateway.Complete
	}
}

// arrive makes the record of a request.
func (h *Handler) newRecord(r *http.Request) *gateway.Record {
	now := time.Now()
	rec := &gateway.Record{ID: newID(now), Time: now, Method: r.Method, URL: loggedURL(r.URL), ClientAgent: r.UserAgent()}
	rec.IP = h.clientIP(r)
	return rec
}

// clientIP is the address a trusted hop names, or none. X-Forwarded-For is never one:
// the Functions host overwrites it with its own peer.
func (h *Handler) clientIP(r *http.Request) string {
	switch {
	case h.options.Fronted:
		return parseIP(r.Header.Get("X-Gateway-Client-Ip"))
	case r.Header.Get("Client-Ip") != "":
		return parseIP(r.Header.Get("Client-Ip"))
	case h.options.InAzure:
		return ""
	default:
		return parseIP(r.RemoteAddr)
	}
}

func parseIP(s string) string {
	s = strings.TrimSpace(s)
	if host, _, err := net.SplitHostPort(s); err == nil {
		s = host
	}
	if ip := net.ParseIP(strings.Trim(s, "[]")); ip != nil {
		return ip.String()
	}
	return ""
}

func loggedURL(u *url.URL) string {
	clean := url.URL{Path: u.Path, RawPath: u.RawPath, RawQuery: proxy.CleanQuery(u.Query()).Encode()}
	s := clean.String()
	return strings.ToValidUTF8(s[:min(len(s), 2048)], "")
}

var idEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// newID is 26 letters that sort by time: 48 bits of milliseconds, 80 random bits (the ULID layout).
func newID(now time.Time) string {
	var b [18]byte
	binary.BigEndian.PutUint64(b[:8], uint64(now.UnixMilli()))
	_, _ = rand.Read(b[8:])
	return idEncoding.EncodeToString(b[2:])
}

func (h *Handler) log(ctx context.Context, rec *gateway.Record, err error) {
	h.options.Logger.LogAttrs(context.WithoutCancel(ctx), slog.LevelInfo, "request",
		slog.String("record_id", rec.ID), slog.String("operation", rec.Operation), slog.Int("status", rec.Status),
		slog.String("outcome", string(rec.Outcome)), slog.String("reason", rec.ErrorReason), slog.String("subscription", rec.Subscription),
		slog.String("model", rec.Model), slog.String("region", rec.Region), slog.Int("attempts", len(rec.Attempts)),
		slog.Int64("tokens", rec.Usage.Total), slog.Int64("first_byte_ms", rec.FirstByteMilli), slog.Int64("total_ms", rec.TotalMilli),
		slog.Bool("aborted", err != nil))
}
