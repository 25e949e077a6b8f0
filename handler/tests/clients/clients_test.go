// Package clients_test runs the client libraries that developers use, in their own
// installations, against the whole local stack: storage, two regions and the staged gateway
// behind the stand-in for the Functions host. Each script prints one JSON value.
package clients_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"aoaigateway/handler/devstack/funchost"
	"aoaigateway/handler/devstack/stack"
	"aoaigateway/handler/devstack/tools"
)

// The prompt makes the simulated models answer with twelve tokens.
const (
	prompt = "[tokens:12] tell me of the sea"
	tokens = 12
)

// gateway is the stack that all tests of this package use. TestMain stops it.
var gateway struct {
	once     sync.Once
	url, key string
	services *stack.Services
	host     *funchost.Host
	err      error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if gateway.host != nil {
		gateway.host.Close()
	}
	if gateway.services != nil {
		gateway.services.Stop()
	}
	os.Exit(code)
}

func serve(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 8*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "clients-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	app, err := stack.Stage(ctx, stack.StageOptions{Here: true, Out: filepath.Join(dir, "app")})
	if err != nil {
		return err
	}
	gateway.services, err = stack.Start(ctx, stack.Options{Memory: true, EnvFile: filepath.Join(dir, "dev.env")})
	if err != nil {
		return err
	}
	gateway.host, err = funchost.Start(ctx, funchost.Options{
		AppDir: app, Env: append(os.Environ(), gateway.services.Env()...), Stdout: os.Stderr, Log: os.Stderr,
		FrontEnd: true, CollapseSlashes: true,
	})
	if err != nil {
		return err
	}
	gateway.url = gateway.host.URL()
	made, err := gateway.services.Subscribe(ctx, gateway.url, stack.Subscription{Name: "clients"})
	gateway.key = made.Primary
	return err
}

// ready starts the stack when it is called for the first time.
func ready(t *testing.T) {
	t.Helper()
	gateway.once.Do(func() { gateway.err = serve(t.Context()) })
	if gateway.err != nil {
		t.Fatal(gateway.err)
	}
}

// script runs a program in its own folder and decodes the JSON that it prints into answer.
// The program gets the gateway's URL followed by slash.
func script(t *testing.T, answer any, slash, program string, args ...string) {
	t.Helper()
	ready(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "GATEWAY_BASE="+gateway.url+slash, "GATEWAY_KEY="+gateway.key, "PROMPT="+prompt,
		"NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1", "OPENAI_LOG=")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", program, args, err, stderr.String())
	}
	if err := json.Unmarshal(out, answer); err != nil {
		t.Fatalf("%s %v: %v\n%s", program, args, err, out)
	}
}

// python returns the interpreter of a virtual environment that has exactly the packages in
// <name>/requirements.txt.
func python(t *testing.T, name string) string {
	t.Helper()
	requirements, err := filepath.Abs(filepath.Join(name, "requirements.txt"))
	if err != nil {
		t.Fatal(err)
	}
	lock, err := os.ReadFile(requirements)
	if err != nil {
		t.Fatal(err)
	}
	base, err := exec.CommandContext(t.Context(), "python3", "--version").Output()
	if err != nil {
		t.Fatalf("python3 is needed: %v", err)
	}
	home, err := tools.Install(t.Context(), "python-"+name, append(lock, base...), func(dir string) error {
		return runAll(t.Context(), dir,
			[]string{"python3", "-m", "venv", dir},
			[]string{filepath.Join(dir, "bin", "python"), "-m", "pip", "install", "--quiet", "--no-deps", "-r", requirements})
	})
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(home, "bin", "python")
}

func runAll(ctx context.Context, dir string, commands ...[]string) error {
	for _, c := range commands {
		cmd := exec.CommandContext(ctx, c[0], c[1:]...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w\n%s", c, err, out)
		}
	}
	return nil
}

// node installs the locked packages beside a copy of the script, because Node looks for
// imports there.
func node(t *testing.T, file string) string {
	t.Helper()
	lock, err := os.ReadFile(filepath.Join("node", "package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	home, err := tools.Install(t.Context(), "node-openai", lock, func(dir string) error {
		for _, name := range []string{"package.json", "package-lock.json"} {
			data, err := os.ReadFile(filepath.Join("node", name))
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				return err
			}
		}
		return runAll(t.Context(), dir, []string{"npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"})
	})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(home, "node_modules"), filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join("node", file))
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(dir, file)
	if err := os.WriteFile(to, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return to
}

