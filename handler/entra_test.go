package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	azpolicy "github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"aoaigateway/handler/auth"
	"aoaigateway/handler/auth/authtest"
	"aoaigateway/handler/gateway"
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

// tenantRig is a rig that takes a tenant's tokens.
func tenantRig(t *testing.T, policy string) (*rig, *authtest.Issuer) {
	t.Helper()
	tenant := authtest.New()
	return newRig(t, rigOptions{policy: policy, settings: func(s *settings) {
		s.Entra = entraSettings{Tenant: authtest.Tenant, Audience: []string{authtest.Client}}
	}, edges: func(e *edges) { e.transport = eitherWay{t, tenant, e.transport} }}), tenant
}

// eitherWay leads to the tenant or to the regions, which no token may reach.
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

func TestARecordCarriesTheUserThatATokenProves(t *testing.T) {
	r, tenant := tenantRig(t, userPolicy)
	if tenant.Asked() != 0 {
		t.Errorf("the start asked Entra %d times", tenant.Asked())
	}
	token := tenant.Token(authtest.Claims("product.gold"))
	for name, c := range map[string]struct {
		headers []string
		want    gateway.Caller
	}{
		"beside a key": {[]string{"api-key=" + r.key}, gateway.Caller{Subscription: "team-a", Name: "team-a", Product: "default", KeySlot: "primary", User: authtest.Person}},
		"alone":        {nil, gateway.Caller{Subscription: "entra:" + authtest.Person, Name: "kim@example.com", Product: "gold", User: authtest.Person}},
	} {
		a := r.do(http.MethodPost, chatPath, chatBody, append(c.headers, "Authorization=Bearer "+token, "Content-Type=application/json")...)
		if a.status != http.StatusOK {
			t.Fatalf("%s: status %d: %s", name, a.status, a.body)
		}
		got := r.recordOf(a).Caller
		if c.want.IP = got.IP; got != c.want {
			t.Errorf("%s: the record names %+v, want %+v", name, got, c.want)
		}
	}
	r.tokenIsNowhere(token)
}

// tokenIsNowhere: the journal has not seen it.
func (r *rig) tokenIsNowhere(token string) {
	r.t.Helper()
	signature := token[strings.LastIndexByte(token, '.')+1:]
	for _, line := range readJournal(r.t, r.blobs) {
		if all, _ := json.Marshal(line); strings.Contains(string(all), signature) {
			r.t.Errorf("the journal holds the token: %s", all)
		}
	}
}

func TestALimitByUserCountsThePersonOverKeys(t *testing.T) {
	r, tenant := tenantRig(t, userPolicy)
	keys := []string{r.key, r.subscribe("default", "team-b")}
	kim, lee := authtest.Claims(), authtest.Claims()
	lee["oid"] = "66666666-0000-4000-8000-000000000006"
	ask := func(key string, claims map[string]any) int {
		return r.do(http.MethodPost, chatPath, chatBody, "api-key="+key, "Authorization=Bearer "+tenant.Token(claims), "Content-Type=application/json").status
	}
	if a, b, c, d := ask(keys[0], kim), ask(keys[1], kim), ask(keys[1], kim), ask(keys[1], lee); a != 200 || b != 200 || c != 403 || d != 200 {
		t.Errorf("statuses %d, %d, %d, and another person's %d", a, b, c, d)
	}
}

func TestTokensThatMayNotCallAreRefusedAndRecorded(t *testing.T) {
	r, tenant := tenantRig(t, userPolicy)
	for name, c := range map[string]struct {
		claims map[string]any
		status int
		reason string
	}{
		"no role":            {authtest.Claims(), 403, "TokenClaimValueNotAllowed"},
		"no such product":    {authtest.Claims("product.silver"), 403, ""},
		"model not included": {authtest.Claims("product.gold"), 403, ""},
		"another tenant":     {func() map[string]any { c := authtest.Claims(); c["tid"] = authtest.App; return c }(), 401, "TokenIssuerNotAllowed"},
	} {
		a := r.do(http.MethodPost, "/openai/deployments/emb/embeddings?api-version=2024-10-21", `{"input":"x"}`, "Authorization=Bearer "+tenant.Token(c.claims), "Content-Type=application/json")
		rec := r.recordOf(a)
		if a.status != c.status || c.reason != "" && rec.ErrorReason != c.reason || c.status == 403 && rec.User != authtest.Person {
			t.Errorf("%s: status %d, record %s of %q: %s", name, a.status, rec.ErrorReason, rec.User, a.body)
		}
	}
}

func TestTheAdminRoleManagesAndOtherRolesDoNot(t *testing.T) {
	r, tenant := tenantRig(t, userPolicy)
	for name, c := range map[string]struct {
		header string
		want   int
	}{
		"role":          {"Authorization=Bearer " + tenant.Token(authtest.Claims(auth.AdminRole)), 200},
		"in api-key":    {"api-key=" + tenant.Token(authtest.AppClaims(auth.AdminRole)), 200},
		"other role":    {"Authorization=Bearer " + tenant.Token(authtest.Claims("product.gold")), 403},
		"the admin key": {"Authorization=Bearer " + adminKey, 200},
		"unsigned":      {"Authorization=Bearer " + tenant.Token(authtest.Claims(auth.AdminRole)) + "x", 401},
	} {
		if a := r.do(http.MethodGet, "/manage/api/subscriptions", "", c.header); a.status != c.want {
			t.Errorf("%s: status %d, want %d: %s", name, a.status, c.want, a.body)
		}
	}
}

