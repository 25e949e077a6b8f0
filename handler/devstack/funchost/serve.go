package funchost

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"aoaigateway/handler/devstack/kestrel"
)

// serve is what an outside caller meets.
func (h *Host) serve(x *kestrel.Exchange) {
	if !h.up.Load() {
		x.Begin(http.StatusServiceUnavailable, "", kestrel.Fields{{Name: "Content-Type", Value: "text/plain"}}, -1)
		_, _ = io.WriteString(x, "Function host is not running.")
		x.End()
		return
	}
	if h.o.CollapseSlashes {
		x.Path = "/" + strings.TrimLeft(x.Path, "/")
	}
	f, ok := h.app.find(x.Method, x.Path)
	if !ok {
		h.ownAnswer(x)
		return
	}
	if x.Length > h.bodyLimit {
		x.Empty(http.StatusInternalServerError, true)
		return
	}
	if h.slots != nil {
		select {
		case h.slots <- struct{}{}:
			defer func() { <-h.slots }()
		case <-x.Context().Done():
			return
		case <-h.ctx.Done():
			return
		}
	}
	body, err := h.readWhole(x)
	switch {
	case errors.Is(err, errOutOfMemory):
		h.crash(err)
	case err != nil:
		h.logf("%s: reading the body: %v", f.name, err)
		x.Empty(http.StatusInternalServerError, true)
	default:
		h.invoke(x, f, body)
	}
}

// ownAnswer answers a request that belongs to no function.
func (h *Host) ownAnswer(x *kestrel.Exchange) {
	top, _, _ := strings.Cut(strings.TrimPrefix(x.Path, "/"), "/")
	switch {
	case x.Path == "/" && strings.EqualFold(h.o.setting("AzureWebJobsDisableHomepage"), "true"):
		x.Begin(http.StatusNoContent, "", nil, -1)
	case x.Path == "/":
		const page = "<!DOCTYPE html><title>Your Functions app is up and running</title>\n"
		x.Begin(http.StatusOK, "", kestrel.Fields{{Name: "Content-Type", Value: "text/html"}}, int64(len(page)))
		_, _ = io.WriteString(x, page)
	case strings.EqualFold(top, "admin"), strings.EqualFold(top, "runtime"):
		x.Begin(http.StatusUnauthorized, "", kestrel.Fields{{Name: "WWW-Authenticate", Value: "Bearer"}}, 0)
	default:
		x.Begin(http.StatusNotFound, "", nil, 0)
	}
	x.End()
}

// readWhole reads a body whose length is stated, before the handler hears of the request.
func (h *Host) readWhole(x *kestrel.Exchange) ([]byte, error) {
	if x.Length <= 0 {
		return nil, nil
	}
	var whole bytes.Buffer
	defer func() { h.memory.release(whole.Len()) }()
	part := make([]byte, 64<<10)
	for {
		n, err := x.Body().Read(part)
		whole.Write(part[:n])
		if full := h.memory.take(n); full != nil {
			return nil, full
		}
		if errors.Is(err, io.EOF) {
			return whole.Bytes(), nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// crash ends the host as an exception that nobody handles does, with every stream in it.
func (h *Host) crash(err error) {
	h.fail(fmt.Errorf("functions host: An unhandled exception has occurred. Host is shutting down. %w", err))
	h.stop()
}

// invoke passes one request to the handler and its answer back as it comes.
func (h *Host) invoke(x *kestrel.Exchange, f function, body []byte) {
	ctx, cancel := context.WithCancelCause(x.Context())
	defer cancel(nil)
	w, err := h.ready(ctx)
	if err != nil {
		h.logf("%s: %v", f.name, err)
		x.Empty(http.StatusInternalServerError, false)
		return
	}
	defer h.limitTime(w, cancel)()
	inv := h.newInvocation(ctx, x, w.addr, body)
	inv.idle = h.afterIdle(cancel)
	defer inv.idle.Stop()
	answer, err := h.forward(inv)
	if err == nil {
		err = h.relay(inv, answer)
		answer.close(err == nil)
	}
	if err == nil {
		return
	}
	h.logf("%s: %v", f.name, causeOr(ctx, err))
	if x.Started() || h.o.Fresh { // with a lost instance its connections are lost
		x.Abort()
		return
	}
	x.Empty(http.StatusInternalServerError, errors.Is(err, kestrel.ErrTooLarge))
}

func causeOr(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}
