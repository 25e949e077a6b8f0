package main

import (
	"strings"
	"testing"
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

func TestRefusalsAreAPIManagementsAndNameTheLimit(t *testing.T) {
	r := newRig(t, rigOptions{regions: 1, policy: limitsPolicy})
	for range 2 {
		a := r.post(chatPath, chatBody)
		if a.status != 200 || a.header.Get("X-Gateway-Remaining-Requests") == "" || a.header.Get("X-Gateway-Remaining-Tokens") == "" || a.header.Get("X-Gateway-Remaining-Quota-Tokens") == "" {
			t.Fatalf("%d, headers %v", a.status, a.header)
		}
	}
	a := r.post(chatPath, chatBody)
	if a.status != 429 || !strings.HasPrefix(a.event(t, "message").(string), "Rate limit is exceeded. Try again in ") || a.event(t, "error", "limit") == "" {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a.header.Get("Retry-After") == "" || a.header.Get("Retry-After-Ms") == "" {
		t.Errorf("headers %v", a.header)
	}
	if rec := r.recordOf(a); rec.ErrorReason != "RateLimitExceeded" || rec.Limit == "" || rec.Outcome != "refused" {
		t.Errorf("record %+v", rec)
	}

	r.key = r.subscribe("hard", "team-hard")
	for i := range 30 {
		a := r.post(chatPath, chatBody)
		if a.status == 403 {
			if i == 0 || !strings.HasPrefix(a.event(t, "message").(string), "Token quota is exceeded. Try again in ") || a.event(t, "error", "limit") != "the-hard-one" {
				t.Errorf("request %d: %s", i, a.body)
			}
			return
		}
	}
	t.Error("the hard limit never refused")
}
