package inputs_test

import (
	"errors"
	"io"
	"maps"
	"os"
	"regexp"
	"strings"
	"testing"
)

// provisioned leaves the outputs in the environment, as azd does after a provision and after azd env refresh.
func (a *azd) provisioned() {
	data, _ := os.ReadFile("../../../infra/main.bicep")
	for _, m := range regexp.MustCompile(`(?m)^output (\w+) `).FindAllStringSubmatch(string(data), -1) {
		if _, set := a.values[m[1]]; !set {
			a.values[m[1]] = ""
		}
	}
	a.values["AZURE_RESOURCE_GROUP"], a.groups = "rg-trial", []string{"rg-trial"}
	a.last = "trial-1"
	a.values["GW_DEPLOYMENT"] = a.last
}

func refreshed(values map[string]string) *azd {
	a := &azd{values: values}
	a.provisioned()
	return a
}

// refuse runs the hook, which must refuse in these words.
func (a *azd) refuse(t *testing.T, want string) {
	t.Helper()
	environ := []string{"AZURE_ENV_NAME=trial"}
	for name, value := range a.values {
		environ = append(environ, name+"="+value)
	}
	if err := a.try(t, project(t), environ, io.Discard); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, not %q", err, want)
	}
}

// A second machine knows the outputs and no secret: nothing is made anew.
func TestInputsOfSecondMachine(t *testing.T) {
	a := &azd{values: map[string]string{"AZURE_SUBSCRIPTION_ID": "s-1"}, groups: []string{"rg-trial"}}
	a.refuse(t, "run azd env refresh first")
	if len(a.values) > 1 {
		t.Errorf("before azd env refresh: %v", a.values)
	}
	a.values["GW_ADMIN_KEY"] = strings.Repeat("k", 32)
	a.refuse(t, "run azd env refresh first")
	a = refreshed(map[string]string{"GW_DNS_LABEL": "gw-first", "GW_CERTIFICATE_KEPT": "true"})
	for range 2 {
		a.make(t, project(t))
		if a.values["GW_SECRETS_KEPT"] != "true" || a.values["GW_ADMIN_KEY"] != "" || a.values["GW_TLS_PFX"] != "" ||
			a.values["GW_DNS_LABEL"] != "gw-first" {
			t.Errorf("%v", a.values)
		}
	}
}

// The first machine has its own certificate, a long retention, or stands between public and private.
func TestSecondMachineNeedsSettings(t *testing.T) {
	for _, name := range []string{
		"GW_TLS_SECRET_ID", "GW_HOST_NAME", "GW_AUDIT_RETENTION_DAYS", "GW_MANAGE_SOURCES", "GW_ALLOWED_SOURCES", "GW_STORAGE_SKU",
		"GW_PRODUCTION", "GW_KEEP_OPEN",
	} {
		a := refreshed(map[string]string{"GW_NETWORK": "private", "AZURE_SUBSCRIPTION_ID": "s-1"})
		delete(a.values, "GW_DEPLOYMENT")
		a.refuse(t, "would deploy its own values or the defaults of ")
		a.refuse(t, name+", ")
	}
}

// Another machine has deployed since, and this one would undo it.
func TestStaleMachineIsRefused(t *testing.T) {
	a := refreshed(map[string]string{"GW_NETWORK": "public", "AZURE_SUBSCRIPTION_ID": "s-1", "GW_ADMIN_KEY": strings.Repeat("k", 32)})
	a.make(t, project(t))
	a.last = "trial-2"
	a.refuse(t, "another machine has deployed since")
}

func TestAzCannotSayStops(t *testing.T) {
	mute := errors.New("please run az login")
	a := &azd{values: map[string]string{"AZURE_SUBSCRIPTION_ID": "s-1"}, mute: mute}
	a.refuse(t, "az cannot say whether the resource group rg-trial exists")
	if len(a.values) > 1 {
		t.Errorf("made all the same: %v", a.values)
	}
	a.values["GW_WITHOUT_AZ"] = "true"
	if out := a.make(t, project(t)); a.values["GW_ADMIN_KEY"] == "" || !strings.Contains(out, "Not asked") {
		t.Errorf("somebody answers for az: %v", a.values)
	}
	b := refreshed(map[string]string{"AZURE_SUBSCRIPTION_ID": "s-1", "GW_WITHOUT_AZ": "true", "GW_NETWORK": "public"})
	b.mute = mute
	if b.make(t, project(t)); b.values["GW_ADMIN_KEY"] != "" || b.values["GW_SECRETS_KEPT"] != "true" {
		t.Errorf("a second machine without az: %v", b.values)
	}
}

