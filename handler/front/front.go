// Package front receives all requests. It routes them, keeps one record of each inference
// request, renders every error, sets the deadlines of the client's connection and makes
// sure that the record is durable before the answer is complete.
package front

import (
	"cmp"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/julienschmidt/httprouter"

	"aoaigateway/handler/audit"
	"aoaigateway/handler/auth"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/proxy"
)

// DefaultClientIdleTimeout is the default of Options.ClientIdleTimeout and of its setting.
const DefaultClientIdleTimeout = time.Minute

// Options of a Handler.
type Options struct {
	Auth              *auth.Authenticator
	Audit             *audit.Log
	Proxy             *proxy.Proxy
	Admin             func(http.ResponseWriter, *http.Request) error // everything below /manage
	Timer             []Step                                         // tasks that the timer runs
	Logger            *slog.Logger
	Fronted           bool          // the Application Gateway stands in front and names the client in X-Gateway-Client-IP
	InAzure           bool          // in Azure, where RemoteAddr is the Functions host and never the client
	ClientIdleTimeout time.Duration // how long a client may send nothing of its body, or accept nothing of its answer
}

// Handler is the gateway's http.Handler.
type Handler struct {
	options Options
	routes  *httprouter.Router
}

// New returns a Handler with all routes.
func New(o Options) *Handler {
	o.ClientIdleTimeout = cmp.Or(o.ClientIdleTimeout, DefaultClientIdleTimeout)
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
		h.routes.HandlerFunc(method, "/openai/*path", h.inference)
	}
	return h
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	out := newResponse(w, r, h.options.ClientIdleTimeout)
	defer out.done()
	defer h.recoverPanic(out, r)
	r.URL.Path = trimSlashes(r.URL.Path)
	if r.URL.RawPath != "" {
		r.URL.RawPath = trimSlashes(r.URL.RawPath)
	}
	h.routes.ServeHTTP(out, r)
}

// recoverPanic renders a panic as an error. If the answer had begun, it aborts the
// connection instead: after a clean end the client would take the answer for complete.
// http.ErrAbortHandler passes on to the server, which aborts the connection.
func (h *Handler) recoverPanic(w *response, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	aborts := v == http.ErrAbortHandler //nolint:errorlint // a panic value, compared by identity as net/http does
	w.aborted = aborts || w.started
	if aborts {
		w.flushBeforeAbort(r.Context())
		panic(v)
	}
	h.options.Logger.Error("panic", "value", v, "path", r.URL.Path, "stack", string(debug.Stack()))
	if w.started {
		panic(http.ErrAbortHandler)
	}
	_ = writeError(w, gateway.Panic.Because(nil))
}

// readiness answers the start-up probe of the Functions host.
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
	e := typed(err)
	h.options.Logger.Warn("management request refused", "path", r.URL.Path, "status", e.Kind.Status(), "error", err)
	_ = writeError(w, e)
}

// unknown answers requests that match no route. Below /openai such a request also leaves a
// record.
func (h *Handler) unknown(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/openai" || strings.HasPrefix(r.URL.Path, "/openai/") {
		h.inference(w, r)
		return
	}
	_ = writeError(w, operationNotFound(nil))
}

// typed returns the *gateway.Error in err. It wraps any other error, which is a defect of
// the gateway, as an internal error.
func typed(err error) *gateway.Error {
	if e, ok := errors.AsType[*gateway.Error](err); ok {
		return e
	}
	return gateway.InternalServerError.Because(err)
}
