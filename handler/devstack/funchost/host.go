// Package funchost is a stand-in for the Azure Functions host, as far as a custom handler
// can see it: it reads host.json and the function folders of a staged app, starts the
// executable with FUNCTIONS_CUSTOMHANDLER_PORT, polls GET / until it answers, proxies the
// routes of function.json unbuffered with the host's headers, posts timer invocations as
// the JSON envelope and insists on the envelope's answer, restarts by the host's rules
// (exit 0 = dead for good, 200 = wanted restart, the third error with less than 30 minutes
// between stops the host), and stops the handler by SIGKILL, never by a signal it could catch.
//
// It is strict where the host is silent or hangs: what the host would swallow is an error
// line in Options.Log.
package funchost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Options of Start.
type Options struct {
	AppDir  string        // the staged app: host.json, the executable, one folder a function
	Addr    string        // default 127.0.0.1:0
	Env     []string      // of the handler; nil = this process's
	Fresh   bool          // each death is a lost instance, replaced by fresh host state on the same port
	Stdout  io.Writer     // the handler's output; nil = discarded
	Stderr  io.Writer     // nil = Stdout
	Log     io.Writer     // what the host has to say; nil = discarded
	Timers  time.Duration // fire every timer this often; 0 = only Trigger does
	Version string        // host version it claims; default 4.1052.200
	Idle    time.Duration // activity time-out; default 240 s
	// CollapseSlashes merges leading slashes, as a rewrite rule of an Application Gateway in
	// front can. The host itself answers //openai/… with 404, whatever the routes.
	CollapseSlashes bool
}

// bodyLimit is what FUNCTIONS_REQUEST_BODY_SIZE_LIMIT says, as the host reads it.
func (o Options) bodyLimit() int64 {
	for _, setting := range o.Env {
		if value, ok := strings.CutPrefix(setting, "FUNCTIONS_REQUEST_BODY_SIZE_LIMIT="); ok {
			if n, err := strconv.ParseInt(value, 10, 64); err == nil && n >= 0 {
				return n
			}
		}
	}
	return 104_857_600
}

// shared lets several processes' output go to one writer.
type shared struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(p)
}

func (o Options) withDefaults() Options {
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	if o.Env == nil {
		o.Env = os.Environ()
	}
	if o.Stdout == nil {
		o.Stdout = io.Discard
	}
	if o.Log == nil {
		o.Log = io.Discard
	}
	if o.Version == "" {
		o.Version = "4.1052.200"
	}
	if o.Idle == 0 {
		o.Idle = 240 * time.Second
	}
	o.Stdout, o.Log = &shared{w: o.Stdout}, &shared{w: o.Log}
	if o.Stderr == nil {
		o.Stderr = o.Stdout
	} else {
		o.Stderr = &shared{w: o.Stderr}
	}
	return o
}

// Host is a running host.
type Host struct {
	o         Options
	app       *app
	listener  net.Listener
	server    *http.Server
	transport *http.Transport
	bodyLimit int64

	ctx     context.Context // ends with the host
	stop    context.CancelFunc
	stopped chan struct{} // closed when no worker will ever run again and the listener is closed
	loops   sync.WaitGroup

	mu      sync.Mutex
	worker  *worker
	changed chan struct{} // closed and replaced at every change of worker or its readiness
	starts  int
	err     error // why the host stopped itself
}

// Start reads the app, listens, starts the handler and returns once it answers. ctx bounds
// the start only.
func Start(ctx context.Context, o Options) (*Host, error) {
	o = o.withDefaults()
	app, err := readApp(o.AppDir)
	if err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", o.Addr)
	if err != nil {
		return nil, fmt.Errorf("functions host: %w", err)
	}
	h := &Host{
		o: o, app: app, listener: l, stopped: make(chan struct{}), changed: make(chan struct{}), bodyLimit: o.bodyLimit(),
		transport: &http.Transport{
			MaxIdleConnsPerHost: 512, IdleConnTimeout: time.Minute, DisableCompression: true,
			ExpectContinueTimeout: time.Second, WriteBufferSize: 64 << 10, ReadBufferSize: 64 << 10,
		},
	}
	h.ctx, h.stop = context.WithCancel(context.Background())
	h.server = &http.Server{Handler: http.HandlerFunc(h.serve), ReadHeaderTimeout: 30 * time.Second, MaxHeaderBytes: 32 << 10}
	go func() { _ = h.server.Serve(l) }()
	h.loops.Go(h.supervise)
	if o.Timers > 0 {
		h.loops.Go(h.tick)
	}
	if _, err := h.ready(ctx); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

// URL is where the host serves, without a trailing slash.
func (h *Host) URL() string { return "http://" + h.listener.Addr().String() }

// Pid is the handler process of the moment, 0 while there is none.
func (h *Host) Pid() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.worker == nil || h.worker.gone() {
		return 0
	}
	return h.worker.cmd.Process.Pid
}

// Starts counts the handler processes started so far.
func (h *Host) Starts() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.starts
}

// Kill ends the handler by SIGKILL and returns when it is gone.
func (h *Host) Kill() {
	h.mu.Lock()
	w := h.worker
	h.mu.Unlock()
	if w != nil {
		w.kill()
	}
}

// Ready waits until the handler answers.
func (h *Host) Ready(ctx context.Context) error {
	_, err := h.ready(ctx)
	return err
}

// Done is closed when the host has stopped, by Close or by its own rules; Err tells why.
func (h *Host) Done() <-chan struct{} { return h.stopped }

// Err is why the host stopped itself; nil while it runs and after Close.
func (h *Host) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

// Close kills the handler and stops serving.
func (h *Host) Close() {
	h.stop()
	_ = h.server.Close()
	h.loops.Wait()
	h.transport.CloseIdleConnections()
}

func (h *Host) logf(format string, args ...any) {
	_, _ = fmt.Fprintf(h.o.Log, "functions host: "+format+"\n", args...)
}

var errStopped = errors.New("functions host: stopped")

// ready waits for a worker that answers, as invocations do while the worker (re)starts.
func (h *Host) ready(ctx context.Context) (*worker, error) {
	ctx, cancel := context.WithTimeout(ctx, 4*h.app.initTimeout)
	defer cancel()
	for {
		h.mu.Lock()
		w, changed, err := h.worker, h.changed, h.err
		usable := w != nil && w.usable()
		h.mu.Unlock()
		switch {
		case err != nil:
			return nil, err
		case usable:
			return w, nil
		}
		select {
		case <-changed:
		case <-h.ctx.Done():
			return nil, errStopped
		case <-ctx.Done():
			return nil, fmt.Errorf("functions host: handler not ready: %w", ctx.Err())
		}
	}
}

// announce wakes those who wait for a change.
func (h *Host) announce(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
	close(h.changed)
	h.changed = make(chan struct{})
}
