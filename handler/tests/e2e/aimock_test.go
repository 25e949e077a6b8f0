package e2e_test

import (
	"bytes"
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"aoaigateway/handler/app/settings"
	"aoaigateway/handler/devstack/aimock"
	"aoaigateway/handler/tests/harness"
)

// The regions are of another make here. Their answers pass, streamed and whole, and their
// usage is recorded.
func TestAIMockRegions(t *testing.T) {
	if testing.Short() {
		t.Skip("needs Node; make test runs it")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	server, err := aimock.Start(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	endpoint, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	r := harness.Start(t, harness.Options{Settings: func(s *settings.Values) {
		s.Backends[0].Endpoint = endpoint
	}})
	for _, c := range []struct{ name, path, body, want string }{
		{"chat", harness.ChatPath, `{"messages":[{"role":"user","content":"hi"}]}`, aimock.Answer},
		{"chat on v1", "/openai/v1/chat/completions", `{"model":"chat","messages":[{"role":"user","content":"hi"}]}`, aimock.Answer},
		{"chat stream", harness.ChatPath, `{"messages":[{"role":"user","content":"hi"}],"stream":true}`, doneEvent},
		{"tool call", harness.ChatPath, `{"messages":[{"role":"user","content":"call a tool"}]}`, `"name":"get_weather"`},
		{"tool call stream", harness.ChatPath, `{"messages":[{"role":"user","content":"call a tool"}],"stream":true}`, `"tool_calls":[{`},
		{"response", responsesPath, responsesBody, aimock.Answer},
		{"response stream", responsesPath, responsesStream, "response.completed"},
		{"embedding", "/openai/deployments/emb/embeddings?api-version=2024-10-21", `{"input":"a"}`, `[0.25,-0.5,1]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := r.Post(c.path, c.body)
			rec := wantComplete(r, a)
			if rec.Region != "a" || !bytes.Contains(a.Body, []byte(c.want)) {
				t.Errorf("by %s: %s", rec.Region, a.Body)
			}
			if chat := strings.Contains(c.path, "chat/"); chat && (rec.Usage.Total == 0 || rec.Usage.Estimated) {
				t.Errorf("usage %+v", rec.Usage)
			}
		})
	}
}
