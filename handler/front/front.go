// Package front is where requests arrive. It routes them, makes one record of each
// inference request, renders every error, owns the deadlines of the client's connection
// and makes sure that the record is durable before the answer is complete.
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
	Timer             []Step                                         // tasks of the timer's run
	Logger            *slog.Logger
	Fronted           bool          // X-Gateway-Client-IP of the Application Gateway names the client
	InAzure           bool          // in Azure, where RemoteAddr is the Functions host and never the client
	ClientIdleTimeout time.Duration // how long a client may pause inside its body, or take nothing of its answer
}

// Handler is the gateway's HTTP surface.
type Handler struct {
	options Options
	routes  *httprouter.Router
}

// New builds the route table.
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

// recoverPanic renders a panic as an error, or aborts the connection if the answer had
// begun: after a clean end it would pass for complete. ErrAbortHandler is how handlers
// abort a connection and must reach the server.
func (h *Handler) recoverPanic(w *response, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler { //nolint:errorlint // a panic value, compared by identity as net/http does
		w.flushBeforeAbort(r.Context())
		panic(v)
	}
	h.options.Logger.Error("panic", "value", v, "path", r.URL.Path, "stack", string(debug.Stack()))
	if w.started {
		panic(http.ErrAbortHandler)
	}
	_ = writeError(w, gateway.Panic.Because(nil))
}

// readiness answers the host's start-up probe.
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

// unknown answers what no route takes. Below /openai even that leaves a record.
func (h *Handler) unknown(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/openai" || strings.HasPrefix(r.URL.Path, "/openai/") {
		h.inference(w, r)
		return
	}
	_ = writeError(w, operationNotFound(nil))
}

// typed returns the *gateway.Error in err. Any other error is a defect of the gateway.
func typed(err error) *gateway.Error {
	if e, ok := errors.AsType[*gateway.Error](err); ok {
		return e
	}
	return gateway.InternalServerError.Because(err)
}
