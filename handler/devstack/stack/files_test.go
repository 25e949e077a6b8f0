package stack_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"go.yaml.in/yaml/v3"

	"aoaigateway/handler/devstack/tools"
)

// The rules below are the Functions host's and azd's; breaking one shows only in Azure, as
// a hang, a buffered stream or an app without functions.

func read(t *testing.T, name string) []byte {
	t.Helper()
	root, err := tools.Root()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func readObject[T any](t *testing.T, name string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(read(t, name), &v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v
}

type hostFile struct {
	Version         string
	FunctionTimeout string
	ExtensionBundle any
	Extensions      struct{ HTTP struct{ RoutePrefix *string } }
	CustomHandler   struct {
		Description                                            struct{ DefaultExecutablePath string }
		EnableProxyingHTTPRequest, EnableForwardingHTTPRequest bool
		Port                                                   *int
		HTTP                                                   any
	}
	ConfigurationProfile any
}

func TestHostJSON(t *testing.T) {
	h := readObject[hostFile](t, "host.json")
	c := h.CustomHandler
	if h.Version != "2.0" || h.FunctionTimeout != "01:10:00" {
		t.Errorf("version %q, functionTimeout %q", h.Version, h.FunctionTimeout)
	}
	if h.Extensions.HTTP.RoutePrefix == nil || *h.Extensions.HTTP.RoutePrefix != "" {
		t.Error("routePrefix must be empty: clients' paths begin with /openai")
	}
	if c.Description.DefaultExecutablePath != "bin/gateway" {
		t.Errorf("executable %q: the zip marks exactly bin/gateway as executable", c.Description.DefaultExecutablePath)
	}
	if !c.EnableProxyingHTTPRequest {
		t.Error("without proxying the host buffers every stream")
	}
	if !c.EnableForwardingHTTPRequest {
		t.Error("forwarding is what hosts without proxying fall back to; without it they send envelopes")
	}
	if c.Port != nil || c.HTTP != nil || h.ConfigurationProfile != nil || h.ExtensionBundle != nil {
		t.Error("port, routes, profile and bundle must be absent")
	}
}

type functionFile struct {
	Bindings []struct {
		Type, Direction, Name, AuthLevel, Route, Schedule string
		Methods                                           []string
	}
	ScriptFile string
}

func TestHTTPFunctionBindings(t *testing.T) {
	for name, route := range map[string]string{"openai": "openai/{*path}", "manage": "manage/{*path}", "healthz": "healthz"} {
		f := readObject[functionFile](t, "functions/"+name+"/function.json")
		if len(f.Bindings) != 2 || f.ScriptFile != "" {
			t.Errorf("%s: %+v", name, f)
			continue
		}
		in, out := f.Bindings[0], f.Bindings[1]
		if in.Type != "httpTrigger" || in.Direction != "in" || in.AuthLevel != "anonymous" || in.Route != route || in.Methods != nil {
			t.Errorf("%s: trigger %+v", name, in)
		}
		if out.Type != "http" || out.Direction != "out" {
			t.Errorf("%s: output %+v; any other makes the host send the JSON envelope", name, out)
		}
	}
}

func TestTimerFunction(t *testing.T) {
	f := readObject[functionFile](t, "functions/sweep/function.json")
	if len(f.Bindings) != 1 || f.Bindings[0].Type != "timerTrigger" || f.Bindings[0].Schedule != "0 */5 * * * *" {
		t.Errorf("%+v", f)
	}
}

func TestFunctionFolderNames(t *testing.T) {
	root, err := tools.Root()
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Join(root, "functions"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		names = append(names, e.Name())
		if !regexp.MustCompile(`^[a-z][a-z0-9_-]{0,127}$`).MatchString(e.Name()) || e.Name() == "host" {
			t.Errorf("%q", e.Name())
		}
	}
	if want := []string{"healthz", "manage", "openai", "sweep"}; !slices.Equal(names, want) {
		t.Errorf("functions %v, want %v", names, want)
	}
}

func TestLocalSettings(t *testing.T) {
	v := readObject[struct{ Values map[string]string }](t, "local.settings.sample.json").Values
	if v["FUNCTIONS_WORKER_RUNTIME"] != "custom" || v["AzureWebJobsStorage"] == "" {
		t.Errorf("func start would ask or refuse: %v", v)
	}
	if v["AzureFunctionsJobHost__customHandler__http__routes__0__route"] != "{*path}" ||
		v["AzureFunctionsJobHost__customHandler__http__defaultAuthorizationLevel"] != "anonymous" {
		t.Error("no route settings: nothing is discovered at the root")
	}
	for name := range v {
		if name == "AzureWebJobsScriptRoot" || name == "CONTAINER_NAME" {
			t.Errorf("func start refuses %s", name)
		}
	}
}

func TestAzureYAML(t *testing.T) {
	var azure struct {
		Services map[string]struct {
			Project, Host, Language, Dist string
			RemoteBuild                   *bool `yaml:"remoteBuild"`
		}
	}
	if err := yaml.Unmarshal(read(t, "azure.yaml"), &azure); err != nil {
		t.Fatal(err)
	}
	s := azure.Services["gateway"]
	if s.Project != "functions" || s.Host != "function" || s.Language != "js" || s.Dist != "../dist/app" || s.RemoteBuild == nil ||
		*s.RemoteBuild {
		t.Errorf("%+v", s)
	}
	p := readObject[struct {
		Private                       bool
		Scripts                       map[string]string
		Dependencies, DevDependencies map[string]string
	}](t, "functions/package.json")
	if !p.Private || p.Scripts["build"] != "go run ../handler/devstack stage" || len(p.Dependencies)+len(p.DevDependencies) > 0 {
		t.Errorf("%+v", p)
	}
	lock := readObject[struct{ Packages map[string]any }](t, "functions/package-lock.json")
	if keys := slices.Collect(maps.Keys(lock.Packages)); len(keys) != 1 || keys[0] != "" {
		t.Errorf("lock: %v", keys)
	}
}
