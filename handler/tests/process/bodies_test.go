package process_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"aoaigateway/handler/devstack/azurite"
	"aoaigateway/handler/tests/harness"
)

const bodiesPolicy = `
version: 1
models: {}
products:
  default:
    models: ["*"]
  narrow:
    models: [emb]
  once:
    models: ["*"]
    limits:
      - {requests: 1, per: month, hard: true}
  minute:
    models: ["*"]
    limits:
      - {requests: 1, per: minute}
`

// bodied is a gateway process without a Functions host.
type bodied struct {
	*harness.Gateway

	process *harness.Process
	model   string // that the bodies name
}

func (b bodied) peak() int { return peakOf(b.T, b.process.Cmd.Process.Pid) }

// startBodied starts a gateway whose only region reads each body to its end and keeps nothing.
func startBodied(t *testing.T, storage *azurite.Server, settings ...string) bodied {
	t.Helper()
	w := harness.NewEnvironment(t, storage.ConnectionString(), bodiesPolicy)
	region := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"object":"chat.completion","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`)
	}))
	t.Cleanup(region.Close)
	w.Secrets["secret-a"] = "key"
	w.Backends = append(w.Backends, map[string]any{
		"name": "a", "endpoint": region.URL, "credential": "secret-a", "models": map[string]string{"chat": "chat-a", "emb": "emb-a"},
	})
	p := harness.StartProcess(t, w.Environ(settings...))
	p.Ready()
	return bodied{&harness.Gateway{T: t, URL: p.URL}, p, "chat"}
}

// peakOf returns the largest memory of a process so far, in MiB.
func peakOf(t *testing.T, pid int) (mib int) {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if _, err := fmt.Sscanf(lines.Text(), "VmHWM: %d kB", &mib); err == nil {
			return mib >> 10
		}
	}
	t.Fatal("the kernel shows no peak")
	return 0
}

// firstAnswer is an answer that may have arrived before the whole body was sent.
type firstAnswer struct {
	status int
	code   string        // of the error
	after  time.Duration // from the end of the request's head to the answer's head
	unsent error         // why the rest of the body could not be sent; nil = it was sent
	err    error
}

// push sends a chat request of size bytes, and reads the answer while it sends.
func (b bodied) push(path, key string, size int) (a firstAnswer) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.URL, "http://"))
	if err != nil {
		return firstAnswer{err: err}
	}
	defer conn.Close()
	head, tail := `{"model":"`+b.model+`","messages":[{"role":"user","content":"`, `"}]}`
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nApi-Key: %s\r\nContent-Type: application/json\r\n", path, key)
	fmt.Fprintf(conn, "Content-Length: %d\r\n\r\n", size)
	start, sent := time.Now(), make(chan error, 1)
	go func() {
		body := io.MultiReader(strings.NewReader(head), io.LimitReader(letters{}, int64(size-len(head)-len(tail))), strings.NewReader(tail))
		_, err := io.Copy(conn, body)
		sent <- err
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	a.after = time.Since(start)
	if err != nil {
		a.err = err
		return a
	}
	var body struct {
		Error struct{ Code string }
	}
	a.status, a.err = resp.StatusCode, json.NewDecoder(resp.Body).Decode(&body)
	a.code, a.unsent = body.Error.Code, <-sent
	return a
}

// serveUntil sends small requests of the default product until wait returns, and returns
// their number. All of them must be answered.
func (b bodied) serveUntil(wait func()) (n int) {
	done := make(chan struct{})
	go func() { wait(); close(done) }()
	for ; ; n++ {
		select {
		case <-done:
			return n
		default:
		}
		if a := b.Post(harness.ChatPath, harness.ChatBody); a.Status != http.StatusOK {
			b.T.Errorf("a request of another subscription: %d, %v", a.Status, a.Err)
		}
	}
}

// Large bodies that are refused or answered cost the process little memory.
func TestLargeBodies(t *testing.T) {
	storage := harness.StartAzurite(t)
	b := startBodied(t, storage, "GATEWAY_MAX_BODY_MB=100", "GATEWAY_BODY_DISK_MB=1100",
		"GATEWAY_JOURNAL_INTERVAL=1ms") // otherwise a refusal waits for up to 100 ms for its record
	b.Key = b.Subscribe("default", "team")
	t.Run("refused by their content", func(t *testing.T) { b.in(t).refusesByContent() })
	t.Run("refused by their head", func(t *testing.T) { b.in(t).refusesByHead() })
	t.Run("answered", func(t *testing.T) { b.in(t).answersMany() })
	t.Run("without room", func(t *testing.T) {
		few := startBodied(t, storage, "GATEWAY_MAX_BODY_MB=100", "GATEWAY_BODY_DISK_MB=128", "GOMEMLIMIT=2GiB", "TMPDIR="+t.TempDir())
		few.Key = few.Subscribe("default", "many")
		few.refusesWithoutRoom()
	})
	t.Run("killed", func(t *testing.T) { leavesNothing(t, storage) })
}

// in returns b for a subtest.
func (b bodied) in(t *testing.T) bodied {
	t.Helper()
	b.Gateway = &harness.Gateway{T: t, URL: b.URL, Key: b.Key}
	return b
}

const v1Chat = "/openai/v1/chat/completions"

