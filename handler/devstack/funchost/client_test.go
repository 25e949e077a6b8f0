//go:build unix

package funchost_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"aoaigateway/handler/devstack/funchost"
)

const (
	hostJSON = `{"version":"2.0","functionTimeout":"01:00:00","extensions":{"http":{"routePrefix":""}},"customHandler":` +
		`{"description":{"defaultExecutablePath":%q},"enableProxyingHttpRequest":true,"initializationTimeout":"00:00:10"}}`
	httpFunction = `{"bindings":[{"type":"httpTrigger","direction":"in","name":"req","authLevel":"anonymous","route":"%s"},` +
		`{"type":"http","direction":"out","name":"res"}]}`
	sweepFunction = `{"bindings":[{"type":"timerTrigger","direction":"in","name":"timer","schedule":"0 */5 * * * *"}]}`
)

func appDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	all := map[string]string{
		"host.json": fmt.Sprintf(hostJSON, os.Args[0]), "openai/function.json": fmt.Sprintf(httpFunction, "openai/{*path}"),
		"manage/function.json": fmt.Sprintf(httpFunction, "manage/{*path}"), "healthz/function.json": fmt.Sprintf(httpFunction, "healthz"),
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

// site is a running host and its handler's log.
type site struct {
	*funchost.Host
	log string
}

func start(t *testing.T, o funchost.Options, env ...string) *site {
	t.Helper()
	s, err := tryStart(t, o, env...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func tryStart(t *testing.T, o funchost.Options, env ...string) (*site, error) {
	t.Helper()
	if o.AppDir == "" {
		o.AppDir = appDir(t, nil)
	}
	s := &site{log: filepath.Join(t.TempDir(), "log")}
	o.Env = append(append(os.Environ(), "FAKE_LOG="+s.log), env...)
	if o.Stdout == nil {
		o.Stdout = t.Output()
	}
	if o.Log == nil {
		o.Log = t.Output()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	h, err := funchost.Start(ctx, o)
	if err != nil {
		return nil, err
	}
	s.Host = h
	t.Cleanup(h.Close)
	return s, nil
}

// noted counts the lines of the handler's log that contain text.
func (s *site) noted(text string) (n int) {
	b, _ := os.ReadFile(s.log)
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

func (s *site) addr() string { return strings.TrimPrefix(s.URL(), "http://") }

// reply is what a caller got.
type reply struct {
	status int
	reason string
	header http.Header
	length int64 // -1 when chunked or until the end
	body   string
	err    error // syscall.ECONNRESET after an RST
	took   time.Duration
}

// empty tells whether this is the host's answer without a body.
func (r reply) empty(status int) bool {
	_, typed := r.header["Content-Type"]
	return r.status == status && r.body == "" && r.length == 0 && !typed && r.err == nil
}

func (r reply) String() string {
	return fmt.Sprintf("%d %s %v length %d %q, %v after %v", r.status, r.reason, r.header, r.length, r.body, r.err, r.took)
}

// see decodes what the handler was sent.
func (r reply) see(t *testing.T) seen {
	t.Helper()
	var s seen
	if err := json.Unmarshal([]byte(r.body), &s); err != nil || r.status != http.StatusOK {
		t.Fatalf("no echo: %v", r)
	}
	return s
}

func dial(t *testing.T, s *site) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", s.addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return c.(*net.TCPConn)
}

// send sends bytes as they are and reads one answer.
func (s *site) send(t *testing.T, raw string) reply {
	t.Helper()
	c := dial(t, s)
	began := time.Now()
	go func() { _, _ = io.WriteString(c, raw) }()
	return answerOf(c, strings.HasPrefix(raw, "HEAD "), began)
}

func answerOf(c net.Conn, head bool, began time.Time) (r reply) {
	method := http.MethodGet
	if head {
		method = http.MethodHead
	}
	in := bufio.NewReader(c)
	resp, err := http.ReadResponse(in, &http.Request{Method: method})
	for err == nil && resp.StatusCode == http.StatusContinue {
		resp, err = http.ReadResponse(in, &http.Request{Method: method})
	}
	r.took = time.Since(began)
	if err != nil {
		r.err = reset(err)
		return r
	}
	_, r.reason, _ = strings.Cut(resp.Status, " ")
	r.status, r.header, r.length = resp.StatusCode, resp.Header, resp.ContentLength
	if resp.Close {
		r.header.Set("Connection", "close")
	}
	for name := range resp.Trailer {
		r.header.Set("Trailer", name)
	}
	b, err := io.ReadAll(resp.Body)
	r.body, r.err, r.took = string(b), reset(err), time.Since(began)
	return r
}

func reset(err error) error {
	if errors.Is(err, syscall.ECONNRESET) {
		return syscall.ECONNRESET
	}
	return err
}

func request(method, target, header, body string) string {
	return method + " " + target + " HTTP/1.1\r\nHost: gw.example\r\n" + header + "\r\n" + body
}

func get(target string, header ...string) string {
	return request("GET", target, strings.Join(append(header, ""), "\r\n"), "")
}

func post(target, body string, header ...string) string {
	header = append(header, fmt.Sprintf("Content-Length: %d", len(body)), "")
	return request("POST", target, strings.Join(header, "\r\n"), body)
}

func chunked(target, body string, header ...string) string {
	header = append(header, "Transfer-Encoding: chunked", "")
	return request("POST", target, strings.Join(header, "\r\n"), body)
}

// raw asks the handler to answer with these bytes and then to end the connection as ending says.
func raw(answer, ending string) string {
	return get("/openai/r?do=raw&ms=20&close=" + ending + "&b64=" + url.QueryEscape(base64.StdEncoding.EncodeToString([]byte(answer))))
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
