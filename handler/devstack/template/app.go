package template

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// azureYAML is what of azd's schema (v1.0) this project uses; anything else is a mistake.
type azureYAML struct {
	Name             string            `yaml:"name"`
	RequiredVersions map[string]string `yaml:"requiredVersions"`
	Infra            struct {
		Provider string `yaml:"provider"`
		Path     string `yaml:"path"`
		Module   string `yaml:"module"`
	} `yaml:"infra"`
	Hooks    map[string]map[string]hook `yaml:"hooks"`
	Pipeline struct {
		Provider  string   `yaml:"provider"`
		Variables []string `yaml:"variables"`
	} `yaml:"pipeline"`
	Services map[string]struct {
		Project     string `yaml:"project"`
		Host        string `yaml:"host"`
		Language    string `yaml:"language"`
		Dist        string `yaml:"dist"`
		RemoteBuild *bool  `yaml:"remoteBuild"`
	} `yaml:"services"`
}

type hook struct {
	Shell       string `yaml:"shell"`
	Run         string `yaml:"run"`
	Interactive bool   `yaml:"interactive"`
}

// checkAzd: azure.yaml as azd reads it. "js" with a build script is the one language that
// neither drops the function folders nor needs an alpha switch.
func checkAzd(root string, all templates) (found []Finding) {
	const path = "azure.yaml"
	add := func(format string, args ...any) {
		found = append(found, Finding{path, 0, fmt.Sprintf(format, args...)})
	}
	data, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		return []Finding{{path, 0, err.Error()}}
	}
	var y azureYAML
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	if err := decoder.Decode(&y); err != nil {
		return []Finding{{path, 0, err.Error()}}
	}
	if y.Infra.Provider != "bicep" || all[y.Infra.Module+".bicep"] == nil || y.Infra.Path != "infra" {
		add("infra must be bicep, infra, and one of its templates")
	}
	s, ok := y.Services["gateway"]
	if !ok || len(y.Services) != 1 {
		add("must have one service, gateway: the site's tag azd-service-name names it")
	}
	if s.Host != "function" || s.Language != "js" || s.RemoteBuild == nil || *s.RemoteBuild {
		add("gateway must be host function, language js, remoteBuild false")
	}
	if filepath.ToSlash(filepath.Join(s.Project, s.Dist)) != "dist/app" {
		add("dist must lead from %s to dist/app, where staging puts the app", s.Project)
	}
	if y.RequiredVersions["azd"] != ">= 1.24.0" { // A18
		add("requiredVersions.azd must be \">= 1.24.0\": older versions fail later and say less")
	}
	if y.Pipeline.Provider != "github" || !slices.Contains(y.Pipeline.Variables, "GW_NETWORK") {
		add("pipeline must set GW_NETWORK in the repository: without a terminal azd cannot ask for it")
	}
	checkHooks(y.Hooks, add)
	if tag := all["app.bicep"].find("resource", "site"); tag == nil || !strings.Contains(tag.Value.text(), "'azd-service-name': 'gateway'") {
		add("the site has no tag azd-service-name: gateway; azd would not find it")
	}
	return found
}

// checkHooks: A1, A16. azd up asks for parameters before preprovision, and erases what a hook says that is not interactive.
func checkHooks(hooks map[string]map[string]hook, add func(string, ...any)) {
	for _, event := range []string{"preup", "preprovision"} {
		posix, windows := hooks[event]["posix"], hooks[event]["windows"]
		want := "go run ./handler/devstack inputs"
		if event == "preup" {
			want += " --before-questions"
		}
		if posix.Run != want {
			add("%s must make the inputs: azd up reads parameters before preprovision, azd provision knows no preup", event)
		}
		if posix.Shell != "sh" || windows.Shell != "pwsh" || posix.Run != windows.Run {
			add("%s must run the same in sh and in pwsh", event)
		}
		if !posix.Interactive || !windows.Interactive {
			add("%s must be interactive: azd erases the output of other hooks", event)
		}
	}
	for event := range hooks {
		if event != "preup" && event != "preprovision" {
			add("no hook is expected at %s", event)
		}
	}
}

