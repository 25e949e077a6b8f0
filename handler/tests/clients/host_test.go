package clients_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// The host is strict: a wrong result of the timer's function is an error, and an empty one
// makes the call hang.
func TestTimerInvocation(t *testing.T) {
	ready(t)
	if _, err := gateway.host.Trigger(t.Context(), "sweep"); err != nil {
		t.Fatal(err)
	}
}

func TestAnOutsiderCannotSweep(t *testing.T) {
	ready(t)
	for _, path := range []string{"/sweep", "/openai/../sweep", "/openai/%2e%2e/sweep", "/manage/../sweep"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, gateway.url+path, strings.NewReader(`{"Data":{},"Metadata":{}}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("User-Agent", "Azure-Functions-Host/4.0")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode < 400 || strings.Contains(string(body), "Outputs") {
			t.Errorf("POST %s: %d %s", path, resp.StatusCode, body)
		}
	}
}
