package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"aoaigateway/handler/app"
	"aoaigateway/handler/app/settings"
	"aoaigateway/handler/body/bodytest"
	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/openai"
	"aoaigateway/handler/table"
	"aoaigateway/handler/tests/harness"
)

// The limits are per year, so that no window ends in the middle of a test.
const chargePolicy = `
version: 1
models: {}
products:
  default:
    models: ["*"]
    maxOutputTokens: 20
    limits:
      - {name: hard, tokens: 1000000, per: year, hard: true}
      - {name: soft, tokens: 1000000, per: year}
      - {name: calls, requests: 1000000, per: year}
`

// ledger reads what the counters of a gateway have charged, by limit.
type ledger struct {
	store *table.Mem
	mu    sync.Mutex
	keys  map[table.Key]bool
}

type charged struct{ hard, soft, calls int64 }

func newLedger() *ledger {
	b := &ledger{store: table.NewMem(), keys: map[table.Key]bool{}}
	b.store.SetFault(func(_ context.Context, _ table.Op, key table.Key) (bool, error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.keys[key] = true
		return true, nil
	})
	return b
}

func (b *ledger) read(t *testing.T) (c charged) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for key := range b.keys {
		b.mu.Unlock()
		e, err := b.store.Get(context.WithoutCancel(t.Context()), key)
		b.mu.Lock()
		if err != nil {
			continue
		}
		var limits map[string]struct{ Charged int64 }
		if err := json.Unmarshal([]byte(e.Props["limits"].(string)), &limits); err != nil {
			t.Fatal(err)
		}
		c.hard += limits["tokens/year/hard"].Charged
		c.soft += limits["tokens/year"].Charged
		c.calls += limits["requests/year"].Charged
	}
	return c
}

// chargeHarness is a gateway with limits. bound and estimate are those of one call of
// harness.ChatBody.
type chargeHarness struct {
	*harness.Gateway
	books           *ledger
	bound, estimate int64
}

func newChargeHarness(t *testing.T, policy string, tune func(*settings.Values)) chargeHarness {
	t.Helper()
	b := newLedger()
	r := harness.Start(t, harness.Options{
		Policy: policy, Services: func(e *app.Services) { e.Quota = b.store },
		Settings: func(s *settings.Values) {
			s.FirstByteTimeout, s.StreamFirstByteTimeout = 150*time.Millisecond, 150*time.Millisecond
			if tune != nil {
				tune(s)
			}
		},
	})
	req, err := openai.ParseRequest(openai.Chat, bodytest.Of([]byte(harness.ChatBody)))
	if err != nil {
		t.Fatal(err)
	}
	req.MaxOutput = 20
	bound, ok := req.Bound(openai.Chat)
	if !ok {
		t.Fatal("no bound")
	}
	return chargeHarness{r, b, bound, req.PromptEstimate() + 20}
}

// used returns the tokens that the regions have counted for whole answers.
func (r chargeHarness) used() (n int64) {
	for _, region := range r.Regions {
		n += region.Counts().Usage.Total
	}
	return n
}

func status(code int) aoaisim.Fault {
	return aoaisim.Fault{Do: aoaisim.DoStatus, Status: code, Headers: map[string]string{"retry-after-ms": "1000"}}
}

const (
	asHeld = "the estimate each attempt held"
	asSeen = "what was seen of the answer"
)

type chargeCase struct {
	name   string
	first  []aoaisim.Fault // faults of the first region
	second []aoaisim.Fault
	stream bool
	early  bool   // the stream has begun before a region answers
	bounds int64  // number of attempts that stay charged with their bound
	soft   string // what soft limits keep charged for these attempts
}