func TestEntraSettingsNameTheirMistakes(t *testing.T) {
	id := authtest.Client
	for name, c := range map[string]struct {
		env  []string
		want string
	}{
		"tenant's name":    {[]string{"GATEWAY_ENTRA_TENANT=example.com", "GATEWAY_ENTRA_AUDIENCE=" + id}, "GATEWAY_ENTRA_TENANT: must be the tenant's id"},
		"no audience":      {[]string{"GATEWAY_ENTRA_TENANT=" + id}, "set both or neither"},
		"no tenant":        {[]string{"GATEWAY_ENTRA_AUDIENCE=" + id}, "set both or neither"},
		"product alone":    {[]string{"GATEWAY_ENTRA_PRODUCT=default"}, "GATEWAY_ENTRA_PRODUCT: goes with"},
		"audience by name": {[]string{"GATEWAY_ENTRA_TENANT=" + id, "GATEWAY_ENTRA_AUDIENCE=api://x, gateway"}, `not "gateway"`},
		"plain http":       {[]string{"GATEWAY_ENTRA_AUTHORITY=http://login.example.com"}, "GATEWAY_ENTRA_AUTHORITY: must begin with https://"},
	} {
		if _, err := loadSettings(c.env); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	s, err := settingsFor(managing, []string{"GATEWAY_TABLE_ENDPOINT=https://x.table.core.windows.net", "GATEWAY_ENTRA_TENANT=" + strings.ToUpper(id), "GATEWAY_ENTRA_AUDIENCE=api://x , " + id, "GATEWAY_ENTRA_PRODUCT=bronze", "GATEWAY_POLICY=../infra/policy.yaml"})
	if err != nil || s.Entra.Tenant != id || len(s.Entra.Audience) != 2 {
		t.Fatalf("%+v, %v", s.Entra, err)
	}
	if _, err := loadPolicy(s); err == nil || !strings.Contains(err.Error(), "has no product bronze") {
		t.Errorf("a product that the policy lacks: %v", err)
	}
}

func TestVerbsWantOnlyTheSettingsTheyUse(t *testing.T) {
	table, blob := "GATEWAY_TABLE_ENDPOINT=https://x.table.core.windows.net", "GATEWAY_BLOB_ENDPOINT=https://x.blob.core.windows.net"
	for name, c := range map[string]struct {
		what work
		env  []string
		want string // empty = enough
	}{
		"managing":                {managing, []string{table}, ""},
		"managing, nothing":       {managing, nil, "GATEWAY_TABLE_ENDPOINT: not set"},
		"verifying":               {readingBlobs, []string{table, blob}, ""},
		"verifying without blobs": {readingBlobs, []string{table}, "GATEWAY_BLOB_ENDPOINT: not set"},
		"serving":                 {serving, []string{table, blob}, "GATEWAY_BACKENDS: not set"},
	} {
		_, err := settingsFor(c.what, c.env)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestOnStorageOnlyCreateNeedsThePolicy(t *testing.T) {
	server := startAzurite(t)
	environ := []string{"GATEWAY_STORAGE=" + server.ConnectionString(), "GATEWAY_POLICY=" + filepath.Join(t.TempDir(), "none.yaml")}
	fails(t, environ, []string{"set GATEWAY_POLICY to it", "none.yaml"}, "subscription", "create", "Team")
	ok(t, environ[:1:1], "policy", "check", "../infra/policy.yaml")
	ok(t, append(environ[:1:1], "GATEWAY_POLICY=../infra/policy.yaml"), "subscription", "create", "Team", "--id", "team")
	for _, args := range [][]string{{"subscription", "list"}, {"subscription", "show", "team"}, {"subscription", "rotate", "team"}, {"subscription", "suspend", "team"}, {"usage"}, {"verify"}} {
		ok(t, environ, args...)
	}
}

// The person's token comes from az, else from azd; a stand-in for each prints one.
func TestTheCommandLineUsesThePersonSignedInWithAzOrAzd(t *testing.T) {
	for name, c := range map[string]struct{ az, azd, want string }{
		"az":               {`echo '{"accessToken":"from-az","expires_on":4102444800}'`, `echo '{"token":"from-azd","expiresOn":"2099-12-31T00:00:00Z"}'`, "from-az"},
		"az is signed out": {`echo "Please run 'az login' to setup account." >&2; exit 1`, `echo '{"token":"from-azd","expiresOn":"2099-12-31T00:00:00Z"}'`, "from-azd"},
	} {
		t.Run(name, func(t *testing.T) {
			bin := t.TempDir()
			for tool, script := range map[string]string{"az": c.az, "azd": c.azd} {
				if err := os.WriteFile(filepath.Join(bin, tool), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
			credential, err := settings{TableURL: "https://x.table.core.windows.net"}.operator()
			if err != nil {
				t.Fatal(err)
			}
			token, err := credential.GetToken(t.Context(), azpolicy.TokenRequestOptions{Scopes: []string{"https://storage.azure.com/.default"}})
			if err != nil || token.Token != c.want {
				t.Errorf("%q, %v; want %q", token.Token, err, c.want)
			}
		})
	}
}
