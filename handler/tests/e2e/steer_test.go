package e2e_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/tests/harness"
)

func TestHeadroomSteersLongRequests(t *testing.T) {
	r := harness.Start(t, harness.Options{})
	r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoStatus, Status: 200, Times: 1, Headers: map[string]string{
		"x-ratelimit-remaining-tokens": "300", "x-ratelimit-remaining-requests": "50",
	}, Body: `{"object":"chat.completion","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`})
	long := strings.Replace(harness.ChatBody, "{", `{"max_tokens":500,`, 1)
	for i, c := range []struct{ body, by string }{{harness.ChatBody, "a"}, {long, "b"}, {harness.ChatBody, "a"}} {
		if rec := r.RecordOf(r.Post(harness.ChatPath, c.body)); rec.Region != c.by || len(rec.Attempts) != 1 {
			t.Errorf("request %d: answered by %s after %+v, want %s at once", i, rec.Region, rec.Attempts, c.by)
		}
		if i == 0 {
			health := string(r.Do(http.MethodGet, "/manage/api/regions", "", "api-key="+harness.AdminKey).Body)
			if !strings.Contains(health, `"remainingTokens":300,"remainingRequests":50`) {
				t.Errorf("health %s", health)
			}
		}
	}
}

func TestModelFirstByteTimeout(t *testing.T) {
	r := harness.Start(t, harness.Options{Policy: `
version: 1
models: {chat: {firstByteTimeout: 1s}}
products: {default: {models: [chat]}}
`})
	r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoHang})
	began := time.Now()
	rec := r.RecordOf(r.Post(harness.ChatPath, harness.ChatBody))
	if rec.Region != "b" || rec.Attempts[0].Reason != "first-byte-timeout" || time.Since(began) > 20*time.Second {
		t.Errorf("%s after %v: %+v", rec.Region, time.Since(began), rec.Attempts)
	}
}