// chargeCases are the ways in which a request can end, each with what may stay charged.
var chargeCases = []chargeCase{
	{name: "answered"},
	{name: "streamed", stream: true},
	{name: "refused by the region", first: []aoaisim.Fault{status(400)}},
	{name: "unknown to the region", first: []aoaisim.Fault{status(404)}},
	{name: "throttled, then answered", first: []aoaisim.Fault{status(429)}},
	{name: "credential refused, then answered", first: []aoaisim.Fault{status(401)}},
	{name: "throttled everywhere", first: []aoaisim.Fault{status(429)}, second: []aoaisim.Fault{status(429)}},
	{name: "failed, then answered", first: []aoaisim.Fault{status(500)}},
	{name: "failed, then refused", first: []aoaisim.Fault{status(500)}, second: []aoaisim.Fault{status(400)}},
	{name: "failed everywhere", first: []aoaisim.Fault{status(503)}, second: []aoaisim.Fault{status(500)}},
	{name: "reset, then streamed", first: []aoaisim.Fault{{Do: aoaisim.DoReset}}, stream: true, bounds: 1, soft: asHeld},
	{name: "not reached, then answered", first: []aoaisim.Fault{{Do: aoaisim.DoRefuse}}},
	{name: "hung, then answered", first: []aoaisim.Fault{{Do: aoaisim.DoHang}}, bounds: 1, soft: asHeld},
	{
		name: "hung, then throttled", first: []aoaisim.Fault{{Do: aoaisim.DoHang}}, second: []aoaisim.Fault{status(429)}, bounds: 1,
		soft: asHeld,
	},
	{name: "cut", first: []aoaisim.Fault{{Do: aoaisim.DoCutFin, After: 4}}, stream: true, bounds: 1, soft: asSeen},
	{name: "begun early, then refused", first: []aoaisim.Fault{{Do: aoaisim.DoHang, Millis: 100}, status(400)}, stream: true, early: true},
	{
		name: "begun early, then throttled", first: []aoaisim.Fault{{Do: aoaisim.DoHang, Millis: 100}, status(429)},
		second: []aoaisim.Fault{status(429)}, stream: true, early: true,
	},
	{
		name: "begun early, then failed", first: []aoaisim.Fault{{Do: aoaisim.DoHang, Millis: 100}, status(500)},
		second: []aoaisim.Fault{status(400)}, stream: true, early: true,
	},
	{name: "begun early, then streamed", first: []aoaisim.Fault{{Do: aoaisim.DoHang, Millis: 100}}, stream: true, early: true},
}

func TestChargeByOutcome(t *testing.T) {
	for _, c := range chargeCases {
		t.Run(c.name, func(t *testing.T) {
			r := newChargeHarness(t, chargePolicy, func(s *settings.Values) {
				if c.early {
					s.StreamBeginAfter = 20 * time.Millisecond
				}
			})
			for i, faults := range [][]aoaisim.Fault{c.first, c.second} {
				for _, f := range faults {
					r.Regions[i].Fault(f)
				}
			}
			body := harness.ChatBody
			if c.stream {
				body = strings.Replace(harness.ChatStream, `,"stream":true`, "", 1)
				body = strings.Replace(body, "{", `{"stream":true,`, 1)
			}
			rec := r.RecordOf(r.Post(harness.ChatPath, body))
			used := rec.Usage.Total
			if rec.Usage.Estimated {
				used = 0
			}
			if used > r.used() || used == 0 && c.bounds == 0 && rec.Outcome == gateway.Complete && rec.Status == 200 {
				t.Errorf("recorded %d tokens, the regions %d", used, r.used())
			}
			soft := map[string]int64{asHeld: c.bounds * r.estimate, asSeen: rec.Usage.Total}[c.soft]
			r.wantCharged(t, charged{c.bounds*r.bound + used, soft + used, 1})
		})
	}
}

