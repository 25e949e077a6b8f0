package harness

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

// Observation is what one client saw of one request.
type Observation struct {
	Ask       Ask
	team      string
	ID        string // id of the record; empty = no header arrived
	Status    int
	Code      string // error.code of an error answer
	seen      int64  // number of bytes of the answer that arrived
	Complete  bool   // the client received the whole answer, or all of a stream that it waits for
	Left      bool   // the client closed the connection itself
	Reported  bool   // an error event arrived
	Tokens    int64  // 0 = the answer has no usage
	Sum       string // SHA-256 of the bytes that arrived
	Unaltered bool   // the gateway removed nothing from the region's answer
}

// Ask is a kind of request; %s in the body stands for the prompt.
type Ask struct {
	Name, path, body string
	stream           bool
	plainUsage       bool // the client asks for usage, or the operation always reports it
}

const responsesPath = "/openai/v1/responses"

// Asks are the kinds of requests that clients send in turn.
var Asks = []Ask{
	{"chat", ChatPath, `{"messages":[{"role":"user","content":"%s"}]}`, false, true},
	{"chat stream", ChatPath, `{"messages":[{"role":"user","content":"%s"}],"stream":true}`, true, false},
	{
		"chat stream with usage", ChatPath,
		`{"messages":[{"role":"user","content":"%s"}],"stream":true,"stream_options":{"include_usage":true}}`, true, true,
	},
	{"response", responsesPath, `{"model":"chat","input":"%s"}`, false, true},
	{"response stream", responsesPath, `{"model":"chat","input":"%s","stream":true}`, true, true},
	{"embedding", "/openai/deployments/emb/embeddings?api-version=2024-10-21", `{"input":"%s"}`, false, true},
}

// LongAsk asks for an answer of more than 1 MiB, the largest size that the gateway holds
// back as a whole.
var LongAsk = Ask{
	"long embedding", "/openai/deployments/emb/embeddings?api-version=2024-10-21",
	`{"input":["%s"` + strings.Repeat(`,"more"`, 80) + `]}`, false, true,
}

// Client sends one request after another.
type Client struct {
	URL, Key, Team string
	Number         int
	Asks           []Ask
	Leaves         bool // the client sometimes leaves in the middle of an answer
	HTTP           *http.Client
}

// run sends requests until stop is closed. It waits for the last answer.
func (c *Client) run(ctx context.Context, stop <-chan struct{}, see func(Observation)) {
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		a := c.Asks[(c.Number+n)%len(c.Asks)]
		prompt := fmt.Sprintf("client %d asks for the %d. time [tokens:%d]", c.Number, n, 3+rand.IntN(60))
		see(c.One(ctx, a, prompt))
	}
}

// One sends one request and reads the answer as far as it arrives.
func (c *Client) One(ctx context.Context, a Ask, prompt string) Observation {
	s := Observation{Ask: a, team: c.Team}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL+a.path, strings.NewReader(fmt.Sprintf(a.body, prompt)))
	if err != nil {
		return s
	}
	req.Header.Set("Api-Key", c.Key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return s
	}
	defer resp.Body.Close()
	s.ID, s.Status = resp.Header.Get("X-Gateway-Request-Id"), resp.StatusCode
	sum := sha256.New()
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		leaveAfter := -1
		if c.Leaves && rand.IntN(10) == 0 {
			leaveAfter = 1 + rand.IntN(5)
		}
		s.events(resp.Body, sum, leaveAfter)
	} else {
		s.whole(resp, sum)
	}
	s.Sum = hex.EncodeToString(sum.Sum(nil))
	return s
}

// whole reads a body. The body is complete if it has the announced length.
func (s *Observation) whole(resp *http.Response, sum hash.Hash) {
	body, err := io.ReadAll(resp.Body)
	sum.Write(body)
	s.seen, s.Unaltered = int64(len(body)), true
	s.Complete = err == nil && resp.ContentLength == s.seen
	s.Code = gjson.GetBytes(body, "error.code").String()
	if s.Complete && s.Status == http.StatusOK {
		s.Tokens = gjson.GetBytes(body, "usage.total_tokens").Int()
	}
}

// events reads a stream. The stream is complete when the terminal event arrives, because
// clients stop reading there and do not notice how the connection ends.
func (s *Observation) events(body io.Reader, sum hash.Hash, leaveAfter int) {
	s.Unaltered = s.Ask.plainUsage
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
			s.Left = true
			return
		}
	}
}

func (s *Observation) event(raw []byte) {
	_, data, _ := bytes.Cut(raw, []byte("data: "))
	data = bytes.TrimSpace(data)
	switch {
	case string(data) == "[DONE]", bytes.HasPrefix(raw, []byte("event: response.completed\n")),
		bytes.HasPrefix(raw, []byte("event: response.incomplete\n")):
		s.Complete = true
	case gjson.GetBytes(data, "error").Exists(), bytes.HasPrefix(raw, []byte("event: error\n")):
		s.Reported = true
	}
	for _, path := range []string{"usage.total_tokens", "response.usage.total_tokens"} {
		if n := gjson.GetBytes(data, path).Int(); n > 0 {
			s.Tokens = n
		}
	}
}

// Load is a group of clients that send requests.
type Load struct {
	stop   chan struct{}
	groups sync.WaitGroup

	mu     sync.Mutex
	sights []Observation
}

// StartLoad starts the clients.
func StartLoad(t *testing.T, clients []*Client) *Load {
	l := &Load{stop: make(chan struct{})}
	for _, c := range clients {
		l.groups.Go(func() { c.run(t.Context(), l.stop, l.see) })
	}
	return l
}

func (l *Load) see(s Observation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sights = append(l.sights, s)
}

// Await waits up to 4 s until the given numbers of streams and of bodies are complete.
func (l *Load) Await(t *testing.T, each int) {
	t.Helper()
	for deadline := time.Now().Add(4 * time.Second); time.Now().Before(deadline); {
		if streams, whole := l.count(); streams >= each && whole >= each {
			return
		}
		if err := Pause(t.Context(), 20*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
}

func (l *Load) count() (streams, whole int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.sights {
		switch {
		case s.Complete && s.Ask.stream:
			streams++
		case s.Complete:
			whole++
		}
	}
	return streams, whole
}

// End stops the clients after their current requests and returns all observations.
func (l *Load) End() []Observation {
	close(l.stop)
	l.groups.Wait()
	return l.sights
}

// Pause sleeps in real time. It is for tests with real processes, where virtual time is not possible.
func Pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return errors.Join(errors.New("the test ended while it waited"), ctx.Err())
	}
}