func TestLegacySnippet(t *testing.T) {
	var answer struct {
		Object  string
		Choices []struct {
			Text         string
			FinishReason string `json:"finish_reason"`
		}
		Usage map[string]any
	}
	program := python(t, "legacy")
	// With "/" the library requests //openai/…. In Azure the Application Gateway merges
	// these slashes. Without "/" the library also works with a Functions host alone.
	for _, slash := range []string{"/", ""} {
		script(t, &answer, slash, program, "legacy/seed.py")
	}
	if answer.Object != "text_completion" || len(answer.Choices) != 1 || answer.Choices[0].Text == "" ||
		answer.Choices[0].FinishReason != "stop" {
		t.Errorf("%+v", answer)
	}
	if total, _ := answer.Usage["total_tokens"].(float64); total == 0 {
		t.Errorf("usage %v", answer.Usage)
	}
}

func TestTheLegacyLibraryStreams(t *testing.T) {
	var answer result
	script(t, &answer, "/", python(t, "legacy"), "legacy/stream.py")
	if len(strings.Fields(answer.Text)) != tokens || answer.Chunks < tokens {
		t.Errorf("%+v", answer)
	}
}

// readmeBlock returns the first code block in the README with this language and this word.
// It replaces the address and the key of the local demo by those of this stack.
func readmeBlock(t *testing.T, language, word string) string {
	t.Helper()
	data, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for rest := string(data); ; {
		_, after, ok := strings.Cut(rest, "```"+language+"\n")
		if !ok {
			t.Fatalf("the README has no %s block with %q", language, word)
		}
		block, next, _ := strings.Cut(after, "```")
		if strings.Contains(block, word) {
			return strings.NewReplacer("http://127.0.0.1:7071", gateway.url, stack.DemoKey, gateway.key).Replace(block)
		}
		rest = next
	}
}

func TestReadmeSnippets(t *testing.T) {
	program := python(t, "python")
	ready(t)
	for name, cmd := range map[string]*exec.Cmd{
		"python": exec.CommandContext(t.Context(), program, "-c", readmeBlock(t, "python", "AzureOpenAI")),
		"curl":   exec.CommandContext(t.Context(), "sh", "-c", readmeBlock(t, "sh", "chat/completions")),
	} {
		out, err := cmd.CombinedOutput()
		if err != nil || len(out) < 20 || name == "curl" && !json.Valid(out) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// result is the result of one call of a library.
type result struct {
	Text       string
	Tokens     *int `json:"completion_tokens"`
	Chunks     int
	Dimensions int
	Status     int
	Code       string
}

func TestPythonLibrary(t *testing.T) {
	var results map[string]result
	script(t, &results, "", python(t, "python"), "python/suite.py")
	checkSuite(t, results, []string{"azure", "v1", "async azure", "async v1"})
	checkUsage(t, results, []string{"azure", "v1"})
	checkUnknown(t, results, []string{"azure", "v1"})
}

func TestNodeLibrary(t *testing.T) {
	var results map[string]result
	script(t, &results, "", "node", node(t, "suite.mjs"))
	checkSuite(t, results, []string{"azure", "v1"})
	checkUsage(t, results, []string{"azure", "v1"})
	checkUnknown(t, results, []string{"azure", "v1"})
}

// checkSuite checks that all calls return the same text, because the simulated models give
// the same answer to the same prompt.
func checkSuite(t *testing.T, results map[string]result, names []string) {
	t.Helper()
	text := results[names[0]+" chat"].Text
	if len(strings.Fields(text)) != tokens {
		t.Errorf("text %q, want %d words", text, tokens)
	}
	for _, name := range names {
		for _, kind := range []string{"chat", "completions", "responses"} {
			whole, stream := results[name+" "+kind], results[name+" "+kind+" stream"]
			if whole.Text != text || whole.Tokens == nil || *whole.Tokens != tokens {
				t.Errorf("%s %s: %+v", name, kind, whole)
			}
			if stream.Text != text || stream.Chunks < tokens {
				t.Errorf("%s %s stream: %+v", name, kind, stream)
			}
			if usage := stream.Tokens; kind != "responses" && usage != nil {
				t.Errorf("%s %s stream: usage that nobody asked for reached the client", name, kind)
			}
		}
		if e := results[name+" embeddings"]; e.Dimensions != 1536 {
			t.Errorf("%s embeddings: %+v", name, e)
		}
	}
}

func checkUsage(t *testing.T, results map[string]result, names []string) {
	t.Helper()
	for _, name := range names {
		if r := results[name+" chat stream usage"]; r.Tokens == nil || *r.Tokens != tokens {
			t.Errorf("%s: usage that was asked for: %+v", name, r)
		}
	}
}

func checkUnknown(t *testing.T, results map[string]result, names []string) {
	t.Helper()
	for _, name := range names {
		if r := results[name+" unknown"]; r.Status != 404 || r.Code != "DeploymentNotFound" {
			t.Errorf("%s: unknown model: %+v", name, r)
		}
	}
}
