package template

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"aoaigateway/handler/devstack/inputs"
)

// azdRun is what azd 1.32 does with parameters before it deploys, as its source says: substitute the environment
// into main.parameters.json, convert, leave out what is empty and has a default, and ask for what is then missing.
type azdRun struct {
	env    map[string]string
	asked  []string       // with a terminal: the questions; without: what azd names as missing
	passed map[string]any // to Resource Manager
}

// up runs the hooks of the event in their order: preup comes before the questions, preprovision after them.
func (a *azdRun) up(t *testing.T, hooks bool) {
	t.Helper()
	if hooks {
		a.hook(t, true)
	}
	a.parameters(t)
	a.env["AZURE_SUBSCRIPTION_ID"] = "s" // answered
	if hooks {
		a.hook(t, false)
	}
}

func (a *azdRun) hook(t *testing.T, before bool) {
	t.Helper()
	environ := []string{}
	for name, value := range a.env {
		environ = append(environ, name+"="+value)
	}
	err := inputs.Make(t.Context(), inputs.Options{
		Root: copyTree(t), Environ: environ, Out: io.Discard, Now: time.Now,
		Exists: func(context.Context, string, string) (bool, error) { return false, nil }, BeforeQuestions: before,
		Run: func(_ context.Context, name string, args ...string) error {
			if name == "azd" {
				a.env[args[2]] = args[3]
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (a *azdRun) parameters(t *testing.T) {
	t.Helper()
	all, err := readTemplates(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(root, "infra/main.parameters.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Parameters map[string]struct{ Value string }
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	a.passed, a.asked = map[string]any{}, nil
	if a.env["AZURE_SUBSCRIPTION_ID"] == "" {
		a.asked = append(a.asked, "subscription")
	}
	var names []string // azd asks in the order of the alphabet
	for _, d := range all["main.bicep"].Declarations {
		if d.Kind == "parameter" {
			names = append(names, d.Name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		d := all["main.bicep"].find("parameter", name)
		value, set := a.env[strings.Trim(file.Parameters[name].Value, "${}")]
		if converted, ok := convert(d.Type, value); ok && set && (value != "" || d.Type == "string") {
			a.passed[name] = converted
		} else if d.Required {
			a.asked = append(a.asked, name)
		}
	}
}

// convert is azd's: what cannot be parsed is dropped.
func convert(kind, value string) (any, bool) {
	switch kind {
	case "bool":
		b, err := strconv.ParseBool(value)
		return b, err == nil
	case "int":
		n, err := strconv.ParseInt(value, 10, 64)
		return n, err == nil
	}
	return value, true
}

func TestAzdAsksThreeQuestions(t *testing.T) {
	fresh := map[string]string{"AZURE_ENV_NAME": "trial"}
	answered := map[string]string{
		"AZURE_ENV_NAME": "trial", "AZURE_SUBSCRIPTION_ID": "s", "AZURE_LOCATION": "eastus2", "GW_NETWORK": "private",
	}
	for _, c := range []struct {
		name  string
		env   map[string]string
		hooks bool
		want  []string
	}{
		{"a new environment", fresh, true, []string{"subscription", "location", "network"}},
		{"a new environment, and no hook ran", fresh, false, []string{"subscription", "location", "network"}},
		{"no terminal, everything set", answered, true, nil},
	} {
		run := azdRun{env: maps.Clone(c.env)}
		run.up(t, c.hooks)
		if diff := cmp.Diff(c.want, run.asked); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
		if _, made := run.passed["adminKey"]; made != c.hooks {
			t.Errorf("%s: an admin key is passed: %t", c.name, made)
		}
	}
}

func TestAzdPassesWhatIsSet(t *testing.T) {
	run := azdRun{env: map[string]string{
		"AZURE_ENV_NAME": "trial", "GW_COMPAT_ALIAS": "", "GW_MAX_INSTANCES": "80", "GW_PRODUCTION": "true",
		"GW_HTTP_CONCURRENCY": "1e3", "GW_BUDGET_START": "",
	}}
	run.parameters(t)
	want := map[string]any{
		"environmentName": "trial", "compatibilityAlias": "", "maximumInstanceCount": int64(80), "production": true, "budgetStart": "",
	}
	if diff := cmp.Diff(want, run.passed); diff != "" {
		t.Errorf("the empty value must stay empty, and what azd cannot parse is dropped: %s", diff)
	}
}

// What the hook sets must reach the template in the same run, and what the template puts out in the next.
func TestAzdPassesWhatHooksSet(t *testing.T) {
	run := azdRun{env: map[string]string{
		"AZURE_ENV_NAME": "trial", "AZURE_SUBSCRIPTION_ID": "s", "AZURE_LOCATION": "eastus2", "GW_NETWORK": "private",
		"GW_NETWORK_BEFORE": "public", "GW_CERTIFICATE_KEPT": "false",
	}}
	run.up(t, true)
	if run.passed["keepOpen"] != true || run.passed["networkBefore"] != "public" {
		t.Errorf("from public to private: %v", run.passed)
	}
	if end, _ := run.passed["tlsEnd"].(int64); end < time.Now().Unix() || run.passed["tlsPfx"] == nil {
		t.Errorf("the first certificate: its end is %v", run.passed["tlsEnd"])
	}
	mark := run.passed["writeMark"]
	run.env["GW_NETWORK_BEFORE"], run.env["GW_WRITTEN_MARK"], run.env["GW_KEEP_OPEN"] = "private", mark.(string), "false"
	run.up(t, true)
	if run.passed["keepOpen"] != false || run.passed["writtenMark"] != mark || run.passed["writeMark"] != mark {
		t.Errorf("the second step: %v", run.passed)
	}
}
