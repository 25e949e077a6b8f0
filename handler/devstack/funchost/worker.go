package funchost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"aoaigateway/handler/devstack/child"
)

// worker is one handler process.
type worker struct {
	cmd     *exec.Cmd
	addr    string
	exited  chan struct{} // closed after Wait
	code    int           // valid after exited
	up      atomic.Bool   // answered GET /
	kept    bool          // exited with 0: the host goes on sending to its dead port; under Host.mu
	overran atomic.Bool   // killed for an invocation over functionTimeout, which is no error
	due     time.Time     // end of the initialization time
	tail    *tail
}

func (w *worker) gone() bool {
	select {
	case <-w.exited:
		return true
	default:
		return false
	}
}

// usable says that requests are sent its way. A worker that left with 0 stays in that place.
func (w *worker) usable() bool { return w.up.Load() && (!w.gone() || w.kept) }

func (w *worker) kill() {
	_ = w.cmd.Process.Kill()
	<-w.exited
}

// errorGap is how long the host remembers an error; the third within such gaps stops it.
const (
	errorGap  = 30 * time.Minute
	maxErrors = 3
	stopDelay = 2 * time.Second // from the decision to stop to the end
)

// supervise runs one worker after the other until the rules or Close say stop.
func (h *Host) supervise() {
	defer close(h.stopped)
	defer h.server.Close()
	var failures int
	var last time.Time
	port, err := h.freePort()
	for h.ctx.Err() == nil {
		if h.o.Fresh && h.Starts() > 0 { // another instance
			port, err = h.freePort()
		}
		var w *worker
		if err == nil {
			w, err = h.spawn(port)
		}
		if err != nil { // the host would leave its callers hanging; say it instead
			h.fail(fmt.Errorf("functions host: cannot start the handler: %w", err))
			return
		}
		h.run(w)
		switch {
		case h.ctx.Err() != nil:
			return
		case h.o.Fresh && w.up.Load():
			h.server.ResetAll()
			continue
		case w.code == 200, w.overran.Load():
			continue
		case w.kept:
			h.logf("exit code 0: the handler is not started again, its port stays dead")
			<-h.ctx.Done()
			return
		}
		if time.Since(last) > errorGap {
			failures = 0
		}
		last = time.Now()
		if failures++; failures == maxErrors {
			h.fail(fmt.Errorf("functions host: Exceeded http worker restart retry count. Shutting down Functions Host: "+
				"the handler failed %d times, last with exit code %d\n%s", failures, w.code, w.tail))
			h.sleep(stopDelay)
			return
		}
	}
}

// run returns when the worker is gone and its end was judged.
func (h *Host) run(w *worker) {
	stopPolling := h.await(w)
	defer stopPolling()
	select {
	case <-w.exited:
	case <-h.ctx.Done():
		w.kill()
	}
	h.logf("handler exited with code %d", w.code)
	h.announce(func() { w.kept = w.code == 0 && w.up.Load() && !h.o.Fresh })
	if w.code == 0 && !w.up.Load() && !h.o.Fresh { // the host notices nothing before the initialization time is over
		h.sleep(time.Until(w.due))
	}
}

func (h *Host) sleep(d time.Duration) {
	select {
	case <-time.After(d):
	case <-h.ctx.Done():
	}
}

var errTimeout = errors.New("the invocation took longer than functionTimeout")

// limitTime kills the worker, with every other request in it, when an invocation is over functionTimeout.
func (h *Host) limitTime(w *worker, cancel context.CancelCauseFunc) (stop func()) {
	if h.app.timeout == 0 {
		return func() {}
	}
	t := time.AfterFunc(h.app.timeout, func() {
		cancel(errTimeout)
		w.overran.Store(true)
		w.kill()
	})
	return func() { t.Stop() }
}

func (h *Host) fail(err error) {
	h.logf("%v", err)
	h.announce(func() { h.err = err })
}

// freePort chooses the port that all workers of a host's life get.
func (h *Host) freePort() (string, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(h.ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port, l.Close()
}

func (h *Host) spawn(port string) (*worker, error) {
	id := uuid.NewString()
	w := &worker{addr: "127.0.0.1:" + port, exited: make(chan struct{}), due: time.Now().Add(h.app.initTimeout), tail: &tail{}}
	w.cmd = exec.CommandContext(h.ctx, h.app.executable, h.app.arguments...)
	w.cmd.Dir = h.app.workingDir
	w.cmd.Env = append(append([]string{}, h.o.Env...),
		"FUNCTIONS_CUSTOMHANDLER_PORT="+port, "FUNCTIONS_CUSTOMHANDLER_WORKER_ID="+id,
		"FUNCTIONS_HTTPWORKER_PORT="+port, "FUNCTIONS_HTTPWORKER_ID="+id,
		"FUNCTIONS_APP_ROOT_PATH="+h.app.dir)
	w.cmd.Stdout = io.MultiWriter(h.o.Stdout, w.tail)
	w.cmd.Stderr = io.MultiWriter(h.o.Stderr, w.tail)
	w.cmd.WaitDelay = time.Second
	child.DieWithParent(w.cmd)
	if err := w.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		err := w.cmd.Wait()
		w.code = w.cmd.ProcessState.ExitCode()
		if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() < 0 {
			w.code = 137 // killed by a signal, as the platform reports it
		}
		close(w.exited)
	}()
	h.announce(func() { h.worker = w; h.starts++ })
	return w, nil
}

// await polls GET / every 25 ms until any status comes, and ends a worker that gives none
// in the initialization time.
func (h *Host) await(w *worker) (stop func()) {
	ctx, cancel := context.WithDeadline(h.ctx, w.due)
	go func() {
		client := &http.Client{
			Transport:     &http.Transport{DisableKeepAlives: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
		for !w.gone() && ctx.Err() == nil {
			if answers(ctx, client, "http://"+w.addr+"/", "Azure-Functions-Host/"+h.o.Version) {
				h.announce(func() { w.up.Store(true) })
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(25 * time.Millisecond):
			}
		}
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			h.logf("the handler gave no answer to GET / in %v", h.app.initTimeout)
			w.kill()
		}
	}()
	return cancel
}

func answers(ctx context.Context, client *http.Client, url, agent string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	req.Header.Set("User-Agent", agent)
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return true
}

// tail keeps the last output of a worker for the message of a host that gives up.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const keptTail = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if n := len(t.b) - keptTail; n > 0 {
		t.b = append([]byte(nil), t.b[n:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.b))
}
