package process_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/devstack/funchost"
	"aoaigateway/handler/tests/harness"
)

const hostPolicy = `
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
      - {requests: 1, per: minute, hard: true}
  rarely:
    models: ["*"]
    limits:
      - {requests: 1, per: minute}
`

// The settings that the templates compute for an instance with 2,048 MB and 50 simultaneous
// requests.
const (
	shippedConcurrency = 50
	shippedHostLimit   = "FUNCTIONS_REQUEST_BODY_SIZE_LIMIT=12582912"
	shippedBodyLimit   = "GATEWAY_MAX_BODY_MB=11"
)

// hosted is a gateway behind the stand-in for the Functions host.
type hosted struct {
	*harness.Gateway

	host   *funchost.Host
	region *aoaisim.Region
}

func startHosted(t *testing.T, settings ...string) hosted {
	t.Helper()
	w := harness.NewEnvironment(t, harness.StartAzurite(t).ConnectionString(), hostPolicy)
	region := w.Region(1, aoaisim.Options{Name: "a", Profile: aoaisim.Kind}) // for bodies of many megabytes
	w.Secrets["secret-dead"] = "key"
	w.Backends = append(w.Backends, map[string]any{
		"name": "dead", "endpoint": "http://127.0.0.1:" + harness.FreePort(t), "credential": "secret-dead",
		"models": map[string]string{"dead": "dead"},
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	host, err := funchost.Start(ctx, funchost.Options{
		AppDir: harness.Staged(t), Env: w.Environ(settings...), Concurrency: shippedConcurrency,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(host.Close)
	h := hosted{&harness.Gateway{T: t, URL: host.URL()}, host, region}
	h.Key = h.Subscribe("default", "team")
	return h
}

// upload sends a chat request with a body of about size bytes, and reads the answer.
func (h hosted) upload(path, key string, size int, chunked bool) harness.Answer {
	head, tail := `{"model":"chat","messages":[{"role":"user","content":"`, `"}]}`
	fill := max(0, size-len(head)-len(tail))
	body := io.MultiReader(strings.NewReader(head), io.LimitReader(letters{}, int64(fill)), strings.NewReader(tail))
	req, err := http.NewRequestWithContext(h.T.Context(), http.MethodPost, h.URL+path, body)
	if err != nil {
		h.T.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Api-Key", key)
	if !chunked {
		req.ContentLength = int64(len(head) + fill + len(tail))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return harness.Answer{Err: err}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return harness.Answer{Status: resp.StatusCode, Header: resp.Header, Body: b, Err: err}
}

// letters is a reader of an endless text.
type letters struct{}

func (letters) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// refusal is a request that the gateway refuses, with the expected answer.
type refusal struct {
	status    int
	h         hosted
	path, key string
	least     int // least size of the body in bytes
}

// Every refusal reaches the client with its status and its JSON, whatever the size of the
// request's body.
func TestHostPassesRefusals(t *testing.T) {
	rounds, sizes := 1, []int{0, 5 << 20, 50 << 20}
	if harness.Proving {
		rounds, sizes = 20, []int{0, 1 << 20, 3 << 20, 5 << 20, 10 << 20, 50 << 20}
	}
	large, small := startHosted(t, "GATEWAY_MAX_BODY_MB=60"), startHosted(t, "GATEWAY_MAX_BODY_MB=1")
	once := large.Subscribe("once", "once")
	const chat = "/openai/v1/chat/completions"
	arrived, sent := 0, 0
	for _, c := range []refusal{
		{401, large, chat, "wrong-key-wrong-key", 0},
		{401, large, "/manage/api/subscriptions", "wrong-key-wrong-key", 0},
		{403, large, chat, large.Subscribe("narrow", "narrow"), 0},
		{404, large, "/openai/v1/nothing", large.Key, 0},
		{413, small, chat, small.Key, 2 << 20},
		{429, large, chat, once, 0},
		{503, large, "/openai/deployments/dead/chat/completions?api-version=2024-10-21", large.Key, 0},
	} {
		for _, size := range sizes {
			for n := range 2 * rounds {
				if size < c.least {
					continue
				}
				if c.status == 429 {
					useUpWindow(large, chat, once)
				}
				sent++
				if c.arrives(size, n%2 == 1) {
					arrived++
				}
			}
		}
	}
	harness.Report(t, "%d of %d refusals arrived through the host", arrived, sent)
}

// useUpWindow uses up a limit of one request a minute. If the minute is about to end, it waits
// for the next one, because the refusal must come within the same minute.
func useUpWindow(h hosted, path, key string) {
	h.T.Helper()
	if time.Until(time.Now().Truncate(time.Minute).Add(time.Minute)) < 5*time.Second {
		nextWindow(h.T)
	}
	h.upload(path, key, 0, false)
}

func (c refusal) arrives(size int, chunked bool) bool {
	a := c.h.upload(c.path, c.key, size, chunked)
	var body struct {
		StatusCode int `json:"statusCode"`
	}
	if a.Err != nil || a.Status != c.status || json.Unmarshal(a.Body, &body) != nil || body.StatusCode != c.status {
		c.h.T.Errorf("%d with %d bytes, chunked %v: %d %q, %v", c.status, size, chunked, a.Status, a.Body, a.Err)
		return false
	}
	return true
}

func TestRefusedBodiesAreNotHeld(t *testing.T) {
	h := startHosted(t, "GATEWAY_MAX_BODY_MB=60")
	const chat = "/openai/v1/chat/completions"
	narrow, rarely := h.Subscribe("narrow", "narrow"), h.Subscribe("rarely", "rarely") // its limit has no windows that may end meanwhile
	kinds := []refusal{
		{401, h, chat, "wrong-key-wrong-key", 0},
		{401, h, "/manage/api/subscriptions", "wrong-key-wrong-key", 0},
		{403, h, chat, narrow, 0},
		{404, h, "/openai/v1/nothing", h.Key, 0},
		{429, h, chat, rarely, 0},
		{503, h, "/openai/deployments/dead/chat/completions?api-version=2024-10-21", h.Key, 0},
	}
	h.upload(chat, rarely, 0, false)
	before := peakOf(t, h.host.Pid())
	var uploads sync.WaitGroup
	for n := range 16 {
		uploads.Go(func() { kinds[n%len(kinds)].arrives(50<<20, true) }) // with a length they would end the host
	}
	uploads.Wait()
	peak := peakOf(t, h.host.Pid())
	harness.Report(t, "16 refused bodies of 50 MB at a time: the gateway held %d MiB at most, %d before", peak, before)
	if peak > 60 {
		t.Errorf("the gateway held %d MiB", peak)
	}
}

// attack sends bodies without a key over many connections until ctx ends.
func (h hosted) attack(ctx context.Context, connections int, sizes []int) (sent *atomic.Int64, wait func()) {
	sent = new(atomic.Int64)
	var attackers sync.WaitGroup
	for range connections {
		attackers.Go(func() {
			for ctx.Err() == nil {
				h.strike(ctx, sizes[rand.IntN(len(sizes))])
				sent.Add(1)
			}
		})
	}
	return sent, attackers.Wait
}

// strike sends one body as raw bytes and ignores the answer.
func (h hosted) strike(ctx context.Context, size int) {
	conn, err := net.DialTimeout("tcp", strings.TrimPrefix(h.URL, "http://"), time.Second)
	if err != nil {
		time.Sleep(10 * time.Millisecond)
		return
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	fmt.Fprintf(conn, "POST /openai/v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", size)
	if _, err := io.CopyN(conn, letters{}, int64(size)); err == nil {
		_, _ = io.CopyN(io.Discard, conn, 1)
	}
}

// With the settings that are shipped, nobody can exhaust an instance's memory without a
// key. With the host's own limit of 100 MiB per body, a few bodies can; without this, the
// test would prove nothing.
func TestKeylessBodiesNeverEndInstance(t *testing.T) {
	lasts := 8 * time.Second
	if harness.Proving {
		lasts = time.Minute
	}
	h := startHosted(t, shippedHostLimit, shippedBodyLimit)
	ctx, cancel := context.WithTimeout(t.Context(), lasts)
	defer cancel()
	mb := 1 << 20
	sent, wait := h.attack(ctx, shippedConcurrency, []int{0, mb, 4 * mb, 8 * mb, 11 * mb, 12 * mb, 13 * mb, 100 * mb})
	good := 0
	for ctx.Err() == nil {
		if a := h.Post(harness.ChatPath, harness.ChatBody); a.Status == http.StatusOK && a.Err == nil {
			good++
		} else {
			t.Errorf("a good request during the attack: %d, %v", a.Status, a.Err)
		}
	}
	wait()
	if err := h.host.Err(); err != nil || h.host.Starts() != 1 {
		t.Fatalf("the host ended or restarted the gateway: %v, %d starts", err, h.host.Starts())
	}
	harness.Report(t, "%d bodies without a key in %v: the instance lives, %d good requests answered", sent.Load(), lasts, good)
	if good == 0 || sent.Load() < 50 {
		t.Error("the load proves nothing")
	}

	weak := startHosted(t)
	ctx, cancel = context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, wait = weak.attack(ctx, shippedConcurrency, []int{100 * mb})
	select {
	case <-weak.host.Done():
	case <-ctx.Done():
		t.Error("bodies of 100 MiB did not end a host that accepts them")
	}
	cancel()
	wait()
}

// The host resolves dot segments, so a path below /openai can reach /manage. The gateway
// must check such a request as it checks a direct one.
func TestDotsReachManageOnlyWithKey(t *testing.T) {
	h := startHosted(t)
	for _, path := range []string{
		"/manage/api/subscriptions", "/openai/../manage/api/subscriptions", "/openai/%2e%2e/manage/api/subscriptions",
		"/openai/%2E./manage/api/subscriptions", "/healthz/../manage/api/subscriptions", "/openai/v1/../../manage/api/subscriptions",
		"/openai/..%2fmanage/api/subscriptions", "/openai/%252e%252e/manage/api/subscriptions",
	} {
		if status := h.get(path); status != http.StatusUnauthorized && status != http.StatusNotFound {
			t.Errorf("%s with a subscription's key: %d", path, status)
		}
	}
}

// get requests a path exactly as it is written, which client libraries do not do.
func (h hosted) get(path string) (status int) {
	h.T.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(h.URL, "http://"))
	if err != nil {
		h.T.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nApi-Key: %s\r\n\r\n", path, h.Key)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		h.T.Fatalf("%s: %v", path, err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// If the gateway is killed during a request without a body, the host sends the request
// again. A request that creates something must be executed only once.
func TestKilledRequestIsDoneOnce(t *testing.T) {
	h := startHosted(t)
	h.region.Fault(aoaisim.Fault{Do: aoaisim.DoHang, Times: 1})
	answered := make(chan harness.Answer, 1)
	go func() { answered <- h.Do(http.MethodPost, "/openai/v1/vector_stores", "", "api-key="+h.Key) }()
	harness.Until(t, "the region has the request", func() bool { return h.region.Counts().Open == 1 })
	h.host.Kill()
	a := <-answered
	h.region.ClearFaults()
	if n := h.region.Counts().Requests; n != 1 {
		t.Errorf("the region got the request %d times", n)
	}
	if a.Status == http.StatusOK {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	t.Logf("the client got %d %s", a.Status, a.Body)
}