// The hook preup does not know the subscription yet. What it made there is forgotten if the gateway exists.
func TestMadeBeforeQuestions(t *testing.T) {
	a := &azd{values: map[string]string{"AZURE_SUBSCRIPTION_ID": ""}, before: true}
	a.make(t, project(t))
	made := maps.Clone(a.values)
	if made["GW_ADMIN_KEY"] == "" || made["GW_DNS_LABEL"] == "" {
		t.Fatalf("%v", made)
	}
	a.before, a.groups, a.values["AZURE_SUBSCRIPTION_ID"] = false, []string{"rg-trial"}, "s-1"
	a.refuse(t, "run azd env refresh first")
	if a.values["GW_ADMIN_KEY"]+a.values["GW_TLS_PFX"]+a.values["GW_DNS_LABEL"] != "" {
		t.Errorf("what was made for another gateway stays: %v", a.values)
	}
	a.values, a.groups = maps.Clone(made), nil
	a.values["AZURE_SUBSCRIPTION_ID"] = "s-1"
	for range 2 { // the first provision fails, with a group that stands
		if a.make(t, project(t)); a.values["GW_ADMIN_KEY"] != made["GW_ADMIN_KEY"] {
			t.Errorf("a new gateway: %v", a.values)
		}
		a.groups = []string{"rg-trial"}
	}
	none := &azd{values: map[string]string{"AZURE_SUBSCRIPTION_ID": ""}}
	none.refuse(t, "AZURE_SUBSCRIPTION_ID is not set")
}

// Another machine has rotated the key; this one has the old key, and must not write it back.
func TestOldSecretsStayUnwritten(t *testing.T) {
	root, a := project(t), &azd{values: map[string]string{"GW_NETWORK": "private"}}
	a.make(t, root)
	a.values["GW_WRITTEN_MARK"] = a.values["GW_WRITE_MARK"]
	a.provisioned()
	a.values["GW_CERTIFICATE_KEPT"] = "true"
	a.values["GW_WRITTEN_MARK"] = "of-another-machine"
	for _, change := range []string{"", "ops@example.com"} {
		a.values["GW_ALERT_EMAIL"] = change
		if out := a.make(t, root); a.values["GW_WRITE_MARK"] != "of-another-machine" || !strings.Contains(out, "may be old") {
			t.Errorf("%q: %s %v", change, out, a.values)
		}
	}
	a.values["GW_ADMIN_KEY"] = strings.Repeat("n", 32)
	if a.make(t, root); a.values["GW_WRITE_MARK"] == "of-another-machine" {
		t.Error("a new key is not written")
	}
	if a.values["GW_TLS_PFX"] != "" {
		t.Error("the new key takes the old certificate along")
	}
	mark := a.values["GW_WRITE_MARK"] // the provision fails, and comes again
	if a.make(t, root); a.values["GW_WRITE_MARK"] != mark {
		t.Error("the new key counts as an old one")
	}
}

// azd down deletes every output from the environment.
func TestSettingsSurviveDown(t *testing.T) {
	a := &azd{values: map[string]string{"GW_NETWORK": "private", "GW_ALLOWED_SOURCES": "10.0.0.0/8", "GW_AUDIT_RETENTION_DAYS": "3650"}}
	a.make(t, project(t))
	a.provisioned()
	label := a.values["GW_DNS_LABEL"]
	data, _ := os.ReadFile("../../../infra/main.bicep")
	for _, m := range regexp.MustCompile(`(?m)^output (\w+) `).FindAllStringSubmatch(string(data), -1) {
		delete(a.values, m[1])
	}
	a.groups = nil
	out := a.make(t, project(t))
	if a.values["GW_ALLOWED_SOURCES"] != "10.0.0.0/8" || a.values["GW_AUDIT_RETENTION_DAYS"] != "3650" || a.values["GW_DNS_LABEL"] != label ||
		a.values["GW_CERTIFICATE_KEPT"] != "" || !strings.Contains(out, "Set again") {
		t.Errorf("%s %v", out, a.values)
	}
}
