//go:build unix

package funchost_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"aoaigateway/handler/devstack/funchost"
)

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// post sends a body of one byte on a new connection.
func (s *site) post(path string) (int, error) {
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Post(s.URL()+path, "", strings.NewReader("x"))
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

func TestDefaults(t *testing.T) {
	for name, values := range map[string][2]time.Duration{
		"idle": {funchost.DefaultIdle, 240 * time.Second}, "initialization": {funchost.DefaultInitTimeout, 30 * time.Second},
		"function": {funchost.DefaultTimeout, 30 * time.Minute},
	} {
		if values[0] != values[1] {
			t.Errorf("%s timeout %v, want %v", name, values[0], values[1])
		}
	}
	if funchost.DefaultMemory != 1536<<20 {
		t.Errorf("memory %d", funchost.DefaultMemory)
	}
}

// Requests in flight when the handler dies: one without a body is sent again to the next
// process under the same invocation id, one with a body is lost.
func TestCrashSendsAgain(t *testing.T) {
	s := start(t, funchost.Options{})
	var wg sync.WaitGroup
	for i := range 3 {
		for _, raw := range []string{
			get(fmt.Sprintf("/openai/a?do=slow&ms=300&id=%d-get", i)), post(fmt.Sprintf("/openai/a?do=slow&ms=300&id=%d-post", i), "x"),
			post(fmt.Sprintf("/openai/a?do=slow&ms=300&id=%d-empty", i), ""),
		} {
			wg.Go(func() {
				r := s.send(t, raw)
				if strings.Contains(raw, "-post") {
					if !r.empty(500) || r.took < 1800*time.Millisecond {
						t.Errorf("with a body: %v", r)
					}
				} else if seen := r.see(t); seen.Pid != s.Pid() {
					t.Errorf("answered by process %d, want %d", seen.Pid, s.Pid())
				}
			})
		}
	}
	waitFor(t, func() bool { return s.noted("READ") == 9 })
	s.Kill()
	wg.Wait()
	for kind, want := range map[string]int{"-get": 6, "-empty": 6, "-post": 3} {
		if n := s.noted("READ none") + s.noted("READ length"); s.noted(kind)/2 != want {
			t.Errorf("%s: delivered %d times, want %d (%d in all)", kind, s.noted(kind)/2, want, n)
		}
	}
}

func TestInvocationIDStays(t *testing.T) {
	s := start(t, funchost.Options{})
	first := s.send(t, get(x)).see(t).get("X-Azure-Functions-InvocationId")[0]
	second := s.send(t, get(x)).see(t).get("X-Azure-Functions-InvocationId")[0]
	if first == second {
		t.Error("two requests have one id")
	}
	_ = s.send(t, raw("", "fin")) // ten tries
	if n := s.noted("READ none /openai/r"); n != 10 {
		t.Errorf("delivered %d times, want 10", n)
	}
	ids := s.ids("/openai/r")
	if len(ids) != 1 {
		t.Errorf("ids of ten tries: %v", ids)
	}
}

// ids returns the invocation ids under which a path was delivered.
func (s *site) ids(path string) map[string]bool {
	ids := map[string]bool{}
	b, _ := os.ReadFile(s.log)
	for line := range strings.Lines(string(b)) {
		if _, id, ok := strings.Cut(line, "ID "); ok && strings.Contains(line, path) {
			ids[strings.Fields(id)[0]] = true
		}
	}
	return ids
}

// bodies posts n bodies that all stop one byte before their end, and then ends them.
func bodies(t *testing.T, s *site, n, size int) (replies []reply) {
	t.Helper()
	var conns []net.Conn
	for range n {
		c := dial(t, s)
		_, _ = io.WriteString(c, request("POST", x, fmt.Sprintf("Content-Length: %d\r\n", size), strings.Repeat("x", size-1)))
		conns = append(conns, c)
	}
	time.Sleep(100 * time.Millisecond) // all are in the host
	for _, c := range conns {
		_, _ = io.WriteString(c, "x")
		replies = append(replies, answerOf(c, false, time.Now()))
	}
	return replies
}

// A hundredth of the sizes that were recorded: four bodies of 100 MB at a time, or sixteen of
// 20 MB, end a host with 1,536 MiB; eight of 30 MB, or any number one after the other, do not.
func TestLargeBodiesEndHost(t *testing.T) {
	const memory = funchost.DefaultMemory / 100
	s := start(t, funchost.Options{Memory: memory})
	for range 5 {
		if r := bodies(t, s, 1, 1_000_000); r[0].status != 200 {
			t.Fatal(r)
		}
	}
	for _, r := range bodies(t, s, 8, 300_000) {
		if r.status != 200 {
			t.Error(r)
		}
	}
	for _, c := range [][2]int{{4, 1_000_000}, {16, 200_000}} {
		var log locked
		s := start(t, funchost.Options{Memory: memory, Log: &log})
		for _, r := range bodies(t, s, c[0], c[1]) {
			if r.err == nil {
				t.Errorf("answered by a host that ends: %v", r)
			}
		}
		select {
		case <-s.Done():
		case <-time.After(5 * time.Second):
			t.Fatal("still running")
		}
		const want = "An unhandled exception has occurred. Host is shutting down."
		if err := s.Err(); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(log.String(), want) {
			t.Errorf("%v; log %s", err, log.String())
		}
		if _, err := net.Dial("tcp", s.addr()); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("still listening: %v", err)
		}
	}
}

