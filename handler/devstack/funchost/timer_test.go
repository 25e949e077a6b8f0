//go:build unix

package funchost_test

import (
	"encoding/json"
	"strings"
	"testing"

	"aoaigateway/handler/devstack/funchost"
)

func TestTimerEnvelopes(t *testing.T) {
	for _, c := range []struct{ name, contentType, answer, problem string }{
		{"echo", "application/json; charset=utf-8", "echo", ""},
		{"text", "text/plain", "{}", "Content-Type"},
		{"empty", "application/json", "", "hang"},
		{"null", "application/json", "null", "hang"},
		{"array", "application/json", "[]", "not the envelope"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := start(t, funchost.Options{}, "FAKE_SWEEP_TYPE="+c.contentType, "FAKE_SWEEP="+c.answer)
			answer, err := h.Trigger(t.Context(), "sweep")
			if c.problem != "" {
				if err == nil || !strings.Contains(err.Error(), c.problem) {
					t.Errorf("got %v, want %q", err, c.problem)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if agent, proto := answer.Logs[0], answer.Logs[1]; !strings.HasPrefix(agent, "Azure-Functions-Host/") || proto != "" {
				t.Errorf("agent %q, X-Forwarded-Proto %q", agent, proto)
			}
			var envelope struct {
				Data     map[string]struct{ IsPastDue *bool }
				Metadata struct{ Sys map[string]string }
			}
			if err := json.Unmarshal([]byte(answer.Logs[2]), &envelope); err != nil || envelope.Data["timer"].IsPastDue == nil ||
				envelope.Metadata.Sys["MethodName"] != "sweep" {
				t.Errorf("%v: %s", err, answer.Logs[2])
			}
		})
	}
}
