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
	Port  int // first one tried; default 7071
	Stage StageOptions
	Stack Options
	Out   io.Writer // human text and the READY line
	Log   io.Writer // what host and gateway say
}

// host is the staged app being served.
type host struct {
	url  string
	done <-chan struct{}
	err  func() error
	stop func()
}

// Run serves the whole local stack until ctx ends: services, the staged app behind `func
// start` if it is on PATH and behind the stand-in otherwise, and a subscription to try it with.
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
		return fmt.Errorf("demo subscription: %w", err)
	}
	services.welcome(o.Out, h.url, key)
	select {
	case <-ctx.Done():
		return nil
	case <-h.done:
		return fmt.Errorf("the Functions host stopped: %w", h.err())
	}
}

// prepare starts the services and stages the app side by side.
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

// freePort is the first port from start on that nobody listens on.
func freePort(ctx context.Context, start int) (int, error) {
	var lc net.ListenConfig
	for port := start; port < start+100; port++ {
		if l, err := lc.Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("no free port from %d on", start)
}

// startFunc runs Azure Functions Core Tools over the staged app.
func startFunc(ctx context.Context, tool, app string, port int, log io.Writer, env []string) (*host, error) {
	cmd := exec.CommandContext(context.WithoutCancel(ctx), tool, "start", "--script-root", app, "--port", strconv.Itoa(port)) // stop ends it
	cmd.Env, cmd.Stdout, cmd.Stderr = env, log, log
	cmd.Dir = filepath.Dir(app)
	cmd.WaitDelay = time.Second
	child.DieWithParent(cmd)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // ProcessState says how it ended
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
	child.Kill(cmd) // the group: a handler may be left
	<-done
}

// answers waits until the app's own health page does.
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

// Serve runs only the host stand-in, over dist/app with the given environment, until ctx ends.
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
