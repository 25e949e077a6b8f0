package funchost

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// app is what host.json and the function folders say.
type app struct {
	dir         string
	executable  string
	arguments   []string
	workingDir  string
	initTimeout time.Duration
	timeout     time.Duration // of one invocation; 0 = none
	functions   []function
}

const (
	defaultInitTimeout = 30 * time.Second
	defaultTimeout     = 30 * time.Minute
)

type function struct {
	name    string
	route   []string // template segments, prefix included; nil = not HTTP
	methods []string // upper case; nil = all
	timer   string   // binding name of a timer trigger
	cron    string
}

type hostFile struct {
	Version    string `json:"version"`
	Timeout    string `json:"functionTimeout"`
	Extensions struct {
		HTTP struct {
			RoutePrefix *string `json:"routePrefix"`
		} `json:"http"`
	} `json:"extensions"`
	CustomHandler struct {
		Description struct {
			DefaultExecutablePath string   `json:"defaultExecutablePath"`
			WorkingDirectory      string   `json:"workingDirectory"`
			Arguments             []string `json:"arguments"`
		} `json:"description"`
		Proxying       bool   `json:"enableProxyingHttpRequest"`
		Initialization string `json:"initializationTimeout"`
		Port           int    `json:"port"`
		HTTP           struct {
			Routes []json.RawMessage `json:"routes"`
		} `json:"http"`
	} `json:"customHandler"`
}

type functionFile struct {
	Disabled bool `json:"disabled"`
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

func readApp(dir string) (*app, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	var host hostFile
	if err := readJSON(filepath.Join(dir, "host.json"), &host); err != nil {
		return nil, err
	}
	a := &app{dir: dir, workingDir: dir, initTimeout: defaultInitTimeout, timeout: defaultTimeout}
	if err := a.readHost(host); err != nil {
		return nil, err
	}
	prefix := "api"
	if p := host.Extensions.HTTP.RoutePrefix; p != nil {
		prefix = *p
	}
	if err := a.readFunctions(prefix); err != nil {
		return nil, err
	}
	if len(host.CustomHandler.HTTP.Routes) > 0 {
		return nil, errors.New("functions host: host.json: detected both customHandler.http.routes and function.json")
	}
	return a, nil
}

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("functions host: %w", err)
	}
	if err := json.Unmarshal(bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")), v); err != nil {
		return fmt.Errorf("functions host: %s: %w", path, err)
	}
	return nil
}

func (a *app) readHost(host hostFile) error {
	d := host.CustomHandler.Description
	switch {
	case host.Version != "2.0":
		return fmt.Errorf("functions host: host.json: version is %q, want \"2.0\"", host.Version)
	case d.DefaultExecutablePath == "":
		return errors.New("functions host: host.json: customHandler.description.defaultExecutablePath is required")
	case !host.CustomHandler.Proxying:
		return errors.New("functions host: host.json: customHandler.enableProxyingHttpRequest is not true; only proxying is played here")
	case host.CustomHandler.Port != 0:
		return errors.New("functions host: host.json: customHandler.port is set; leave the port to the host")
	}
	a.executable, a.arguments = d.DefaultExecutablePath, d.Arguments
	if path := filepath.Join(a.dir, d.DefaultExecutablePath); isFile(path) {
		a.executable = path // otherwise it is looked up on PATH, as the host does
	}
	if d.WorkingDirectory != "" {
		a.workingDir = filepath.Join(a.dir, d.WorkingDirectory)
	}
	if err := setTimeSpan(&a.initTimeout, host.CustomHandler.Initialization, "customHandler.initializationTimeout"); err != nil {
		return err
	}
	if host.Timeout == "-1" {
		a.timeout = 0
		return nil
	}
	return setTimeSpan(&a.timeout, host.Timeout, "functionTimeout")
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func setTimeSpan(to *time.Duration, s, name string) error {
	if s == "" {
		return nil
	}
	t, err := time.Parse("15:04:05", s) // takes fractions of a second too
	if err != nil {
		return fmt.Errorf("functions host: host.json: %s: %q is not hh:mm:ss", name, s)
	}
	*to = t.Sub(t.Truncate(24 * time.Hour))
	return nil
}

var functionName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,127}$`)

// readFunctions looks one level below the root: a folder with function.json is a function.
func (a *app) readFunctions(prefix string) error {
	entries, err := os.ReadDir(a.dir)
	if err != nil {
		return fmt.Errorf("functions host: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(a.dir, e.Name(), "function.json")
		if !e.IsDir() || !isFile(path) {
			continue
		}
		if !functionName.MatchString(e.Name()) || e.Name() == "host" {
			return fmt.Errorf("functions host: %q cannot be a function's name", e.Name())
		}
		var file functionFile
		if err := readJSON(path, &file); err != nil {
			return err
		}
		f, err := file.function(e.Name(), prefix)
		if err != nil {
			return fmt.Errorf("functions host: %s: %w", path, err)
		}
		if !file.Disabled {
			a.functions = append(a.functions, f)
		}
	}
	if len(a.functions) == 0 {
		return fmt.Errorf("functions host: no function found one level below %s; the handler would never be started", a.dir)
	}
	return nil
}

func (file functionFile) function(name, prefix string) (function, error) {
	f := function{name: name}
	var in, httpOut, out int
	for _, b := range file.Bindings {
		if b.Direction == "out" {
			out++
			if strings.EqualFold(b.Type, "http") {
				httpOut++
			}
			continue
		}
		in++
		switch strings.ToLower(b.Type) {
		case "httptrigger":
			f.readTrigger(b.Route, prefix, b.Methods)
			if b.AuthLevel != "anonymous" {
				return f, fmt.Errorf("authLevel %q: only anonymous is played here", b.AuthLevel)
			}
		case "timertrigger":
			f.timer, f.cron = b.Name, b.Schedule
		default:
			return f, fmt.Errorf("binding type %q is not played here", b.Type)
		}
	}
	// Proxying applies to exactly one in and one out binding; anything else gets the envelope.
	if f.route != nil && (in != 1 || out != 1 || httpOut != 1) {
		return f, errors.New("an HTTP function needs exactly one httpTrigger and one http out binding, or the host sends the JSON envelope " +
			"instead of the request")
	}
	return f, nil
}

func (f *function) readTrigger(route, prefix string, methods []string) {
	if route == "" {
		route = f.name
	}
	f.route = strings.Split(strings.Trim(prefix+"/"+route, "/"), "/")
	for _, m := range methods {
		f.methods = append(f.methods, strings.ToUpper(m))
	}
}

// match is the host's route matching: literals in any case, {name} one segment, {*name}
// the rest, nothing included. An empty segment (two slashes) up to where the catch-all
// begins matches no template at all.
func (f function) match(method, path string) bool {
	if f.route == nil || len(f.methods) > 0 && !slices.Contains(f.methods, method) {
		return false
	}
	segments := strings.Split(strings.TrimSuffix(strings.TrimPrefix(path, "/"), "/"), "/")
	for i, want := range f.route {
		switch {
		case i < len(segments) && segments[i] == "":
			return false
		case strings.HasPrefix(want, "{*"):
			return true
		case i >= len(segments):
			return false
		case strings.HasPrefix(want, "{"):
		case !strings.EqualFold(want, segments[i]):
			return false
		}
	}
	return len(segments) == len(f.route)
}

func (a *app) find(method, path string) (function, bool) {
	for _, f := range a.functions {
		if f.match(method, path) {
			return f, true
		}
	}
	return function{}, false
}
