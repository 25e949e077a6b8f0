package e2e_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"aoaigateway/handler/app"
	"aoaigateway/handler/app/settings"
	"aoaigateway/handler/auth"
	"aoaigateway/handler/auth/authtest"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal/journaltest"
	"aoaigateway/handler/tests/harness"
)

const userPolicy = `
version: 1
models: {}
products:
  default:
    models: ["*"]
    limits:
      - {requests: 2, per: day, by: user, hard: true}
  gold:
    models: [chat]
`

// withTenant starts a gateway that accepts the tokens of a simulated tenant.
func withTenant(t *testing.T, policy string) (*harness.Gateway, *authtest.Issuer) {
	t.Helper()
	tenant := authtest.New()
	return harness.Start(t, harness.Options{Policy: policy, Settings: func(s *settings.Values) {
		s.Entra = auth.EntraOptions{Tenant: authtest.Tenant, Audience: []string{authtest.Client}}
	}, Services: func(e *app.Services) { e.Transport = eitherWay{t, tenant, e.Transport} }}), tenant
}

// eitherWay sends requests to the tenant or to the regions. It checks that no token reaches
// a region.
type eitherWay struct {
	t               *testing.T
	tenant, regions http.RoundTripper
}

func (e eitherWay) RoundTrip(r *http.Request) (*http.Response, error) {
	for name, values := range r.Header {
		if strings.Contains(strings.Join(values, " "), ".eyJ") {
			e.t.Errorf("a token goes to %s in %s", r.URL, name)
		}
	}
	if r.URL.Host == "login.microsoftonline.com" {
		return e.tenant.RoundTrip(r)
	}
	return e.regions.RoundTrip(r)
}

func TestTokenNamesUserInRecord(t *testing.T) {
	r, tenant := withTenant(t, userPolicy)
	if tenant.Asked() != 0 {
		t.Errorf("the start asked Entra %d times", tenant.Asked())
	}
	token := tenant.Token(authtest.Claims("product.gold"))
	for name, c := range map[string]struct {
		headers []string
		want    gateway.Caller
	}{
		"beside a key": {[]string{"api-key=" + r.Key}, gateway.Caller{
			Subscription: "team-a", Name: "team-a", Product: "default",
			KeySlot: "primary", User: authtest.Person,
		}},
		"alone": {nil, gateway.Caller{
			Subscription: "entra:" + authtest.Person, Name: "kim@example.com", Product: "gold",
			User: authtest.Person,
		}},
	} {
		a := r.Do(http.MethodPost, harness.ChatPath, harness.ChatBody,
			append(c.headers, "Authorization=Bearer "+token, "Content-Type=application/json")...)
		if a.Status != http.StatusOK {
			t.Fatalf("%s: status %d: %s", name, a.Status, a.Body)
		}
		got := r.RecordOf(a).Caller
		if c.want.IP = got.IP; got != c.want {
			t.Errorf("%s: the record names %+v, want %+v", name, got, c.want)
		}
	}
	tokenIsNowhere(r, token)
}

// tokenIsNowhere checks that the journal does not contain the token.
func tokenIsNowhere(r *harness.Gateway, token string) {
	r.T.Helper()
	signature := token[strings.LastIndexByte(token, '.')+1:]
	for _, line := range journaltest.Lines(r.T, r.Blobs) {
		if all, _ := json.Marshal(line); strings.Contains(string(all), signature) {
			r.T.Errorf("the journal holds the token: %s", all)
		}
	}
}

func TestUserLimitCountsOverKeys(t *testing.T) {
	r, tenant := withTenant(t, userPolicy)
	keys := []string{r.Key, r.Subscribe("default", "team-b")}
	kim, lee := authtest.Claims(), authtest.Claims()
	lee["oid"] = "66666666-0000-4000-8000-000000000006"
	ask := func(key string, claims map[string]any) int {
		return r.Do(http.MethodPost, harness.ChatPath, harness.ChatBody, "api-key="+key, "Authorization=Bearer "+tenant.Token(claims),
			"Content-Type=application/json").Status
	}
	if a, b, c, d := ask(keys[0], kim), ask(keys[1], kim), ask(keys[1], kim), ask(keys[1], lee); a != 200 || b != 200 || c != 403 || d != 200 {
		t.Errorf("statuses %d, %d, %d, and another person's %d", a, b, c, d)
	}
}

func TestTokenRefusalsAreRecorded(t *testing.T) {
	r, tenant := withTenant(t, userPolicy)
	for name, c := range map[string]struct {
		claims map[string]any
		status int
		reason string
	}{
		"no role":            {authtest.Claims(), 403, "TokenClaimValueNotAllowed"},
		"no such product":    {authtest.Claims("product.silver"), 403, ""},
		"model not included": {authtest.Claims("product.gold"), 403, ""},
		"another tenant": {
			func() map[string]any { c := authtest.Claims(); c["tid"] = authtest.App; return c }(), 401,
			"TokenIssuerNotAllowed",
		},
	} {
		a := r.Do(http.MethodPost, "/openai/deployments/emb/embeddings?api-version=2024-10-21", `{"input":"x"}`,
			"Authorization=Bearer "+tenant.Token(c.claims), "Content-Type=application/json")
		rec := r.RecordOf(a)
		if a.Status != c.status || c.reason != "" && rec.ErrorReason != c.reason || c.status == 403 && rec.User != authtest.Person {
			t.Errorf("%s: status %d, record %s of %q: %s", name, a.Status, rec.ErrorReason, rec.User, a.Body)
		}
	}
}

func TestTokenAdminRole(t *testing.T) {
	r, tenant := withTenant(t, userPolicy)
	for name, c := range map[string]struct {
		header string
		want   int
	}{
		"role":          {"Authorization=Bearer " + tenant.Token(authtest.Claims(auth.AdminRole)), 200},
		"in api-key":    {"api-key=" + tenant.Token(authtest.AppClaims(auth.AdminRole)), 200},
		"other role":    {"Authorization=Bearer " + tenant.Token(authtest.Claims("product.gold")), 403},
		"the admin key": {"Authorization=Bearer " + harness.AdminKey, 200},
		"unsigned":      {"Authorization=Bearer " + tenant.Token(authtest.Claims(auth.AdminRole)) + "x", 401},
	} {
		if a := r.Do(http.MethodGet, "/manage/api/subscriptions", "", c.header); a.Status != c.want {
			t.Errorf("%s: status %d, want %d: %s", name, a.Status, c.want, a.Body)
		}
	}
}