// pushAll sends n bodies of size bytes at once, and returns how often each status came, with
// the error's code. It fails the test if a body could not be sent or an answer is no JSON.
func (b bodied) pushAll(n, size int, path, key string) map[string]int {
	counts, answers := map[string]int{}, make(chan firstAnswer, n)
	for range n {
		go func() { answers <- b.push(path, key, size) }()
	}
	for range n {
		a := <-answers
		if err := errors.Join(a.err, a.unsent); err != nil {
			b.T.Errorf("%+v: %v", a, err)
		}
		counts[strings.TrimSpace(fmt.Sprint(a.status, " ", a.code))]++
	}
	return counts
}

// A subscription without quota sends large bodies. They are refused before they are read, and
// the requests of another subscription do not notice.
func (b bodied) refusesByHead() {
	t := b.T
	once := b.Subscribe("once", "once-only")
	if a := b.Post(harness.ChatPath, harness.ChatBody, "api-key="+once); a.Status != http.StatusOK {
		t.Fatalf("the only request that the limit allows: %d %s", a.Status, a.Body)
	}
	alone := b.push(harness.ChatPath, once, 94<<20)
	answers := make(chan firstAnswer, 8)
	var uploads sync.WaitGroup
	for range cap(answers) {
		uploads.Go(func() { answers <- b.push(harness.ChatPath, once, 94<<20) })
	}
	served := b.serveUntil(uploads.Wait)
	close(answers)
	var slowest time.Duration
	for a := range answers {
		slowest = max(slowest, a.after)
		if a.status != http.StatusForbidden || a.code != "QuotaExceeded" || errors.Join(a.err, a.unsent) != nil {
			t.Errorf("%+v", a)
		}
	}
	harness.Report(t, "8 bodies of 94 MiB without quota: refused after %v, one alone after %v, %d MiB of memory; %d others served",
		slowest, alone.after, b.peak(), served)
	if b.peak() > 80 || slowest > time.Second { // below 100 ms if the machine has nothing else to do
		t.Errorf("%d MiB, %v", b.peak(), slowest)
	}
}

// Bodies that are answered are held on disk, once, and every part of the gateway reads them
// from there.
func (b bodied) answersMany() {
	n := 4
	if harness.Proving {
		n = 30
	}
	counts := b.pushAll(n, 20<<20, v1Chat, b.Key)
	harness.Report(b.T, "%d bodies of 20 MiB at a time: %v, %d MiB of memory", n, counts, b.peak())
	if counts["200"] != n || b.peak() > 150 {
		b.T.Errorf("%v, %d MiB", counts, b.peak())
	}
}

// The path of a v1 request does not name the model, so two of these refusals follow from the
// body.
func (b bodied) refusesByContent() {
	n := 2
	if harness.Proving {
		n = 16
	}
	once, minute := b.Subscribe("once", "once"), b.Subscribe("minute", "minute")
	for _, c := range []struct{ what, key, model string }{
		{"403 ModelNotAllowed", b.Subscribe("narrow", "narrow"), "chat"},
		{"404 DeploymentNotFound", b.Key, "nobody-serves-this"},
		{"403 QuotaExceeded", once, "chat"},
		{"429 RateLimitExceeded", minute, "chat"},
	} {
		b.Post(harness.ChatPath, harness.ChatBody, "api-key="+c.key) // uses the limit up
		start := time.Now()
		b.model = c.model
		counts := b.pushAll(n, 50<<20, v1Chat, c.key)
		harness.Report(b.T, "%d bodies of 50 MiB at a time: %v in %v, %d MiB of memory", n, counts, time.Since(start), b.peak())
		if counts[c.what] != n {
			b.T.Errorf("%v, want %s", counts, c.what)
		}
	}
	if b.peak() > 60 {
		b.T.Errorf("%d MiB", b.peak())
	}
}

// More bodies than there is room for: each is answered or refused with 503, the process lives,
// and other callers do not notice.
func (b bodied) refusesWithoutRoom() {
	n, size := 24, 12<<20
	if harness.Proving {
		n, size = 100, 100<<20
	}
	others := b.in(b.T)
	others.Key = b.Subscribe("default", "others")
	var counts map[string]int
	start := time.Now()
	served := others.serveUntil(func() { counts = b.pushAll(n, size, v1Chat, b.Key) })
	harness.Report(b.T, "%d bodies of %d MiB at a time, room for 128 MiB: %v in %v, %d MiB of memory, %d requests of others served",
		n, size>>20, counts, time.Since(start), b.peak(), served)
	if counts["200"]+counts["503 RequestBodiesFull"] != n || counts["200"] == 0 || served == 0 || b.peak() > 150 {
		b.T.Errorf("%v, %d MiB, %d others served", counts, b.peak(), served)
	}
}

// leavesNothing kills a process that holds bodies on disk.
func leavesNothing(t *testing.T, storage *azurite.Server) {
	t.Helper()
	dir := t.TempDir()
	b := startBodied(t, storage, "GATEWAY_MAX_BODY_MB=100", "TMPDIR="+dir)
	key := b.Subscribe("default", "killed")
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nApi-Key: %s\r\nContent-Length: %d\r\n\r\n", v1Chat, key, 90<<20)
	if _, err := io.CopyN(conn, letters{}, 80<<20); err != nil {
		t.Fatal(err)
	}
	b.process.Signal(syscall.SIGKILL)
	b.process.Exit()
	left, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left on disk: %v, %v", left, err)
	}
}