// wantCharged checks the charges. It waits up to 8 s for them, because leases are given
// back two seconds after their last use.
func (r chargeHarness) wantCharged(t *testing.T, want charged) {
	t.Helper()
	read := func() charged {
		got := r.books.read(t)
		if want.soft == anySoft {
			got.soft = anySoft
		}
		return got
	}
	got := read()
	for deadline := time.Now().Add(8 * time.Second); got != want; got = read() {
		if time.Now().After(deadline) {
			t.Fatalf("charged %+v, want %+v (a bound is %d, an estimate %d)", got, want, r.bound, r.estimate)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestChargeAfterClientLeft(t *testing.T) {
	for name, c := range map[string]struct {
		fault aoaisim.Fault
		until string
		soft  bool // true = soft limits keep the estimate charged
	}{
		"before the answer": {aoaisim.Fault{Do: aoaisim.DoHang}, "", true},
		"in the stream":     {aoaisim.Fault{Do: aoaisim.DoStep}, "data: ", false},
	} {
		t.Run(name, func(t *testing.T) {
			r := newChargeHarness(t, chargePolicy, func(s *settings.Values) { s.StreamFirstByteTimeout = time.Minute })
			r.Regions[0].Fault(c.fault)
			r.Regions[0].Step(3) // the third event is the first with output
			conn := dial(r.Gateway)
			_, _ = io.WriteString(conn, strings.NewReplacer("{key}", r.Key, "{host}",
				"gateway").Replace(call("POST", harness.ChatPath, harness.ChatStream)))
			waitFor(r.Gateway, "the region to be asked", func() bool { return r.Regions[0].Counts().Open > 0 })
			readUntil(r.Gateway, conn, c.until, nil)
			_ = conn.Close()
			rec := r.Find("one of a client that left", func(rec gateway.Record) bool { return rec.Outcome == gateway.ClientLeft })
			soft := rec.Usage.Total
			if c.soft {
				soft = r.estimate
			}
			r.wantCharged(t, charged{r.bound, soft, 1})
		})
	}
}

func TestChargeOfWithheldAnswer(t *testing.T) {
	for name, body := range map[string]string{"whole": harness.ChatBody, "stream": harness.ChatStream} {
		t.Run(name, func(t *testing.T) {
			r := newChargeHarness(t, chargePolicy, func(s *settings.Values) { s.AuditWait = 300 * time.Millisecond })
			gate := make(chan struct{})
			defer close(gate)
			r.Fault.Store(harness.NoAppends(gate))
			if a := r.Post(harness.ChatPath, body); a.Status != http.StatusServiceUnavailable {
				t.Fatalf("%d %s", a.Status, a.Body)
			}
			want := charged{r.used(), r.used(), 1}
			if body == harness.ChatStream { // the stream was cut off before its usage was read
				want = charged{r.bound, r.estimate, 1}
			}
			r.wantCharged(t, want)
		})
	}
}

func TestLimitRefusesFurtherAttempt(t *testing.T) {
	r := newChargeHarness(t, strings.Replace(chargePolicy, "tokens: 1000000, per: year, hard", "tokens: 150, per: year, hard", 1), nil)
	if r.bound > 150 || 2*r.bound <= 150 {
		t.Fatalf("the bound is %d", r.bound)
	}
	r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoResetBody})
	a := r.Post(harness.ChatPath, harness.ChatBody)
	rec := r.RecordOf(a)
	if a.Status != http.StatusForbidden || rec.Limit != "hard" || len(rec.Attempts) != 1 || r.Regions[1].Counts().Requests != 0 {
		t.Errorf("%d %s, record %+v", a.Status, a.Body, rec)
	}
	r.wantCharged(t, charged{r.bound, r.estimate, 1})
}

// anySoft in charged.soft means that the test accepts any charge in the soft limit.
const anySoft = -1

// kept are the reasons of failed attempts that may have used tokens.
var kept = map[string]bool{
	"reset": true, "stale-connection": true, "broken-body": true, "cut-before-first-event": true,
	"first-byte-timeout": true, "client-cancelled": true,
}

// owed returns what the hard limit keeps charged for one request: its usage, plus the bound
// of each attempt whose usage is unknown.
func (r chargeHarness) owed(rec gateway.Record) int64 {
	n := rec.Usage.Total
	if rec.Usage.Estimated {
		n = max(r.bound, n)
	}
	for _, a := range rec.Attempts {
		if kept[a.Reason] {
			n += r.bound
		}
	}
	return n
}

func TestChargesMatchLedger(t *testing.T) {
	r := newChargeHarness(t, chargePolicy, nil)
	for _, region := range r.Regions {
		for _, f := range []aoaisim.Fault{
			{Do: aoaisim.DoStatus, Status: 429, Probability: 0.1, Headers: map[string]string{"retry-after-ms": "1"}},
			{Do: aoaisim.DoStatus, Status: 500, Probability: 0.1, Headers: map[string]string{"retry-after-ms": "1"}},
			{Do: aoaisim.DoResetEvent, Probability: 0.05},
			{Do: aoaisim.DoResetBody, Probability: 0.05},
			{Do: aoaisim.DoCutReset, After: 3, Probability: 0.1},
		} {
			region.Fault(f)
		}
	}
	const calls = 120
	var clients sync.WaitGroup
	ids := make(chan string, calls)
	for client := range 6 {
		clients.Go(func() {
			for i := range calls / 6 {
				body := []string{harness.ChatBody, harness.ChatStream}[(client+i)%2]
				ids <- r.Post(harness.ChatPath, body).Header.Get("X-Gateway-Request-Id")
			}
		})
	}
	clients.Wait()
	close(ids)
	want := charged{calls: calls}
	for id := range ids {
		want.hard += r.owed(r.Record(id))
	}
	want.soft = anySoft
	r.wantCharged(t, want)
	if used := r.used(); want.hard < used || used == 0 {
		t.Errorf("charged %d of %d used", want.hard, used)
	}
}

func TestChargeOfBrokenBody(t *testing.T) {
	long := `{"data":"` + strings.Repeat("y", 2<<20) + `","usage":{"total_tokens":9}}`
	r := newChargeHarness(t, chargePolicy, scripted(t, func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		w.Header().Set("Content-Length", "9000000")
		_, _ = io.Copy(w, bytes.NewReader([]byte(long)))
		panic(http.ErrAbortHandler)
	}))
	if a := r.Post(harness.ChatPath, harness.ChatBody); a.Err == nil {
		t.Errorf("a clean end of %d bytes", len(a.Body))
	}
	r.Find("one of a cut", func(rec gateway.Record) bool { return rec.Outcome == gateway.UpstreamCut && rec.Usage.Estimated })
	if got := r.books.read(t); got.hard != r.bound {
		t.Errorf("charged %+v", got)
	}
}
