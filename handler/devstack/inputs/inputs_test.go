package inputs_test

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"aoaigateway/handler/devstack/inputs"
)

// azd is an environment that `azd env set` writes.
type azd struct {
	values map[string]string
	calls  []string
	az     error
	groups []string
	says   map[string]string // az, by the end of the id that it is asked for
	now    time.Time
	mute   error  // az cannot say
	before bool   // the hook preup
	last   string // name of the last deployment
}

func (a *azd) run(_ context.Context, name string, args ...string) error {
	a.calls = append(a.calls, name+" "+strings.Join(args, " "))
	if name == "az" {
		return a.az
	}
	if !slices.Equal(args[:2], []string{"env", "set"}) {
		return errors.New("not asked for")
	}
	a.values[args[2]] = args[3]
	return nil
}

func (a *azd) make(t *testing.T, root string) string {
	t.Helper()
	var out strings.Builder
	environ := []string{"AZURE_ENV_NAME=trial", "AZURE_SUBSCRIPTION_ID=s-1"}
	for name, value := range a.values {
		environ = append(environ, name+"="+value)
	}
	if err := a.try(t, root, environ, &out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func (a *azd) try(t *testing.T, root string, environ []string, out io.Writer) error {
	t.Helper()
	return inputs.Make(t.Context(), inputs.Options{
		Root: root, Environ: environ, Run: a.run, Out: out,
		Exists: func(_ context.Context, group, _ string) (bool, error) {
			return slices.Contains(a.groups, group), a.mute
		},
		BeforeQuestions: a.before,
		Ask:             a.ask,
		Now:             func() time.Time { return cmp.Or(a.now, time.Now()) },
	})
}

// project is a folder with the real main.bicep.
func project(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "infra"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"main.bicep", "main.parameters.json"} {
		data, err := os.ReadFile("../../../infra/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "infra", name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestInputsAreKeptOnSecondRun(t *testing.T) {
	root, a := project(t), &azd{values: map[string]string{}}
	a.make(t, root)
	if len(a.values["GW_ADMIN_KEY"]) < 32 {
		t.Errorf("admin key of %d characters; main.bicep wants 32", len(a.values["GW_ADMIN_KEY"]))
	}
	pfx, err := base64.StdEncoding.DecodeString(a.values["GW_TLS_PFX"])
	if err != nil {
		t.Fatal(err)
	}
	_, cert, err := pkcs12.Decode(pfx, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, region := range []string{"eastus2", "swedencentral"} {
		if err := cert.VerifyHostname(a.values["GW_DNS_LABEL"] + "." + region + ".cloudapp.azure.com"); err != nil {
			t.Error(err)
		}
	}
	if len(pfx) > 16<<10 {
		t.Errorf("the PFX has %d bytes; an Application Gateway takes 16 KB", len(pfx))
	}
	trusted, err := os.ReadFile(filepath.Join(root, ".azure", "trial", "gateway.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(trusted)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(trusted)
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots}); block == nil || err != nil {
		t.Errorf("who trusts gateway.pem does not trust the gateway: %v", err)
	}
	before := a.values["GW_ADMIN_KEY"] + a.values["GW_TLS_PFX"] + a.values["GW_DNS_LABEL"]
	a.make(t, root)
	if after := a.values["GW_ADMIN_KEY"] + a.values["GW_TLS_PFX"] + a.values["GW_DNS_LABEL"]; before != after {
		t.Error("a second run changed what was there")
	}
}

func TestInputsOfPublicVariant(t *testing.T) {
	a := &azd{values: map[string]string{"GW_NETWORK": "public"}}
	a.make(t, project(t))
	if strings.Contains(strings.Join(a.calls, "\n"), "az ") || a.values["GW_TLS_PFX"] != "" || a.values["GW_ADMIN_KEY"] == "" {
		t.Errorf("%v", a.calls)
	}
}

func TestCertificateNames(t *testing.T) {
	a := &azd{values: map[string]string{"AZURE_LOCATION": "uksouth", "GW_HOST_NAME": "ai.example.com", "GW_DNS_LABEL": "gw-x"}}
	a.make(t, project(t))
	pfx, _ := base64.StdEncoding.DecodeString(a.values["GW_TLS_PFX"])
	_, cert, err := pkcs12.Decode(pfx, "")
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"ai.example.com", "gw-x.uksouth.cloudapp.azure.com"}; !slices.Equal(cert.DNSNames, want) {
		t.Errorf("%v, want %v", cert.DNSNames, want)
	}
}

func TestOwnCertificateStays(t *testing.T) {
	a := &azd{values: map[string]string{"GW_TLS_SECRET_ID": "https://v.vault.azure.net/secrets/c"}}
	a.make(t, project(t))
	if a.values["GW_TLS_PFX"] != "" {
		t.Error("a certificate was made beside the given one")
	}
}

func TestInputsWithoutAzureCLI(t *testing.T) {
	a := &azd{values: map[string]string{"AZURE_SUBSCRIPTION_ID": "s-1"}, az: errors.New("not found")}
	if out := a.make(t, project(t)); !strings.Contains(out, "az provider register --namespace Microsoft.App --subscription s-1") {
		t.Errorf("%s", out)
	}
}

// azd drops a boolean or number that it cannot parse, and the template's default applies.
func TestInputsRefuseWhatAzdDrops(t *testing.T) {
	for pair, want := range map[string]string{
		"GW_FUNCTION_PRIVATE_ENDPOINT=no": `GW_FUNCTION_PRIVATE_ENDPOINT: must be true or false, not "no"`,
		"GW_PRODUCTION=yes":               `GW_PRODUCTION: must be true or false, not "yes"`,
		"GW_MAX_INSTANCES=1e3":            `GW_MAX_INSTANCES: must be a whole number, not "1e3"`,
		"GW_MEMORY_MB=2048 ":              `GW_MEMORY_MB: must be a whole number, not "2048 "`,
		"GW_ADMIN_KEY=short":              "GW_ADMIN_KEY: must have 32 characters",
		"GW_NETWORK=Private":              `GW_NETWORK: must be one of public, private, not "Private"`,
		"GW_NETWORK= private":             "GW_NETWORK: must be one of public, private",
		"GW_WAF_MODE=detection":           "GW_WAF_MODE: must be one of Prevention, Detection",
		"GW_STORAGE_SKU=Standard_RAGRS":   "GW_STORAGE_SKU: must be one of Standard_LRS, ",
		"GW_MEMORY_MB=1024":               "GW_MEMORY_MB: must be one of 512, 2048, 4096",
		"GW_MAX_INSTANCES=5":              "GW_MAX_INSTANCES: must be 40 or more, not 5",
		"GW_HTTP_CONCURRENCY=-1":          "GW_HTTP_CONCURRENCY: must be 1 or more",
		"GW_AI_REGIONS=12":                "GW_AI_REGIONS: must be names of regions",
		"GW_AI_REGIONS=a;b":               "GW_AI_REGIONS: must be names of regions",
		"GW_MANAGE_SOURCES=10.0.0.1;b":    "GW_MANAGE_SOURCES: must be addresses",
		"GW_ALLOWED_SOURCES=1.2.3.4,::1":  "GW_ALLOWED_SOURCES: must be Internet",
		"GW_OPERATOR_ID=me@example.com":   "GW_OPERATOR_ID: must be an id",
		"GW_ADDRESS_PREFIX=10.20.0.0/30":  "GW_ADDRESS_PREFIX: must be a range",
		"GW_MONTHLY_BUDGET=100":           "GW_MONTHLY_BUDGET: needs GW_ALERT_EMAIL",
		"GW_TAGS=true":                    "GW_TAGS: must be name=value",
		"GW_TAGS=a=b=c":                   "GW_TAGS: must be name=value",
		"GW_HOST_NAME=https://ai.example": "GW_HOST_NAME: must be a name",
		"GW_HOST_NAME=küche.example.com":  "GW_HOST_NAME: must be a name",
		"GW_TLS_SECRET_ID=https://v.vault.azure.net/secrets/c/0123456789abcdef": "GW_TLS_SECRET_ID: must be",
		"GW_ADMIN_KEY=                                        ":                 "GW_ADMIN_KEY: must have only",
		"GW_ADMIN_KEY=ééééééééééééééééé":                                        "GW_ADMIN_KEY: must have only",
		"GW_ADMIN_KEY=0123456789012345678901234567890\"":                        "GW_ADMIN_KEY: must have only",
		"AZURE_ENV_NAME=trial.":                                                 "ends with a period",
		"GW_TLS_PFX=x":                                                          "GW_TLS_PFX: must be a PFX in base64",
	} {
		a := &azd{values: map[string]string{}}
		err := a.try(t, project(t), []string{"AZURE_ENV_NAME=trial", "AZURE_SUBSCRIPTION_ID=s-1", pair}, io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", pair, err)
		}
	}
	a := &azd{values: map[string]string{"GW_NETWORK": "public", "GW_PRODUCTION": "TRUE", "GW_MAX_INSTANCES": "80", "GW_COMPAT_ALIAS": ""}}
	a.make(t, project(t))
}

func TestInputsWarnOfCertificateEnd(t *testing.T) {
	root, a := project(t), &azd{values: map[string]string{}}
	a.make(t, root)
	if out := a.make(t, root); strings.Contains(out, "ends on") {
		t.Errorf("a new certificate: %s", out)
	}
	seconds, err := strconv.ParseInt(a.values["GW_TLS_END"], 10, 64)
	if left := time.Until(time.Unix(seconds, 0)); err != nil || left < 364*24*time.Hour || left > 366*24*time.Hour {
		t.Errorf("GW_TLS_END=%q, %v away", a.values["GW_TLS_END"], left)
	}
	a.now = time.Now().AddDate(3, 0, 0)
	if out := a.make(t, root); !strings.Contains(out, "The certificate in GW_TLS_PFX ends on") {
		t.Errorf("three years later: %q", out)
	}
}
