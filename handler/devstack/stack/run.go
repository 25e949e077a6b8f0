package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"aoaigateway/handler/devstack/child"
	"aoaigateway/handler/devstack/funchost"
	"aoaigateway/handler/devstack/tools"
)

// RunOptions of Run.
type RunOptions struct {
	Port  int // the first port that is tried; default 7071
	Stage StageOptions
	Stack Options
	Out   io.Writer // receives text for people, and the line READY
	Log   io.Writer // receives the output of the host and the gateway
}

// host is a running Functions host with the staged app.
type host struct {
	url  string
	done <-chan struct{}
	err  func() error
	stop func()
}

// Run serves the whole local stack until ctx ends: the services, the staged app, and a
// subscription to try it with. The host is `func start` if that is on PATH, otherwise the
// stand-in for the Functions host.
func Run(ctx context.Context, o RunOptions) error {
	if o.Port == 0 {
		o.Port = 7071
	}
	o.Stage.Here = true
	services, app, err := prepare(ctx, o)
	if err != nil {
		return err
	}
	defer services.Stop()
	h, err := serveApp(ctx, o, app, append(os.Environ(), services.Env()...))
	if err != nil {
		return err
	}
	defer h.stop()
	key, err := services.demoKey(ctx, h.url)
	if err != nil {
		return fmt.Errorf("the subscription of the demo cannot be created: %w", err)
	}
	services.welcome(o.Out, h.url, key)
	select {
	case <-ctx.Done():
		return nil
	case <-h.done:
		return fmt.Errorf("the Functions host stopped: %w", h.err())
	}
}

// prepare starts the services and stages the app at the same time.
func prepare(ctx context.Context, o RunOptions) (services *Services, app string, err error) {
	staged := make(chan error, 1)
	go func() {
		var serr error
		app, serr = Stage(ctx, o.Stage)
		staged <- serr
	}()
	services, err = Start(ctx, o.Stack)
	if serr := <-staged; serr != nil {
		err = errors.Join(err, serr)
	}
	if err != nil && services != nil {
		services.Stop()
	}
	return services, app, err
}

func serveApp(ctx context.Context, o RunOptions, app string, env []string) (*host, error) {
	port, err := freePort(ctx, o.Port)
	if err != nil {
		return nil, err
	}
	if tool, err := exec.LookPath("func"); err == nil {
		return startFunc(ctx, tool, app, port, o.Log, env)
	}
	h, err := funchost.Start(ctx, funchost.Options{
		AppDir: app, Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), Env: env, Stdout: o.Log, Log: o.Log, Timers: 5 * time.Minute,
		FrontEnd: true, CollapseSlashes: true,
	})
	if err != nil {
		return nil, err
	}
	return &host{url: h.URL(), done: h.Done(), err: h.Err, stop: h.Close}, nil
}

// freePort returns the first free port from start on.
func freePort(ctx context.Context, start int) (int, error) {
	var lc net.ListenConfig
	for port := start; port < start+100; port++ {
		if l, err := lc.Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("there is no free port from %d on", start)
}

// startFunc runs the staged app with Azure Functions Core Tools.
func startFunc(ctx context.Context, tool, app string, port int, log io.Writer, env []string) (*host, error) {
	// ctx must not end the process, because stop ends it.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), tool, "start", "--script-root", app, "--port", strconv.Itoa(port))
	cmd.Env, cmd.Stdout, cmd.Stderr = env, log, log
	cmd.Dir = filepath.Dir(app)
	cmd.WaitDelay = time.Second
	child.DieWithParent(cmd)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // ProcessState has the result
		close(done)
	}()
	h := &host{url: "http://127.0.0.1:" + strconv.Itoa(port), done: done, stop: func() { stopFunc(cmd, done) }}
	h.err = func() error { return fmt.Errorf("`func start` ended by itself: %v", cmd.ProcessState) }
	if err := h.answers(ctx); err != nil {
		h.stop()
		return nil, err
	}
	return h, nil
}

func stopFunc(cmd *exec.Cmd, done <-chan struct{}) {
	child.Terminate(cmd)
	select {
	case <-done:
	case <-time.After(10 * time.Second):
	}
	child.Kill(cmd) // the whole group, because a handler may still be running
	<-done
}

// answers waits until the app's health page answers.
func (h *host) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		if status, err := get(ctx, h.url+"/healthz", ""); err == nil && status < 300 {
			return nil
		}
		select {
		case <-h.done:
			return h.err()
		case <-ctx.Done():
			return fmt.Errorf("%s/healthz does not answer: %w", h.url, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func get(ctx context.Context, url, key string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Api-Key", key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

// Serve runs only the stand-in for the Functions host, with the app in dist/app and the
// given settings, until ctx ends.
func Serve(ctx context.Context, o funchost.Options, out io.Writer) error {
	if o.AppDir == "" {
		root, err := tools.Root()
		if err != nil {
			return err
		}
		o.AppDir = filepath.Join(root, "dist", "app")
	}
	h, err := funchost.Start(ctx, o)
	if err != nil {
		return err
	}
	defer h.Close()
	_, _ = fmt.Fprintf(out, "READY {\"url\":%q,\"pid\":%d}\n", h.URL(), h.Pid())
	select {
	case <-ctx.Done():
		return nil
	case <-h.Done():
		return h.Err()
	}
}
