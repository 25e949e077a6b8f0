package process_test

import (
	"path/filepath"
	"strings"
	"testing"

	"aoaigateway/handler/app"
	"aoaigateway/handler/auth/authtest"
	"aoaigateway/handler/tests/harness"
)

func TestEntraSettingsNameMistakes(t *testing.T) {
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
		if _, err := app.SettingsFor(app.Serving, c.env); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	s, err := app.SettingsFor(app.Managing, []string{"GATEWAY_TABLE_ENDPOINT=https://x.table.core.windows.net", "GATEWAY_ENTRA_TENANT=" + strings.ToUpper(id), "GATEWAY_ENTRA_AUDIENCE=api://x , " + id, "GATEWAY_ENTRA_PRODUCT=bronze", "GATEWAY_POLICY=../infra/policy.yaml"})
	if err != nil || s.Entra.Tenant != id || len(s.Entra.Audience) != 2 {
		t.Fatalf("%+v, %v", s.Entra, err)
	}
	if _, err := app.LoadPolicy(s); err == nil || !strings.Contains(err.Error(), "has no product bronze") {
		t.Errorf("a product that the policy lacks: %v", err)
	}
}

func TestCommandNeedsOnlyUsedSettings(t *testing.T) {
	table, blob := "GATEWAY_TABLE_ENDPOINT=https://x.table.core.windows.net", "GATEWAY_BLOB_ENDPOINT=https://x.blob.core.windows.net"
	for name, c := range map[string]struct {
		what app.Purpose
		env  []string
		want string // empty = enough
	}{
		"managing":                {app.Managing, []string{table}, ""},
		"managing, nothing":       {app.Managing, nil, "GATEWAY_TABLE_ENDPOINT: not set"},
		"verifying":               {app.ReadingBlobs, []string{table, blob}, ""},
		"verifying without blobs": {app.ReadingBlobs, []string{table}, "GATEWAY_BLOB_ENDPOINT: not set"},
		"serving":                 {app.Serving, []string{table, blob}, "GATEWAY_BACKENDS: not set"},
	} {
		_, err := app.SettingsFor(c.what, c.env)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestCommandNeedsPolicyForCreate(t *testing.T) {
	server := harness.StartAzurite(t)
	environ := []string{"GATEWAY_STORAGE=" + server.ConnectionString(), "GATEWAY_POLICY=" + filepath.Join(t.TempDir(), "none.yaml")}
	fails(t, environ, []string{"set GATEWAY_POLICY to it", "none.yaml"}, "subscription", "create", "Team")
	ok(t, environ[:1:1], "policy", "check", "../../../infra/policy.yaml")
	ok(t, append(environ[:1:1], "GATEWAY_POLICY=../infra/policy.yaml"), "subscription", "create", "Team", "--id", "team")
	for _, args := range [][]string{{"subscription", "list"}, {"subscription", "show", "team"}, {"subscription", "rotate", "team"}, {"subscription", "suspend", "team"}, {"usage"}, {"verify"}} {
		ok(t, environ, args...)
	}
}
