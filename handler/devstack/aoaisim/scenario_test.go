package aoaisim_test

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"

	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/devstack/aoaisim/scenario"
	"aoaigateway/handler/devstack/aoaisim/wire"
)

// scenarioPaths is where each folder of scenarios can be played.
var scenarioPaths = map[string]struct{ path, body string }{
	"chat":      {"/openai/v1/chat/completions", `{"model":"chat","messages":[{"role":"user","content":"hi"}],"stream":true}`},
	"responses": {"/openai/v1/responses", `{"model":"chat","input":"hi","stream":true}`},
	"any":       {"/openai/v1/responses", `{"model":"chat","input":"hi [tokens:20]","stream":true}`},
	"error":     {"/openai/v1/chat/completions", `{"model":"chat","messages":[{"role":"user","content":"hi"}]}`},
	"field":     {"/openai/v1/responses", `{"model":"chat","input":"hi","stream":true}`},
}

// Every scenario can be played, its JSON is JSON, and its events are whole.
func TestEveryScenarioPlays(t *testing.T) {
	names, err := scenario.Names()
	if err != nil || len(names) < 100 {
		t.Fatal(len(names), err)
	}
	for _, name := range names {
		folder, _, _ := strings.Cut(name, "/")
		name, streamed := strings.CutSuffix(name, ".stream")
		s := scenario.Find(name, folder, streamed)
		if !strings.Contains(s.About, "Source: ") {
			t.Errorf("%s names no source", name)
		}
		if name == "any/hang" || name == "any/stall" || name == "field/estimate-without-schema" || strings.Contains(name, "rst-") ||
			strings.Contains(name, "goaway") {
			continue // TestWire plays them
		}
		inBubble(t, aoaisim.Options{Wire: wire.Options{Plain: true}}, func(c *client) {
			at := scenarioPaths[folder]
			if !streamed {
				at.body = strings.Replace(at.body, `,"stream":true`, "", 1)
			}
			o := c.play(name, at.path, at.body)
			synctest.Wait()
			if got := c.region.Exchanges()[0].Scenario; o.status != s.Status || got != s.Name {
				t.Errorf("%s: %d by %q, %v: %.300s", name, o.status, got, o.err, o.body)
			}
			wantJSON(t, name, o)
		})
	}
}

func wantJSON(t *testing.T, name string, o outcome) {
	t.Helper()
	switch kind := o.header.Get("Content-Type"); {
	case name == "error/broken-json":
	case strings.HasPrefix(kind, "application/json") && !json.Valid([]byte(o.body)):
		t.Errorf("%s: no JSON: %s", name, o.body)
	case strings.HasPrefix(kind, "text/event-stream"):
		for line := range strings.Lines(o.body) {
			if data, ok := strings.CutPrefix(line, "data: "); ok && !json.Valid([]byte(data)) && data != "[DONE]\n" {
				t.Errorf("%s: no JSON: %s", name, data)
			}
		}
	}
}
