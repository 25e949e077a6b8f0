// Package sweep is the timer's function. The Functions host calls it as
// POST /sweep with its invocation envelope and wants the answer's envelope back: status
// 200, Content-Type application/json, a JSON object. An empty body would leave the
// invocation open until functionTimeout, which kills the process.
package sweep

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

// Step is one thing a sweep does; its result is a line for the invocation's log.
type Step struct {
	Name string
	Run  func(context.Context) (string, error)
}

// Options of a Handler.
type Options struct {
	Steps   []Step
	Timeout time.Duration // of all steps together; default 4 minutes, less than the timer's period
	Logger  *slog.Logger
}

// New returns the handler of POST /sweep.
func New(o Options) http.Handler {
	if o.Timeout == 0 {
		o.Timeout = 4 * time.Minute
	}
	return &handler{o}
}

type handler struct{ options Options }

type invocationAnswer struct {
	Outputs     map[string]any `json:"Outputs"`
	Logs        []string       `json:"Logs"`
	ReturnValue any            `json:"ReturnValue"`
}

// ServeHTTP refuses whatever came through the proxy: the host sets X-Forwarded-Proto on
// those itself, and an outsider cannot take it off.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if _, proxied := r.Header["X-Forwarded-Proto"]; proxied {
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"statusCode":404,"message":"Unable to match incoming request to an operation."}` + "\n"))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), h.options.Timeout)
	defer cancel()
	answer := invocationAnswer{Outputs: map[string]any{}, Logs: []string{}}
	for _, step := range h.options.Steps {
		answer.Logs = append(answer.Logs, h.run(ctx, step))
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func (h *handler) run(ctx context.Context, step Step) string {
	line, err := step.Run(ctx)
	if err != nil {
		h.options.Logger.Error("sweep step failed", "step", step.Name, "error", err)
		return fmt.Sprintf("%s failed: %v", step.Name, err)
	}
	return step.Name + ": " + line
}
