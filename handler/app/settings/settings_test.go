package settings

import (
	"strings"
	"testing"

	"aoaigateway/handler/auth/authtest"
)

func TestLogLevelRefusesOtherWords(t *testing.T) {
	for _, value := range []string{"verbose", "INFO", "info+2", "4"} {
		_, err := For(Managing, []string{"GATEWAY_TABLE_ENDPOINT=https://x.table.core.windows.net", "GATEWAY_LOG_LEVEL=" + value})
		if err == nil || !strings.Contains(err.Error(), "GATEWAY_LOG_LEVEL: must be debug, info, warn or error, not ") {
			t.Errorf("%q: %v", value, err)
		}
	}
}

func TestDefaultsAreValid(t *testing.T) {
	for _, row := range Rows {
		if row.Default == "" {
			continue
		}
		if err := row.parse(&Values{}, row.Default); err != nil {
			t.Errorf("%s: the default %q: %v", row.Name, row.Default, err)
		}
	}
}

// What Flex Consumption sets, and the older plans: secrets of local work are refused on each.
func TestAzureIsRecognised(t *testing.T) {
	local := []string{"GATEWAY_STORAGE=UseDevelopmentStorage=true", `GATEWAY_SECRETS={"a":"b"}`}
	if s, err := For(Managing, local); err != nil || s.InAzure {
		t.Errorf("locally: %v, in Azure: %t", err, s.InAzure)
	}
	for _, name := range []string{"WEBSITE_SITE_NAME", "WEBSITE_SKU_NAME", "WEBSITE_INSTANCE_ID"} {
		s, err := For(Managing, append([]string{name + "=x"}, local...))
		if !s.InAzure || err == nil ||
			!strings.Contains(err.Error(), "GATEWAY_STORAGE: contains an account key, which is not allowed in Azure") ||
			!strings.Contains(err.Error(), "GATEWAY_SECRETS: not allowed in Azure") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEntraSettings(t *testing.T) {
	id := authtest.Client
	for name, c := range map[string]struct {
		env  []string
		want string
	}{
		"tenant's name": {
			[]string{"GATEWAY_ENTRA_TENANT=example.com", "GATEWAY_ENTRA_AUDIENCE=" + id},
			"GATEWAY_ENTRA_TENANT: must be the id of the tenant",
		},
		"no audience":      {[]string{"GATEWAY_ENTRA_TENANT=" + id}, "set both or neither"},
		"no tenant":        {[]string{"GATEWAY_ENTRA_AUDIENCE=" + id}, "set both or neither"},
		"product alone":    {[]string{"GATEWAY_ENTRA_PRODUCT=default"}, "GATEWAY_ENTRA_PRODUCT: needs"},
		"audience by name": {[]string{"GATEWAY_ENTRA_TENANT=" + id, "GATEWAY_ENTRA_AUDIENCE=api://x, gateway"}, `not "gateway"`},
		"plain http":       {[]string{"GATEWAY_ENTRA_AUTHORITY=http://login.example.com"}, "GATEWAY_ENTRA_AUTHORITY: must begin with https://"},
	} {
		if _, err := For(Serving, c.env); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	s, err := For(Managing, []string{
		"GATEWAY_TABLE_ENDPOINT=https://x.table.core.windows.net", "GATEWAY_ENTRA_TENANT=" + strings.ToUpper(id),
		"GATEWAY_ENTRA_AUDIENCE=api://x , " + id, "GATEWAY_ENTRA_PRODUCT=bronze", "GATEWAY_POLICY=../../../infra/policy.yaml",
	})
	if err != nil || s.Entra.Tenant != id || len(s.Entra.Audience) != 2 {
		t.Fatalf("%+v, %v", s.Entra, err)
	}
	if _, err := LoadPolicy(s); err == nil || !strings.Contains(err.Error(), "has no product bronze") {
		t.Errorf("a product that the policy lacks: %v", err)
	}
}

func TestSettingsRequiredByPurpose(t *testing.T) {
	table, blob := "GATEWAY_TABLE_ENDPOINT=https://x.table.core.windows.net", "GATEWAY_BLOB_ENDPOINT=https://x.blob.core.windows.net"
	for name, c := range map[string]struct {
		purpose Purpose
		env     []string
		want    string // empty = enough
	}{
		"managing":                {Managing, []string{table}, ""},
		"managing, nothing":       {Managing, nil, "GATEWAY_TABLE_ENDPOINT: not set"},
		"verifying":               {ReadingBlobs, []string{table, blob}, ""},
		"verifying without blobs": {ReadingBlobs, []string{table}, "GATEWAY_BLOB_ENDPOINT: not set"},
		"serving":                 {Serving, []string{table, blob}, "GATEWAY_BACKENDS: not set"},
	} {
		_, err := For(c.purpose, c.env)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
