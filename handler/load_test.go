package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidwall/gjson"
)

// sight is what one client saw of one request.
type sight struct {
	ask       ask
	team      string
	id        string // of the record; empty = no headers came
	status    int
	code      string // of an error answer
	seen      int64  // bytes of the answer
	complete  bool   // the client holds all it would wait for
	left      bool   // the client's own doing
	reported  bool   // an error event ended the stream
	tokens    int64  // 0 = the answer did not say
	sum       string // SHA-256 of the bytes seen
	unaltered bool   // the gateway had nothing to remove from the region's bytes
}

// ask is one sort of request; %s is the prompt.
type ask struct {
	name, path, body string
	stream           bool
	plainUsage       bool // the client asks for usage itself, or the answer has it anyway
}

const responsesPath = "/openai/v1/responses"

var asks = []ask{
	{"chat", chatPath, `{"messages":[{"role":"user","content":"%s"}]}`, false, true},
	{"chat stream", chatPath, `{"messages":[{"role":"user","content":"%s"}],"stream":true}`, true, false},
	{"chat stream with usage", chatPath, `{"messages":[{"role":"user","content":"%s"}],"stream":true,"stream_options":{"include_usage":true}}`, true, true},
	{"response", responsesPath, `{"model":"chat","input":"%s"}`, false, true},
	{"response stream", responsesPath, `{"model":"chat","input":"%s","stream":true}`, true, true},
	{"embedding", "/openai/deployments/emb/embeddings?api-version=2024-10-21", `{"input":"%s"}`, false, true},
}

// longAsk is answered by more than the gateway holds back as a whole, 1 MiB.
var longAsk = ask{
	"long embedding", "/openai/deployments/emb/embeddings?api-version=2024-10-21",
	`{"input":["%s"` + strings.Repeat(`,"more"`, 80) + `]}`, false, true,
}

// client sends one request after the other.
type client struct {
	url, key, team string
	number         int
	asks           []ask
	leaves         bool // sometimes in the middle of an answer
	http           *http.Client
}

// run goes on until stop is closed; the request under way then is seen to its end.
func (c *client) run(ctx context.Context, stop <-chan struct{}, see func(sight)) {
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		a := c.asks[(c.number+n)%len(c.asks)]
		prompt := fmt.Sprintf("client %d asks for the %d. time [tokens:%d]", c.number, n, 3+rand.IntN(60))
		see(c.one(ctx, a, prompt))
	}
}

// one sends one request and looks at the answer as far as it comes.
func (c *client) one(ctx context.Context, a ask, prompt string) sight {
	s := sight{ask: a, team: c.team}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+a.path, strings.NewReader(fmt.Sprintf(a.body, prompt)))
	if err != nil {
		return s
	}
	req.Header.Set("Api-Key", c.key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return s
	}
	defer resp.Body.Close()
	s.id, s.status = resp.Header.Get("X-Gateway-Request-Id"), resp.StatusCode
	sum := sha256.New()
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		leaveAfter := -1
		if c.leaves && rand.IntN(10) == 0 {
			leaveAfter = 1 + rand.IntN(5)
		}
		s.events(resp.Body, sum, leaveAfter)
	} else {
		s.whole(resp, sum)
	}
	s.sum = hex.EncodeToString(sum.Sum(nil))
	return s
}

// whole reads a body that is complete when its announced length has come.
func (s *sight) whole(resp *http.Response, sum hash.Hash) {
	body, err := io.ReadAll(resp.Body)
	sum.Write(body)
	s.seen, s.unaltered = int64(len(body)), true
	s.complete = err == nil && resp.ContentLength == s.seen
	s.code = gjson.GetBytes(body, "error.code").String()
	if s.complete && s.status == http.StatusOK {
		s.tokens = gjson.GetBytes(body, "usage.total_tokens").Int()
	}
}

// events reads a stream. Its terminal event makes it complete: clients stop reading there,
// however the connection ends.
func (s *sight) events(body io.Reader, sum hash.Hash, leaveAfter int) {
	s.unaltered = s.ask.plainUsage
	r := bufio.NewReader(io.TeeReader(body, sum))
	var event []byte
	for n := 0; ; {
		line, err := r.ReadBytes('\n')
		s.seen += int64(len(line))
		event = append(event, line...)
		if err != nil {
			return
		}
		if len(line) > 1 {
			continue
		}
		s.event(event)
		event = event[:0]
		if n++; n == leaveAfter {
			s.left = true
			return
		}
	}
}

func (s *sight) event(raw []byte) {
	_, data, _ := bytes.Cut(raw, []byte("data: "))
	data = bytes.TrimSpace(data)
	switch {
	case string(data) == "[DONE]", bytes.HasPrefix(raw, []byte("event: response.completed\n")), bytes.HasPrefix(raw, []byte("event: response.incomplete\n")):
		s.complete = true
	case gjson.GetBytes(data, "error").Exists(), bytes.HasPrefix(raw, []byte("event: error\n")):
		s.reported = true
	}
	for _, path := range []string{"usage.total_tokens", "response.usage.total_tokens"} {
		if n := gjson.GetBytes(data, path).Int(); n > 0 {
			s.tokens = n
		}
	}
}

// load is many clients at work.
type load struct {
	stop   chan struct{}
	groups sync.WaitGroup

	mu     sync.Mutex
	sights []sight
}

func startLoad(t *testing.T, clients []*client) *load {
	l := &load{stop: make(chan struct{})}
	for _, c := range clients {
		l.groups.Go(func() { c.run(t.Context(), l.stop, l.see) })
	}
	return l
}

func (l *load) see(s sight) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sights = append(l.sights, s)
}

// await waits, but not for ever, until so many streams and so many bodies were completed.
func (l *load) await(t *testing.T, each int) {
	t.Helper()
	for deadline := time.Now().Add(4 * time.Second); time.Now().Before(deadline); {
		if streams, whole := l.count(); streams >= each && whole >= each {
			return
		}
		if err := pause(t.Context(), 20*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
}

func (l *load) count() (streams, whole int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.sights {
		switch {
		case s.complete && s.ask.stream:
			streams++
		case s.complete:
			whole++
		}
	}
	return streams, whole
}

// end lets the requests under way come to their end and returns all that was seen.
func (l *load) end() []sight {
	close(l.stop)
	l.groups.Wait()
	return l.sights
}

// pause waits in the midst of real processes, which no bubble can hold.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return errors.Join(errors.New("the test ended while it waited"), ctx.Err())
	}
}
