// Package funchost is a stand-in for the Azure Functions host, as far as a custom handler and
// its callers can see it: it reads host.json and the function folders of a staged app, starts
// the executable with FUNCTIONS_CUSTOMHANDLER_PORT, polls GET / until it answers, proxies the
// routes of function.json with the host's headers, posts timer invocations as the JSON
// envelope and insists on the envelope's answer, restarts by the host's rules (exit 0 = dead
// for good, 200 = wanted restart, the third error with less than 30 minutes between stops the
// host), and stops the handler by SIGKILL, never by a signal it could catch. What it does with
// a request was recorded from version 4.1037 of the host; the tests list each fact.
//
// It is strict where the host is silent or hangs: what the host would swallow is an error
// line in Options.Log.
package funchost

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"aoaigateway/handler/devstack/kestrel"
)

// Host is a running host.
type Host struct {
	o         Options
	app       *app // valid once up
	up        atomic.Bool
	listener  net.Listener
	server    *kestrel.Server
	pool      *pool
	transport *http.Transport // of timers
	bodyLimit int64
	memory    memory
	slots     chan struct{} // one for each concurrent invocation; nil = no bound

	ctx     context.Context // ends with the host
	stop    context.CancelFunc
	stopped chan struct{} // closed when no worker will ever run again and the listener is closed
	loops   sync.WaitGroup

	mu      sync.Mutex
	worker  *worker
	changed chan struct{} // closed and replaced at every change of worker or its readiness
	starts  int
	err     error                // why the host stopped itself
	fired   map[string]time.Time // when each timer fired last
}

// Start reads the app, listens, starts the handler and returns once it answers. ctx bounds
// the start only.
func Start(ctx context.Context, o Options) (*Host, error) {
	o = o.withDefaults()
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", o.Addr)
	if err != nil {
		return nil, fmt.Errorf("functions host: %w", err)
	}
	h := &Host{
		o: o, listener: l, stopped: make(chan struct{}), changed: make(chan struct{}), bodyLimit: o.bodyLimit(),
		memory: memory{limit: o.Memory}, pool: &pool{}, transport: &http.Transport{DisableCompression: true},
		fired: map[string]time.Time{},
	}
	if o.Concurrency > 0 {
		h.slots = make(chan struct{}, o.Concurrency)
	}
	h.ctx, h.stop = context.WithCancel(context.Background())
	h.server = &kestrel.Server{Handler: h.serve, BodyLimit: h.bodyLimit}
	h.loops.Go(func() { h.server.Serve(l) })
	if h.app, err = readApp(o.AppDir); err != nil {
		h.Close()
		return nil, err
	}
	h.up.Store(true)
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
	h.server.Close()
	h.loops.Wait()
	h.pool.close()
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