// Chunked bodies take none of the host's memory.
func TestChunkedTakesNoMemory(t *testing.T) {
	s := start(t, funchost.Options{Memory: 1 << 20})
	if r := s.send(t, chunked(x, "400000\r\n"+strings.Repeat("x", 4<<20)+"\r\n0\r\n\r\n")); r.see(t).N != 4<<20 {
		t.Error(r)
	}
}

func TestConcurrencyBound(t *testing.T) {
	s := start(t, funchost.Options{Concurrency: 2})
	var wg sync.WaitGroup
	began := time.Now()
	for range 6 {
		wg.Go(func() {
			if r := s.send(t, get("/openai/a?do=slow&ms=100")); r.status != 200 {
				t.Error(r)
			}
		})
	}
	wg.Wait()
	if took := time.Since(began); took < 300*time.Millisecond {
		t.Errorf("six requests of 100 ms, two at a time, took %v", took)
	}
}

func TestFrontEndHeaders(t *testing.T) {
	s := start(t, funchost.Options{FrontEnd: true})
	seen := s.send(t, get(x, "Client-IP: 6.6.6.6:1", "X-Forwarded-Proto: https", "Disguised-Host: evil")).see(t)
	for name, want := range map[string]string{
		"Disguised-Host": "gw.example", "X-Forwarded-Host": "gw.example", "X-Forwarded-Proto": "https", "X-Original-Url": x,
	} {
		if got := seen.get(name); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if ip := seen.get("Client-Ip"); len(ip) != 1 || !strings.HasPrefix(ip[0], "127.0.0.1:") || strings.Contains(seen.Head, "6.6.6.6") {
		t.Errorf("Client-Ip %q", ip)
	}
	plain := start(t, funchost.Options{}).send(t, get(x, "Client-IP: 6.6.6.6:1")).see(t)
	if ip := plain.get("Client-IP"); len(ip) != 1 || ip[0] != "6.6.6.6:1" || len(plain.get("X-Arr-Log-Id")) != 0 {
		t.Errorf("without a front end: %s", plain.Head)
	}
}

func TestLeadingSlashes(t *testing.T) {
	s := start(t, funchost.Options{CollapseSlashes: true})
	target("//openai/a?x=1", "/openai/a?x=1")(t, s)
}

// The request's body and the answer both pass piece by piece.
func TestProxyDoesNotBuffer(t *testing.T) {
	s := start(t, funchost.Options{})
	c := dial(t, s)
	began := time.Now()
	_, _ = io.WriteString(c, get("/openai/a?do=stream&n=5&ms=400"))
	var got strings.Builder
	for part := make([]byte, 4096); !strings.Contains(got.String(), "data: 1"); {
		n, err := c.Read(part)
		if err != nil {
			t.Fatal(err)
		}
		got.Write(part[:n])
	}
	if took := time.Since(began); took > 1200*time.Millisecond {
		t.Errorf("the first event came after %v", took)
	}
}

func TestKeepAlive(t *testing.T) {
	s := start(t, funchost.Options{})
	c := dial(t, s)
	_, _ = io.WriteString(c, get(x)+post(x, "hello")+request("GET", x, "Connection: close\r\n", "")) // pipelined
	b, err := io.ReadAll(c)
	if n := strings.Count(string(b), "HTTP/1.1 200 OK"); err != nil || n != 3 {
		t.Errorf("%d answers: %v\n%s", n, err, b)
	}
}

func TestBadStartIsReported(t *testing.T) {
	_, err := tryStart(t, funchost.Options{}, "FAKE_EXIT=1")
	if err == nil || !strings.Contains(err.Error(), "GATEWAY_BACKENDS: missing") {
		t.Errorf("got %v", err)
	}
}

func TestFreshInstancesReplaceKilled(t *testing.T) {
	s := start(t, funchost.Options{Fresh: true})
	url := s.URL()
	for range 6 {
		pid := s.Pid()
		s.Kill()
		if err := s.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s.Pid() == pid || s.URL() != url {
			t.Errorf("pid %d, url %s", s.Pid(), s.URL())
		}
	}
	if seen := s.send(t, get(x)).see(t); seen.Pid != s.Pid() {
		t.Errorf("process %d, want %d", seen.Pid, s.Pid())
	}
	if r := s.send(t, post("/openai/a?do=exit&rc=1", "x")); !errors.Is(r.err, syscall.ECONNRESET) {
		t.Errorf("a lost instance answered: %v", r)
	}
}

func TestInvalidAppIsRefused(t *testing.T) {
	valid := fmt.Sprintf(hostJSON, "x")
	openai := fmt.Sprintf(httpFunction, "openai/{*path}")
	none := map[string]string{"openai/function.json": "", "manage/function.json": "", "healthz/function.json": "", "sweep/function.json": ""}
	for want, files := range map[string]map[string]string{
		"no function found":      none,
		"exactly one":            {"openai/function.json": strings.Replace(openai, `,{"type":"http","direction":"out","name":"res"}`, "", 1)},
		"cannot be a function's": {"Openai2/function.json": openai},
		"enableProxying":         {"host.json": strings.Replace(valid, `"enableProxyingHttpRequest":true,`, "", 1)},
		"functionTimeout":        {"host.json": strings.Replace(valid, `01:00:00`, "an hour", 1)},
		"detected both": {"host.json": strings.Replace(valid, `"initializationTimeout"`,
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
