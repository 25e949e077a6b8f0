package e2e_test

import (
	"strings"
	"testing"

	"aoaigateway/handler/app/settings"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/tests/harness"
)

const oncePolicy = harness.TestPolicy + `
  once:
    models: [chat]
    limits: [{requests: 1, per: day, hard: true}]
`

// The body of a refused request is not archived. If it was not read, the record has its
// announced size; otherwise the record has its size and hash.
func TestRefusedBodiesAreNotArchived(t *testing.T) {
	r := harness.Start(t, harness.Options{Policy: oncePolicy, Settings: func(s *settings.Values) { s.MaxBodyMB = 8 }})
	once := r.Subscribe("once", "once")
	if a := r.Post(harness.ChatPath, harness.ChatBody, "api-key="+once); a.Status != 200 {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	text := `{"model":"chat","messages":[{"role":"user","content":"` + strings.Repeat("secret ", 300_000) + `"}]}`
	foreign := strings.Replace(text, `"chat"`, `"emb"`, 1)
	for name, c := range map[string]struct {
		path, key, body string
		status          int
		read            bool
	}{
		"no key":                    {harness.ChatPath, noKey, text, 401, false},
		"used up":                   {harness.ChatPath, once, text, 403, false},
		"used up, v1":               {v1Chat, once, text, 403, false},
		"used up, small":            {harness.ChatPath, once, harness.ChatBody, 403, true},
		"model in the path":         {"/openai/deployments/emb" + chatTail, r.Subscribe("narrow", "narrow"), text, 403, false},
		"model in the body":         {v1Chat, r.Subscribe("narrow", "narrow-v1"), foreign, 403, true},
		"no JSON":                   {v1Chat, r.Key, text[1:], 400, true},
		"no such deployment":        {"/openai/deployments/none" + chatTail, r.Key, text, 404, false},
		"no such operation":         {"/openai/v1/nothing", r.Key, text, 404, false},
		"longer than what may come": {harness.ChatPath, r.Key, strings.Repeat("x", 8<<20+1), 413, false},
	} {
		a := r.Post(c.path, c.body, "api-key="+c.key)
		if a.Err != nil || a.Status != c.status {
			t.Errorf("%s: %d, %v", name, a.Status, a.Err)
			continue
		}
		rec := r.RecordOf(a)
		b := rec.Request
		if b == nil || b.Size != int64(len(c.body)) || b.HasContent() || b.Blob != "" || (b.SHA256 != "") != c.read {
			t.Errorf("%s: the record has %+v", name, b)
		}
		if rec.Outcome != gateway.Refused {
			t.Errorf("%s: outcome %s", name, rec.Outcome)
		}
	}
}
