package funchost

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Invocation is the handler's answer to a timer: the envelope of the custom handler contract.
type Invocation struct {
	Outputs     map[string]json.RawMessage `json:"Outputs"`
	Logs        []string                   `json:"Logs"`
	ReturnValue json.RawMessage            `json:"ReturnValue"`
}

// ErrHangs is returned where the real host would wait for functionTimeout and then kill the handler.
var ErrHangs = errors.New("an empty or null answer never completes the invocation: the host would hang until functionTimeout")

// Trigger fires a timer function now and returns its answer, held against the contract:
// a 2xx status, Content-Type application/json, a JSON object with known members only.
func (h *Host) Trigger(ctx context.Context, name string) (*Invocation, error) {
	for _, f := range h.app.functions {
		if f.name == name && f.timer != "" {
			return h.fire(ctx, f)
		}
	}
	return nil, fmt.Errorf("functions host: %q is no timer function of this app", name)
}

func (h *Host) fire(ctx context.Context, f function) (*Invocation, error) {
	w, err := h.ready(ctx)
	if err != nil {
		return nil, err
	}
	body := io.MultiReader(bytes.NewReader(h.envelope(f, time.Now()))) // of unknown length, so it is sent in chunks
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+w.addr+"/"+f.name, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	req.Header.Set("User-Agent", "Azure-Functions-Host/"+h.o.Version)
	req.Header.Set("X-Azure-Functions-InvocationId", uuid.NewString())
	req.Header.Set("X-Azure-Functions-HostVersion", h.o.Version)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer h.limitTime(w, cancel)()
	resp, err := h.transport.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("functions host: %s: %w", f.name, err)
	}
	defer func() { _ = resp.Body.Close() }()
	return readAnswer(f.name, resp)
}

// envelope is the JSON of a timer invocation. Only schedules of a minute and more have a status.
func (h *Host) envelope(f function, now time.Time) []byte {
	timestamp := func(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.9999999-07:00") }
	h.mu.Lock()
	last := h.fired[f.name]
	h.fired[f.name] = now
	h.mu.Unlock()
	var status any
	if _, err := strconv.Atoi(strings.Fields(f.cron + " *")[0]); err == nil {
		next := now.Add(cmp.Or(h.o.Timers, 5*time.Minute)) // the schedule itself is not read
		status = map[string]any{"Last": timestamp(last), "Next": timestamp(next), "LastUpdated": timestamp(last)}
	}
	b, _ := json.Marshal(map[string]any{
		"Data": map[string]any{f.timer: map[string]any{
			"Schedule": map[string]any{"AdjustForDST": true}, "ScheduleStatus": status, "IsPastDue": false,
		}},
		"Metadata": map[string]any{"sys": map[string]any{"MethodName": f.name, "UtcNow": now.UTC(), "RandGuid": uuid.NewString()}},
	})
	return b
}

func readAnswer(name string, resp *http.Response) (*Invocation, error) {
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("functions host: %s: %w", name, err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, fmt.Errorf("functions host: %s: status %d: %s", name, resp.StatusCode, body)
	}
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind != "application/json" {
		return nil, fmt.Errorf("functions host: %s: Content-Type %q, want application/json", name, resp.Header.Get("Content-Type"))
	}
	if trimmed := bytes.TrimSpace(body); len(trimmed) == 0 || string(trimmed) == "null" {
		return nil, fmt.Errorf("functions host: %s: %w", name, ErrHangs)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	var answer Invocation
	if err := d.Decode(&answer); err != nil {
		return nil, fmt.Errorf("functions host: %s: not the envelope: %w: %s", name, err, body)
	}
	return &answer, nil
}

// tick fires every timer at the interval asked for.
func (h *Host) tick() {
	t := time.NewTicker(h.o.Timers)
	defer t.Stop()
	for {
		select {
		case <-h.ctx.Done():
			return
		case <-t.C:
		}
		for _, f := range h.app.functions {
			if f.timer == "" {
				continue
			}
			answer, err := h.fire(h.ctx, f)
			if err != nil {
				h.logf("%v", err)
				continue
			}
			for _, line := range answer.Logs {
				h.logf("%s: %s", f.name, line)
			}
		}
	}
}
