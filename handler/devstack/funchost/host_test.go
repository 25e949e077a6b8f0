//go:build unix

package funchost_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"aoaigateway/handler/devstack/funchost"
)

// TestMain lets the test binary be its own custom handler.
func TestMain(m *testing.M) {
	if port := os.Getenv("FUNCTIONS_CUSTOMHANDLER_PORT"); port != "" {
		handler(port)
		return
	}
	os.Exit(m.Run())
}

// handler is a custom handler that shows what it was sent and dies when told to.
func handler(port string) {
	if code, err := strconv.Atoi(os.Getenv("FAKE_EXIT_AT_START")); err == nil {
		fmt.Println("GATEWAY_BACKENDS: missing")
		os.Exit(code)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("/openai/echo", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		_ = json.NewEncoder(w).Encode(map[string]any{
			"uri": r.RequestURI, "host": r.Host, "header": r.Header, "body": len(body),
			"err": fmt.Sprint(err),
		})
	})
	mux.HandleFunc("/openai/stream", func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		lines := bufio.NewReader(r.Body)
		for line, err := lines.ReadString('\n'); err == nil; line, err = lines.ReadString('\n') {
			_, _ = fmt.Fprintf(w, "data: %s\n", line)
			_ = http.NewResponseController(w).Flush()
		}
	})
	mux.HandleFunc("/openai/exit/{code}", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		if r.URL.Query().Has("late") {
			_, _ = w.Write([]byte("data: 1\n\n"))
			_ = http.NewResponseController(w).Flush()
		}
		code, _ := strconv.Atoi(r.PathValue("code"))
		os.Exit(code)
	})
	mux.HandleFunc("POST /sweep", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", os.Getenv("FAKE_SWEEP_TYPE"))
		if answer := os.Getenv("FAKE_SWEEP"); answer != "echo" {
			_, _ = io.WriteString(w, answer)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{
			"Outputs": map[string]any{}, "ReturnValue": nil,
			"Logs": []string{r.UserAgent(), r.Header.Get("X-Forwarded-Proto"), string(body)},
		})
	})
	_ = http.ListenAndServe("127.0.0.1:"+port, mux)
}

const (
	hostJSON = `{"version":"2.0","extensions":{"http":{"routePrefix":""}},
		"customHandler":{"description":{"defaultExecutablePath":%q},"enableProxyingHttpRequest":true,"initializationTimeout":"00:00:10"}}`
	httpFunction = `{"bindings":[{"type":"httpTrigger","direction":"in","name":"req","authLevel":"anonymous","route":"openai/{*path}"},` +
		`{"type":"http","direction":"out","name":"res"}]}`
	sweepFunction = `{"bindings":[{"type":"timerTrigger","direction":"in","name":"timer","schedule":"0 */5 * * * *"}]}`
)

func appDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	all := map[string]string{
		"host.json": fmt.Sprintf(hostJSON, os.Args[0]), "openai/function.json": httpFunction,
		"sweep/function.json": sweepFunction,
	}
	maps.Copy(all, files)
	for name, text := range all {
		if text == "" {
			continue
		}
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func start(t *testing.T, o funchost.Options, env ...string) *funchost.Host {
	t.Helper()
	if o.AppDir == "" {
		o.AppDir = appDir(t, nil)
	}
	o.Env = append(os.Environ(), env...)
	o.Stdout, o.Log = t.Output(), t.Output()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	h, err := funchost.Start(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

type reply struct {
	status int
	body   string
}

func do(t *testing.T, method, url string, body io.Reader, header ...[2]string) (reply, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range header {
		req.Header.Add(line[0], line[1])
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, string(b)}, err
}

type echo struct {
	URI    string
	Host   string
	Header http.Header
	Body   int
}

func TestProxyHeaders(t *testing.T) {
	h := start(t, funchost.Options{})
	got, err := do(t, http.MethodPost, h.URL()+"/openai/echo?b=2&a=%2F;x", strings.NewReader("12345"),
		[2]string{"X-Forwarded-For", "6.6.6.6"}, [2]string{"X-Forwarded-Proto", "https"}, [2]string{"X-Forwarded-Prefix", "/evil"},
		[2]string{"Client-Ip", "6.6.6.6:1"}, [2]string{"x-ms-invocation-id", "forged"}, [2]string{"Te", "trailers"}, [2]string{"Keep-Alive", "5"},
		[2]string{"x-functions-key", "secret"}, [2]string{"Forwarded", "for=6.6.6.6"}, [2]string{"X-Ms-Client-Principal", "me"})
	if err != nil || got.status != http.StatusOK {
		t.Fatal(got, err)
	}
	var e echo
	if err := json.Unmarshal([]byte(got.body), &e); err != nil {
		t.Fatal(err)
	}
	if e.URI != "/openai/echo?b=2&a=%2F;x" || e.Body != 5 {
		t.Errorf("uri %q, body %d", e.URI, e.Body)
	}
	if !strings.HasPrefix(e.Host, "127.0.0.1:") || "http://"+e.Host == h.URL() {
		t.Errorf("host %q is not the handler's own", e.Host)
	}
	for name, want := range map[string]string{
		"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Prefix": "",
		"X-Forwarded-Host": strings.TrimPrefix(h.URL(), "http://"),
		"Disguised-Host":   strings.TrimPrefix(h.URL(), "http://"), "Te": "", "Keep-Alive": "", "Connection": "",
		"X-Functions-Key": "secret", "Forwarded": "for=6.6.6.6", "X-Ms-Client-Principal": "me", // passed on: the handler must strip them
	} {
		if got := e.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if ip := e.Header.Get("Client-Ip"); !strings.HasPrefix(ip, "127.0.0.1:") {
		t.Errorf("Client-Ip %q", ip)
	}
	for _, name := range []string{
		"X-Azure-Functions-Invocationid", "X-Azure-Functions-Hostversion", "X-Ms-Invocation-Id", "X-Arr-Log-Id",
		"Was-Default-Hostname",
	} {
		if v := e.Header.Get(name); v == "" || v == "forged" {
			t.Errorf("%s: %q", name, v)
		}
	}
}

func TestRoutes(t *testing.T) {
	h := start(t, funchost.Options{})
	for path, want := range map[string]int{
		"/": 204, "/openai/echo": 200, "/OpenAI/echo": 404, // routed in any case; the handler itself is strict
		"/sweep": 404, "/admin/host/status": 404, "/other": 404, "//openai/echo": 404, "/openai//echo": 404,
	} {
		got, err := do(t, http.MethodGet, h.URL()+path, nil)
		if err != nil || got.status != want {
			t.Errorf("%s: %v %v, want %d", path, got, err, want)
		}
	}
}

func TestLeadingSlashes(t *testing.T) {
	h := start(t, funchost.Options{CollapseSlashes: true})
	got, err := do(t, http.MethodGet, h.URL()+"//openai/echo?x=1", nil)
	if err != nil || got.status != http.StatusOK || !strings.Contains(got.body, `"uri":"/openai/echo?x=1"`) {
		t.Errorf("%v %v", got, err)
	}
}

func TestProxyDoesNotBuffer(t *testing.T) {
	h := start(t, funchost.Options{})
	in, out := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.URL()+"/openai/stream", in)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.WriteString(out, "0\n") }() // the headers come with the first byte
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewReader(resp.Body)
	for i := range 5 {
		if line, err := lines.ReadString('\n'); err != nil || line != fmt.Sprintf("data: %d\n", i) {
			t.Fatalf("event %d: %q %v", i, line, err)
		}
		_, _ = lines.ReadString('\n')
		_, _ = fmt.Fprintf(out, "%d\n", i+1)
	}
	_ = out.Close()
}

func TestBodyOverTheLimitIs413(t *testing.T) {
	h := start(t, funchost.Options{}, "FUNCTIONS_REQUEST_BODY_SIZE_LIMIT=1000")
	for _, body := range []io.Reader{
		strings.NewReader(strings.Repeat("x", 1001)),
		io.MultiReader(strings.NewReader(strings.Repeat("x", 1001))),
	} {
		got, err := do(t, http.MethodPost, h.URL()+"/openai/echo", body)
		if err != nil || got.status != http.StatusRequestEntityTooLarge {
			t.Errorf("%v %v", got, err)
		}
	}
}

func TestHandlerDies(t *testing.T) {
	h := start(t, funchost.Options{})
	got, err := do(t, http.MethodPost, h.URL()+"/openai/exit/200", strings.NewReader("x"))
	if err != nil || got.status != http.StatusBadGateway {
		t.Errorf("before: %v %v", got, err)
	}
	restarted := func(n int) {
		waitFor(t, func() bool { return h.Starts() == n })
		if err := h.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	restarted(2) // until its death is noticed a dead worker still gets requests
	got, err = do(t, http.MethodPost, h.URL()+"/openai/exit/200?late", strings.NewReader("x"))
	if got.status != http.StatusOK || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("after: %v %v", got, err)
	}
	restarted(3)
	if got, err = do(t, http.MethodGet, h.URL()+"/openai/echo", nil); err != nil || got.status != http.StatusOK {
		t.Errorf("after the restart: %v %v", got, err)
	}
}

func TestExitCodeZeroIsFinal(t *testing.T) {
	h := start(t, funchost.Options{})
	_, _ = do(t, http.MethodPost, h.URL()+"/openai/exit/0", strings.NewReader("x"))
	waitFor(t, func() bool { return h.Pid() == 0 })
	started := time.Now()
	got, err := do(t, http.MethodGet, h.URL()+"/openai/echo", nil)
	if err != nil || got.status != http.StatusBadGateway {
		t.Errorf("%v %v", got, err)
	}
	if d := time.Since(started); d < 1500*time.Millisecond || d > 5*time.Second {
		t.Errorf("a refused connection was masked for %v, want about 1.8 s", d)
	}
	if h.Starts() != 1 {
		t.Errorf("%d starts", h.Starts())
	}
}

func TestThirdErrorStopsHost(t *testing.T) {
	h := start(t, funchost.Options{})
	for i := range 3 {
		waitFor(t, func() bool { return h.Starts() == i+1 })
		_, _ = do(t, http.MethodPost, h.URL()+"/openai/exit/1", strings.NewReader("x"))
	}
	select {
	case <-h.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("still running")
	}
	if h.Err() == nil || h.Starts() != 3 {
		t.Errorf("%v after %d starts", h.Err(), h.Starts())
	}
	if _, err := do(t, http.MethodGet, h.URL()+"/openai/echo", nil); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("still serving: %v", err)
	}
}

func TestBadStartIsReported(t *testing.T) {
	_, err := funchost.Start(t.Context(), funchost.Options{AppDir: appDir(t, nil), Env: append(os.Environ(), "FAKE_EXIT_AT_START=1")})
	if err == nil || !strings.Contains(err.Error(), "GATEWAY_BACKENDS: missing") {
		t.Errorf("got %v", err)
	}
}

func TestFreshInstancesReplaceKilled(t *testing.T) {
	h := start(t, funchost.Options{Fresh: true})
	url := h.URL()
	for range 6 {
		pid := h.Pid()
		h.Kill()
		if err := h.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		if h.Pid() == pid || h.URL() != url {
			t.Errorf("pid %d, url %s", h.Pid(), h.URL())
		}
	}
	if got, err := do(t, http.MethodGet, url+"/openai/echo", nil); err != nil || got.status != http.StatusOK {
		t.Errorf("%v %v", got, err)
	}
	if _, err := do(t, http.MethodPost, url+"/openai/exit/1", strings.NewReader("x")); err == nil {
		t.Error("a lost instance answered")
	}
}

func TestInvalidAppIsRefused(t *testing.T) {
	for want, files := range map[string]map[string]string{
		"no function found": {"openai/function.json": "", "sweep/function.json": ""},
		"exactly one": {"openai/function.json": strings.Replace(httpFunction, `,{"type":"http","direction":"out","name":"res"}`, "",
			1)},
		"cannot be a function's": {"Openai2/function.json": httpFunction},
		"enableProxying":         {"host.json": strings.Replace(fmt.Sprintf(hostJSON, "x"), `"enableProxyingHttpRequest":true,`, "", 1)},
		"detected both": {"host.json": strings.Replace(fmt.Sprintf(hostJSON, "x"), `"initializationTimeout"`,
			`"http":{"routes":[{"route":"{*r}"}]},"initializationTimeout"`, 1)},
	} {
		_, err := funchost.Start(t.Context(), funchost.Options{AppDir: appDir(t, files)})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func TestCloseEndsHandler(t *testing.T) {
	var log bytes.Buffer
	h, err := funchost.Start(t.Context(), funchost.Options{AppDir: appDir(t, nil), Log: &log})
	if err != nil {
		t.Fatal(err)
	}
	pid := h.Pid()
	h.Close()
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d is still there: %v", pid, err)
	}
	if _, err := net.DialTimeout("tcp", strings.TrimPrefix(h.URL(), "http://"), time.Second); err == nil {
		t.Error("still listening")
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-deadline:
			t.Fatal("did not come about in 10 s")
		case <-time.After(5 * time.Millisecond):
		}
	}
}
