package process_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"aoaigateway/handler/devstack/aoaisim"
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
`

// bodied is a gateway process without a Functions host.
type bodied struct {
	*harness.Gateway

	pid int
}

func startBodied(t *testing.T, settings ...string) bodied {
	t.Helper()
	w := harness.NewEnvironment(t, harness.StartAzurite(t).ConnectionString(), bodiesPolicy)
	w.Region(1, aoaisim.Options{Name: "a", Profile: aoaisim.Kind})
	p := harness.StartProcess(t, w.Environ(settings...))
	p.Ready()
	b := bodied{&harness.Gateway{T: t, URL: p.URL}, p.Cmd.Process.Pid}
	b.Key = b.Subscribe("default", "team")
	return b
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
	head, tail := `{"model":"chat","messages":[{"role":"user","content":"`, `"}]}`
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

// A subscription without quota sends large bodies. They are refused before they are read, and
// the requests of another subscription do not notice.
func TestExhaustedKeySendsLargeBodies(t *testing.T) {
	b := startBodied(t, "GATEWAY_MAX_BODY_MB=100")
	once := b.Subscribe("once", "once")
	if a := b.Post(harness.ChatPath, harness.ChatBody, "api-key="+once); a.Status != http.StatusOK {
		t.Fatalf("the only request that the limit allows: %d %s", a.Status, a.Body)
	}
	before := peakOf(t, b.pid)
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
	peak := peakOf(t, b.pid)
	harness.Report(t, "8 bodies of 94 MiB without quota: refused after %v at most, %d MiB of memory, %d before; %d other requests served",
		slowest, peak, before, served)
	if peak > 80 || slowest > time.Second { // about 100 ms if the machine has nothing else to do
		t.Errorf("%d MiB, %v", peak, slowest)
	}
}
