//go:build unix

package funchost_test

import (
	"strings"
	"testing"

	"aoaigateway/handler/devstack/funchost"
)

func TestTimerAnswers(t *testing.T) {
	for _, c := range []struct{ name, contentType, answer, problem string }{
		{"echo", "application/json; charset=utf-8", "echo", ""},
		{"text", "text/plain", "{}", "Content-Type"},
		{"empty", "application/json", "", "hang"},
		{"null", "application/json", "null", "hang"},
		{"array", "application/json", "[]", "not the envelope"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := start(t, funchost.Options{}, "FAKE_SWEEP_TYPE="+c.contentType, "FAKE_SWEEP="+c.answer)
			_, err := h.Trigger(t.Context(), "sweep")
			if got := err != nil; got != (c.problem != "") || got && !strings.Contains(err.Error(), c.problem) {
				t.Errorf("got %v, want %q", err, c.problem)
			}
		})
	}
}
