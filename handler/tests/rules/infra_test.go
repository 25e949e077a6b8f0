package rules_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"aoaigateway/handler/app/settings"
)

// between returns the lines of a template from the first line that ends in begin up to the
// next line that is end.
func between(t *testing.T, file, begin, end string) []string {
	t.Helper()
	data, err := os.ReadFile("../../../infra/" + file)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(data), begin+"\n")
	body, _, ok2 := strings.Cut(rest, "\n"+end+"\n")
	if !ok || !ok2 {
		t.Fatalf("%s has no %q … %q", file, begin, end)
	}
	return strings.Split(body, "\n")
}

var line = regexp.MustCompile(`^\s*(\w+): (.*)$`)

// backendsOfTemplate returns GATEWAY_BACKENDS as main.bicep computes it for two regions.
func backendsOfTemplate(t *testing.T) string {
	t.Helper()
	var list []map[string]any
	for _, region := range []string{"eastus2", "swedencentral"} {
		made := map[string]any{}
		for _, text := range between(t, "main.bicep", "var regionBackends = map(regions, r => {", "})") {
			m := line.FindStringSubmatch(text)
			switch {
			case m == nil:
				t.Fatalf("%q", text)
			case m[2] == "r":
				made[m[1]] = region
			case m[1] == "models":
				made[m[1]] = map[string]string{"gpt-5.4-mini": "gpt-5.4-mini", "text-embedding-3-small": "text-embedding-3-small"}
			case strings.HasPrefix(m[2], "'"):
				made[m[1]] = strings.NewReplacer("${r}", region, "${token}", "0a1b2c3d4e5f6").Replace(strings.Trim(m[2], "'"))
			default:
				n, err := strconv.Atoi(m[2])
				if err != nil {
					t.Fatalf("%q", text)
				}
				made[m[1]] = n
			}
		}
		list = append(list, made)
	}
	out, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestTemplateSettingsAreValid(t *testing.T) {
	values := map[string]string{
		"backends": backendsOfTemplate(t), "logsEndpoint": "https://dcr-0a1b-eastus2.logs.z1.ingest.monitor.azure.com",
		"logsRule": "dcr-0123456789abcdef0123456789abcdef", "logsStream": "Custom-GatewayLogs_CL", "'gateway-admin-key'": "gateway-admin-key",
		"store.vault":                  "https://kv-0a1b2c3d4e5f6.vault.azure.net/",
		"identity.properties.clientId": "11111111-2222-3333-4444-555555555555",
		"store.table":                  "https://st0a1b2c3d4e5f6.table.core.windows.net/",
		"store.blob":                   "https://st0a1b2c3d4e5f6.blob.core.windows.net/",
		"closed ? 'true' : 'false'":    "true",
		"string(maxBodyMB)":            "11",
		"entraTenantId":                "11111111-2222-3333-4444-555555555555",
		"entraAudience":                "66666666-7777-8888-9999-000000000000", "entraProduct": "",
	}
	env := []string{settings.AzureVariable + "=1", settings.PortVariable + "=8080"}
	for _, text := range between(t, "app.bicep", "var appSettings = {", "}") {
		m := line.FindStringSubmatch(text)
		if m == nil {
			if strings.HasPrefix(strings.TrimSpace(text), "//") {
				continue
			}
			t.Fatalf("%q", text)
		}
		if !strings.HasPrefix(m[1], "GATEWAY_") && m[1] != settings.ClientVariable {
			continue
		}
		value, ok := values[m[2]]
		if !ok {
			t.Fatalf("%s: what is %s?", m[1], m[2])
		}
		env = append(env, m[1]+"="+value)
	}
	s, err := settings.For(settings.Serving, env)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Backends) != 2 || !s.Fronted || s.ClientID == "" || s.LogsURL == "" || s.Entra.Tenant == "" ||
		s.Backends[1].Models["gpt-5.4-mini"] == "" || s.MaxBodyMB != 11 {
		t.Errorf("%+v", s)
	}
}
