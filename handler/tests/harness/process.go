package harness

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

	"aoaigateway/handler/app/settings"
	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/devstack/azurite"
	"aoaigateway/handler/devstack/child"
	"aoaigateway/handler/devstack/stack"
)

// Proving says whether the timed loops run at full length (PROVE=1).
var Proving = os.Getenv("PROVE") == "1"

// Report logs the results of a timed loop. At full length (Proving) it also prints them,
// because go test shows the log of a passing test only with -v.
func Report(t *testing.T, format string, args ...any) {
	t.Helper()
	t.Logf(format, args...)
	if Proving {
		fmt.Printf("%s: "+format+"\n", append([]any{t.Name()}, args...)...)
	}
}

// AppDir is the folder of the staged app.
var AppDir string

var stageOnce = sync.OnceValues(func() (string, error) {
	return stack.Stage(context.Background(), stack.StageOptions{OS: runtime.GOOS, Arch: runtime.GOARCH, Out: AppDir})
})

// Staged builds the gateway as it is deployed and returns the folder of the app. It builds
// only once.
func Staged(t *testing.T) string {
	t.Helper()
	dir, err := stageOnce()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// StartAzurite starts storage, and stops it at the end of the test.
func StartAzurite(t *testing.T) *azurite.Server {
	t.Helper()
	if testing.Short() {
		t.Skip("needs Node; make test runs it")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	server, err := azurite.Start(ctx, azurite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	return server
}

// Environment has the settings of gateway processes.
type Environment struct {
	T        *testing.T
	storage  string
	policy   string // a file name
	Backends []map[string]any
	Secrets  map[string]string
	ca       string // a file name
}

// NewEnvironment returns settings with this storage and this policy.
func NewEnvironment(t *testing.T, storage, policy string) *Environment {
	t.Helper()
	file := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(file, []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, aoaisim.CA(), 0o600); err != nil {
		t.Fatal(err)
	}
	return &Environment{T: t, storage: storage, policy: file, ca: ca, Secrets: map[string]string{"gateway-admin-key": AdminKey}}
}

// Region starts a simulated region with the models chat and emb.
func (w *Environment) Region(priority int, o aoaisim.Options) *aoaisim.Region {
	w.T.Helper()
	o.Key = "key-of-" + o.Name
	o.Deployments = map[string]aoaisim.Deployment{"chat-" + o.Name: {Model: "gpt-4o"}, "emb-" + o.Name: {Model: "text-embedding-3-small"}}
	region := aoaisim.New(o)
	endpoint, _, err := region.Start()
	if err != nil {
		w.T.Fatal(err)
	}
	w.T.Cleanup(region.Close)
	w.Secrets["secret-"+o.Name] = o.Key
	w.Backends = append(w.Backends, map[string]any{
		"name": o.Name, "endpoint": endpoint, "priority": priority, "weight": 1, "credential": "secret-" + o.Name,
		"models": map[string]string{"chat": "chat-" + o.Name, "emb": "emb-" + o.Name},
	})
	return region
}

// Environ returns the complete environment of a process. Values in more replace others.
func (w *Environment) Environ(more ...string) []string {
	backends, _ := json.Marshal(w.Backends)
	secrets, _ := json.Marshal(w.Secrets)
	return append([]string{
		"PATH=" + os.Getenv("PATH"), "GATEWAY_BACKENDS=" + string(backends), "GATEWAY_SECRETS=" + string(secrets),
		"GATEWAY_STORAGE=" + w.storage, "GATEWAY_POLICY=" + w.policy,
		"GATEWAY_DEV_CA_FILE=" + w.ca,
	}, more...)
}

// Process is a running gateway without a Functions host.
type Process struct {
	T      *testing.T
	URL    string
	Cmd    *exec.Cmd
	Exited chan struct{}
	out    output
	errs   output
}

// output collects the output of a process.
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

// StartProcess starts the real program with a port variable, as the Functions host does.
func StartProcess(t *testing.T, environ []string) *Process {
	t.Helper()
	port := FreePort(t)
	p := &Process{T: t, URL: "http://127.0.0.1:" + port, Exited: make(chan struct{})}
	p.Cmd = exec.CommandContext(context.Background(), filepath.Join(Staged(t), "bin", "gateway"))
	p.Cmd.Env = append(environ, settings.PortVariable+"="+port)
	p.Cmd.Stdout, p.Cmd.Stderr = &p.out, &p.errs
	child.DieWithParent(p.Cmd)
	if err := p.Cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { defer close(p.Exited); _ = p.Cmd.Wait() }()
	t.Cleanup(func() { _ = p.Cmd.Process.Kill(); <-p.Exited })
	return p
}

// FreePort returns a port that was free when it was called.
func FreePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// Ready waits until the process answers the host's start-up probe.
func (p *Process) Ready() {
	p.T.Helper()
	deadline := time.After(20 * time.Second)
	for {
		if resp, err := http.Get(p.URL + "/"); err == nil {
			resp.Body.Close()
			return
		}
		select {
		case <-p.Exited:
			p.T.Fatalf("the gateway exited with %d\n%s%s", p.Cmd.ProcessState.ExitCode(), p.out.String(), p.errs.String())
		case <-deadline:
			p.T.Fatalf("the gateway does not answer\n%s%s", p.out.String(), p.errs.String())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// Signal sends a signal to the process.
func (p *Process) Signal(s syscall.Signal) {
	p.T.Helper()
	if err := p.Cmd.Process.Signal(s); err != nil {
		p.T.Fatal(err)
	}
}

// Exit waits until the process has ended and returns its exit code.
func (p *Process) Exit() int {
	p.T.Helper()
	select {
	case <-p.Exited:
	case <-time.After(20 * time.Second):
		p.T.Fatalf("the gateway did not exit\n%s", p.out.String())
	}
	return p.Cmd.ProcessState.ExitCode()
}

// RunCommand runs the real program with the arguments of a command.
func RunCommand(t *testing.T, environ []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), filepath.Join(Staged(t), "bin", "gateway"), args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = environ, &out, &errs
	if err := cmd.Run(); err != nil {
		if _, ok := errors.AsType[*exec.ExitError](err); !ok {
			t.Fatal(err)
		}
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}
