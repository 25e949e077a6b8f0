package inputs_test

import (
	"strings"
	"testing"
)

// provisioned is an environment after azd env refresh on a machine that made nothing.
func provisioned(network, certificateKept string) *azd {
	return refreshed(map[string]string{
		"AZURE_RESOURCE_GROUP": "rg-trial", "AZURE_LOCATION": "eastus2", "GW_DNS_LABEL": "gw-first", "GW_NETWORK": network,
		"GW_NETWORK_BEFORE": network, "GW_CERTIFICATE_KEPT": certificateKept,
	})
}

// The vault of a public gateway has no certificate that could be kept.
func TestFirstPrivateMakesCertificate(t *testing.T) {
	a := provisioned("public", "false")
	root := project(t)
	a.make(t, root)
	if a.values["GW_TLS_PFX"] != "" || a.values["GW_WRITE_MARK"] != "" || a.values["GW_SECRETS_KEPT"] != "true" {
		t.Fatalf("public: %v", a.values)
	}
	a.values["GW_NETWORK"] = "private"
	a.make(t, root)
	if a.values["GW_TLS_PFX"] == "" || a.values["GW_WRITE_MARK"] == "" || a.values["GW_DNS_LABEL"] != "gw-first" ||
		a.values["GW_ADMIN_KEY"] != "" {
		t.Errorf("private: %v", a.values)
	}
	other := provisioned("private", "true")
	other.make(t, project(t))
	if other.values["GW_TLS_PFX"] != "" {
		t.Error("a third machine made another certificate")
	}
}

func TestPublicToPrivateTakesTwoSteps(t *testing.T) {
	a, root := provisioned("public", "false"), project(t)
	if out := a.make(t, root); strings.Contains(out, "GW_KEEP_OPEN") {
		t.Errorf("public: %s", out)
	}
	a.values["GW_NETWORK"] = "private"
	for range 2 { // the first step fails, and somebody asks for the second
		out := a.make(t, root)
		if a.values["GW_KEEP_OPEN"] != "true" || !strings.Contains(out, "azd env set GW_KEEP_OPEN false && azd provision") {
			t.Errorf("the first step: %q, %v", out, a.values)
		}
		a.values["GW_KEEP_OPEN"] = "false"
	}
	a.values["GW_NETWORK_BEFORE"] = "private"
	if out := a.make(t, root); a.values["GW_KEEP_OPEN"] != "false" || strings.Contains(out, "GW_KEEP_OPEN") {
		t.Errorf("the second step: %q, %v", out, a.values)
	}
	fresh := &azd{values: map[string]string{"GW_NETWORK": "private"}}
	if fresh.make(t, root); fresh.values["GW_KEEP_OPEN"] != "" {
		t.Errorf("a new environment: %v", fresh.values)
	}
}

// Each writing makes another version of a secret.
func TestMarkChangesWithSecrets(t *testing.T) {
	a, root := &azd{values: map[string]string{"GW_NETWORK": "private"}}, project(t)
	next := func() string {
		a.make(t, root)
		return a.values["GW_WRITE_MARK"]
	}
	first := next()
	if first == "" || next() != first {
		t.Error("the same secrets got another mark")
	}
	a.values["GW_WRITTEN_MARK"] = first
	a.provisioned()
	if next() != first {
		t.Error("after the provision the same secrets got another mark")
	}
	a.values["GW_ADMIN_KEY"] = strings.Repeat("k", 32)
	second := next()
	if second == first {
		t.Error("another key, and the same mark")
	}
	a.groups = nil // somebody deleted the group with its vault
	if next() == second {
		t.Error("the vault is gone, and the secrets would not be written")
	}
}
