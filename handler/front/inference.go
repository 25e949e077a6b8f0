package front

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"aoaigateway/handler/audit"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/openai"
	"aoaigateway/handler/proxy"
)

// inference serves one inference request and keeps its record.
func (h *Handler) inference(w http.ResponseWriter, r *http.Request) {
	rec := h.newRecord(r)
	x := h.options.Audit.Exchange(rec)
	w.Header().Set("X-Gateway-Request-Id", rec.ID)
	defer recordPanic(r.Context(), rec, x)
	var cause error
	err := h.infer(w, r, rec, x)
	if err != nil && !errors.Is(err, proxy.ErrAborted) {
		e := typed(err)
		cause, err = e.Err, refuse(r.Context(), w, e, rec, x)
	}
	logRequest(r.Context(), h.options.Logger, rec, cause, err != nil)
	if err != nil {
		panic(http.ErrAbortHandler)
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
	caller.IP = rec.IP
	rec.Caller = caller
	if err != nil {
		return err
	}
	if !ok {
		return operationNotFound(allow)
	}
	return h.options.Proxy.Serve(proxy.Inference{W: w, R: r, Match: m, Record: rec, Audit: x})
}

// refuse records the error e and then renders it. If the record cannot be made durable, it
// renders that failure instead, unless e already asks the client to try again later.
func refuse(ctx context.Context, w http.ResponseWriter, e *gateway.Error, rec *gateway.Record, x *audit.Exchange) error {
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
