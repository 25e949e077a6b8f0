package front

import (
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"aoaigateway/handler/gateway"
)

func TestCheckPath(t *testing.T) {
	for path, allowed := range map[string]bool{
		"/openai/v1/chat/completions":             true,
		"/openai/v1/chat/completions/":            true,
		"/openai/deployments/a%20b/completions":   true,
		"/openai/v1%2fchat/completions":           false,
		"/openai/v1%2Fchat":                       false,
		"/openai/v1%5cchat":                       false,
		"/openai/v1%00":                           false,
		"/openai/v1%252fchat":                     false,
		"/openai/deployments/../v1/files":         false,
		"/openai/deployments/%2e%2e/v1/files":     false,
		"/openai/./v1/files":                      false,
		"/openai//v1/files":                       false,
		"/openai/deployments//chat/completions":   false,
		`/openai/deployments\x/chat/completions`:  false,
		"/openai/deployments/...hidden/responses": true,
	} {
		u, err := url.Parse(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkPath(u); (err == nil) != allowed || err != nil && gateway.KindOf(err) != gateway.NotFound {
			t.Errorf("%s: %v", path, err)
		}
	}
	if got := trimSlashes("///openai/v1"); got != "/openai/v1" {
		t.Errorf("doubled slashes before the path: %s", got)
	}
}

func TestCheckHeaderBoundsSum(t *testing.T) {
	r := httptest.NewRequest("GET", "/openai/v1/files", nil)
	r.RequestURI = "/openai/v1/files"
	r.Header.Set("X-A", strings.Repeat("x", maxHeader-len(r.RequestURI)-len("X-A")))
	if err := checkHeader(r); err != nil {
		t.Errorf("at the bound: %v", err)
	}
	r.Header.Add("X-A", "")
	if err := checkHeader(r); gateway.KindOf(err) != gateway.HeaderTooLarge {
		t.Errorf("over the bound: %v", err)
	}
}