// hostJSON is what of host.json's schema (2.0) this project uses.
type hostJSON struct {
	Version         string `json:"version"`
	FunctionTimeout string `json:"functionTimeout"`
	Extensions      struct {
		HTTP struct {
			RoutePrefix *string `json:"routePrefix"`
		} `json:"http"`
	} `json:"extensions"`
	CustomHandler struct {
		Description struct {
			DefaultExecutablePath string `json:"defaultExecutablePath"`
		} `json:"description"`
		EnableProxyingHTTPRequest   bool `json:"enableProxyingHttpRequest"`
		EnableForwardingHTTPRequest bool `json:"enableForwardingHttpRequest"`
	} `json:"customHandler"`
	Logging struct {
		LogLevel            map[string]string `json:"logLevel"`
		ApplicationInsights struct {
			SamplingSettings struct {
				IsEnabled     bool   `json:"isEnabled"`
				ExcludedTypes string `json:"excludedTypes"`
			} `json:"samplingSettings"`
		} `json:"applicationInsights"`
	} `json:"logging"`
}

func checkHost(dir, name string) (found []Finding) {
	add := func(what string) { found = append(found, Finding{name, 0, what}) }
	var h hostJSON
	if err := strictJSON(filepath.Join(dir, "host.json"), &h); err != nil {
		return []Finding{{name, 0, err.Error()}}
	}
	if h.Version != "2.0" {
		add("version must be 2.0")
	}
	if h.Extensions.HTTP.RoutePrefix == nil || *h.Extensions.HTTP.RoutePrefix != "" {
		add("routePrefix must be empty: clients call /openai, not /api/openai")
	}
	if h.CustomHandler.Description.DefaultExecutablePath != "bin/gateway" {
		add("defaultExecutablePath must be bin/gateway")
	}
	if !h.CustomHandler.EnableProxyingHTTPRequest {
		add("enableProxyingHttpRequest must be true: without it the host buffers streams")
	}
	if h.FunctionTimeout < "01:00:01" || len(h.FunctionTimeout) != len("01:00:01") {
		add("functionTimeout must be longer than the hour that the gateway gives a request, as hh:mm:ss; over it the host kills every stream")
	}
	return found
}

type functionJSON struct {
	Bindings []struct {
		Type      string   `json:"type"`
		Direction string   `json:"direction"`
		Name      string   `json:"name"`
		AuthLevel string   `json:"authLevel"`
		Route     string   `json:"route"`
		Methods   []string `json:"methods"`
		Schedule  string   `json:"schedule"`
	} `json:"bindings"`
}

// functionRoutes are the functions and their routes; sweep is a timer.
var functionRoutes = map[string]string{"openai": "openai/{*path}", "manage": "manage/{*path}", "healthz": "healthz", "sweep": ""}

var functionName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,127}$`)

func checkFunctions(dir, prefix string) (found []Finding) {
	paths, _ := filepath.Glob(filepath.Join(dir, "*", "function.json"))
	var seen []string
	for _, path := range paths {
		name := filepath.Base(filepath.Dir(path))
		seen = append(seen, name)
		where := prefix + name + "/function.json"
		add := func(format string, args ...any) {
			found = append(found, Finding{where, 0, fmt.Sprintf(format, args...)})
		}
		var f functionJSON
		if err := strictJSON(path, &f); err != nil {
			add("%v", err)
			continue
		}
		if !functionName.MatchString(name) || name == "host" {
			add("%q is no name for a function", name)
		}
		route, known := functionRoutes[name]
		switch {
		case !known:
			add("no such function is expected")
		case route == "" && (len(f.Bindings) != 1 || f.Bindings[0].Type != "timerTrigger" || len(strings.Fields(f.Bindings[0].Schedule)) != 6):
			add("must be one timerTrigger with a schedule of six fields")
		case route != "" && (len(f.Bindings) != 2 || f.Bindings[0].Type != "httpTrigger" || f.Bindings[1].Type != "http" ||
			f.Bindings[1].Direction != "out"):
			add("must be one httpTrigger and one http output: without the output the host sends an envelope, not the request")
		case route != "" && (f.Bindings[0].Route != route || f.Bindings[0].AuthLevel != "anonymous" || len(f.Bindings[0].Methods) > 0):
			add("must be anonymous, with all methods, at %s", route)
		}
	}
	for name := range functionRoutes {
		if !slices.Contains(seen, name) {
			found = append(found, Finding{prefix + name, 0, "has no function.json"})
		}
	}
	return found
}

func strictJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("%w (of %s)", err, reflect.TypeOf(v).Elem().Name())
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("text after the JSON")
	}
	return nil
}
