package e2e_test

import (
	"strings"
	"testing"

	"aoaigateway/handler/tests/harness"
)

const limitsPolicy = `
version: 1
models:
  chat: {contextWindow: 128000}
  emb: {contextWindow: 8192}
  modelname: {contextWindow: 4096}
products:
  default:
    models: ["*"]
    limits:
      - {requests: 2, per: minute, hard: true}
      - {tokens: 100000, per: minute}
      - {tokens: 1000000, per: month}
  hard:
    models: ["*"]
    maxOutputTokens: 100
    limits:
      - {name: the-hard-one, tokens: 300, per: month, hard: true}
`

func TestLimitRefusals(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1, Policy: limitsPolicy})
	for range 2 {
		a := r.Post(harness.ChatPath, harness.ChatBody)
		if a.Status != 200 || a.Header.Get("X-Gateway-Remaining-Requests") == "" || a.Header.Get("X-Gateway-Remaining-Tokens") == "" ||
			a.Header.Get("X-Gateway-Remaining-Quota-Tokens") == "" {
			t.Fatalf("%d, headers %v", a.Status, a.Header)
		}
	}
	a := r.Post(harness.ChatPath, harness.ChatBody)
	if a.Status != 429 || !strings.HasPrefix(a.Event(t, "message").(string), "Rate limit is exceeded. Try again in ") ||
		a.Event(t, "error", "limit") == "" {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	if a.Header.Get("Retry-After") == "" || a.Header.Get("Retry-After-Ms") == "" {
		t.Errorf("headers %v", a.Header)
	}
	if rec := r.RecordOf(a); rec.ErrorReason != "RateLimitExceeded" || rec.Limit == "" || rec.Outcome != "refused" {
		t.Errorf("record %+v", rec)
	}

	r.Key = r.Subscribe("hard", "team-hard")
	for i := range 30 {
		a := r.Post(harness.ChatPath, harness.ChatBody)
		if a.Status == 403 {
			if i == 0 || !strings.HasPrefix(a.Event(t, "message").(string), "Token quota is exceeded. Try again in ") ||
				a.Event(t, "error", "limit") != "the-hard-one" {
				t.Errorf("request %d: %s", i, a.Body)
			}
			return
		}
	}
	t.Error("the hard limit never refused")
}
