package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/devstack/azurite"
	"aoaigateway/handler/devstack/child"
	"aoaigateway/handler/devstack/stack"
)

// proving lengthens the timed loops; absent, they are cut short.
var proving = os.Getenv("PROVE") == "1"

// figures prints what a timed loop counted. Without -v nobody sees a passing test's log,
// so that a proof prints it as well.
func figures(t *testing.T, format string, args ...any) {
	t.Helper()
	t.Logf(format, args...)
	if proving {
		fmt.Printf("%s: "+format+"\n", append([]any{t.Name()}, args...)...)
	}
}

// appDir is where this run's staged app lies, if a test asked for it.
var appDir string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "gateway-app-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	appDir = filepath.Join(dir, "app")
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

var stageOnce = sync.OnceValues(func() (string, error) {
	return stack.Stage(context.Background(), stack.StageOptions{OS: runtime.GOOS, Arch: runtime.GOARCH, Out: appDir})
})

// staged builds the gateway as it is deployed and returns the app's folder.
func staged(t *testing.T) string {
	t.Helper()
	dir, err := stageOnce()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func startAzurite(t *testing.T) *azurite.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	server, err := azurite.Start(ctx, azurite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	return server
}

// world is what a gateway process is told: its settings.
type world struct {
	t        *testing.T
	storage  string
	policy   string // file
	backends []map[string]any
	secrets  map[string]string
}

func newWorld(t *testing.T, storage, policy string) *world {
	t.Helper()
	file := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(file, []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
	return &world{t: t, storage: storage, policy: file, secrets: map[string]string{"gateway-admin-key": adminKey}}
}

// region adds one that knows the models chat and emb.
func (w *world) region(priority int, o aoaisim.Options) *aoaisim.Region {
	w.t.Helper()
	o.Key = "key-of-" + o.Name
	o.Deployments = map[string]aoaisim.Deployment{"chat-" + o.Name: {Model: "gpt-4o"}, "emb-" + o.Name: {Model: "text-embedding-3-small"}}
	region := aoaisim.New(o)
	endpoint, _, err := region.Start()
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(region.Close)
	w.secrets["secret-"+o.Name] = o.Key
	w.backends = append(w.backends, map[string]any{
		"name": o.Name, "endpoint": endpoint, "priority": priority, "weight": 1, "credential": "secret-" + o.Name,
		"models": map[string]string{"chat": "chat-" + o.Name, "emb": "emb-" + o.Name},
	})
	return region
}

// environ is the process's whole environment; more stands last and so wins.
func (w *world) environ(more ...string) []string {
	backends, _ := json.Marshal(w.backends)
	secrets, _ := json.Marshal(w.secrets)
	return append([]string{
		"PATH=" + os.Getenv("PATH"), "GATEWAY_BACKENDS=" + string(backends), "GATEWAY_SECRETS=" + string(secrets),
		"GATEWAY_STORAGE=" + w.storage, "GATEWAY_POLICY=" + w.policy,
	}, more...)
}

// process is a gateway running by itself, without a host.
type process struct {
	t      *testing.T
	url    string
	cmd    *exec.Cmd
	exited chan struct{}
	out    output
	errs   output
}

// output is what a process printed so far.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// startGateway starts the real binary as the host does: by its port variable.
func startGateway(t *testing.T, environ []string) *process {
	t.Helper()
	port := freePort(t)
	p := &process{t: t, url: "http://127.0.0.1:" + port, exited: make(chan struct{})}
	p.cmd = exec.CommandContext(context.Background(), filepath.Join(staged(t), "bin", "gateway"))
	p.cmd.Env = append(environ, portVariable+"="+port)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.errs
	child.DieWithParent(p.cmd)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { defer close(p.exited); _ = p.cmd.Wait() }()
	t.Cleanup(func() { _ = p.cmd.Process.Kill(); <-p.exited })
	return p
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// ready waits until the process answers the host's start-up probe.
func (p *process) ready() {
	p.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		if resp, err := http.Get(p.url + "/"); err == nil {
			resp.Body.Close()
			return
		}
		select {
		case <-p.exited:
			p.t.Fatalf("the gateway exited with %d\n%s%s", p.cmd.ProcessState.ExitCode(), p.out.String(), p.errs.String())
		case <-deadline:
			p.t.Fatalf("the gateway does not answer\n%s%s", p.out.String(), p.errs.String())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// exit waits for the process's end and returns its code.
func (p *process) exit() int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(20 * time.Second):
		p.t.Fatalf("the gateway did not exit\n%s", p.out.String())
	}
	return p.cmd.ProcessState.ExitCode()
}

// gatewayCommand runs the real binary's command line to its end.
func gatewayCommand(t *testing.T, environ []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), filepath.Join(staged(t), "bin", "gateway"), args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = environ, &out, &errs
	if err := cmd.Run(); err != nil {
		if _, ok := errors.AsType[*exec.ExitError](err); !ok {
			t.Fatal(err)
		}
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}
