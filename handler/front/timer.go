package front

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

// Step is one task of the timer. Run returns a line for the invocation's log.
type Step struct {
	Name string
	Run  func(context.Context) (string, error)
}

// timerTimeout limits all steps of one run together. The timer's period is 5 minutes.
const timerTimeout = 4 * time.Minute

// timer answers POST /sweep, which the Functions host sends with its invocation envelope.
// The host expects the envelope of a result: status 200, Content-Type application/json and
// a JSON object. After an empty body the host would wait until functionTimeout and then
// kill the process.
type timer struct {
	steps  []Step
	logger *slog.Logger
}

type invocationAnswer struct {
	Outputs     map[string]any `json:"Outputs"`
	Logs        []string       `json:"Logs"`
	ReturnValue any            `json:"ReturnValue"`
}

// ServeHTTP answers 404 to every request with X-Forwarded-Proto. The host sets this header
// on each request that it proxies from outside, and never on the timer's requests.
func (h *timer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if _, proxied := r.Header["X-Forwarded-Proto"]; proxied {
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"statusCode":404,"message":"Unable to match incoming request to an operation."}` + "\n"))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), timerTimeout)
	defer cancel()
	answer := invocationAnswer{Outputs: map[string]any{}, Logs: []string{}}
	for _, step := range h.steps {
		answer.Logs = append(answer.Logs, h.run(ctx, step))
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func (h *timer) run(ctx context.Context, step Step) string {
	line, err := step.Run(ctx)
	if err != nil {
		h.logger.Error("a step of the timer failed; the next run repeats it", "step", step.Name, "error", err)
		return fmt.Sprintf("%s failed: %v", step.Name, err)
	}
	return step.Name + ": " + line
}
