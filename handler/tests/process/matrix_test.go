package process_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"aoaigateway/handler/app"
	"aoaigateway/handler/backend"
	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/devstack/azurite"
	"aoaigateway/handler/devstack/funchost"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/table"
	"aoaigateway/handler/tests/harness"
)

// trips says when a fault opens the breaker: at no request, the first or the third.
type trips int

const (
	never  trips = 0
	atOnce trips = 1
	third  trips = 3
)

// faultRow is one way for a region to fail, and what the gateway makes of it.
type faultRow struct {
	name   string
	fault  aoaisim.Fault
	place  string // refused or tls: the region is there in no other way
	reason string // of an attempt
	tries  int    // attempts at one failing region; 0 = 1
	moves  bool   // the next region is asked
	alone  int    // status when there is none
	waits  int    // status of a stream then, where it is another: the last try waits
	trips  trips
	wait   time.Duration // the breaker stays open about that long
	only   string        // stream or whole, where the fault makes no sense for the other
}

func statusFault(code int, headers ...string) aoaisim.Fault {
	f := aoaisim.Fault{Do: aoaisim.DoStatus, Status: code, Headers: map[string]string{}}
	for _, kv := range headers {
		name, value, _ := strings.Cut(kv, "=")
		f.Headers[name] = value
	}
	return f
}

// later stands for the date in 90 seconds from when the faults begin.
const later = "(date)"

const hangs = 3500 // ms; longer than the gateway of the matrix waits for a whole answer

func faultRows() []faultRow {
	const cooldown, named = 10 * time.Second, 90 * time.Second
	filtered := statusFault(400)
	filtered.Body = `{"error":{"code":"content_filter","message":"filtered","innererror":{"code":"ResponsibleAIPolicyViolation"}}}`
	once := statusFault(401)
	once.Times = 1
	return []faultRow{
		{name: "429 Retry-After in seconds", fault: statusFault(429, "Retry-After=90"), reason: "throttled", moves: true, alone: 429,
			trips: atOnce, wait: named},
		{name: "429 Retry-After as a date", fault: statusFault(429, "Retry-After="+later), reason: "throttled", moves: true, alone: 429,
			trips: atOnce, wait: named},
		{name: "429 retry-after-ms", fault: statusFault(429, "retry-after-ms=90000", "Retry-After=1"), reason: "throttled", moves: true,
			alone: 429, trips: atOnce, wait: named},
		{name: "429 alone", fault: statusFault(429), reason: "throttled", moves: true, alone: 429, trips: atOnce, wait: cooldown},
		{name: "429 hostile", fault: statusFault(429, "Retry-After=99999999999"), reason: "throttled", moves: true, alone: 429, trips: atOnce,
			wait: 5 * time.Minute},
		{name: "429 nonsense", fault: statusFault(429, "Retry-After=soon", "retry-after-ms=-3"), reason: "throttled", moves: true, alone: 429,
			trips: atOnce, wait: cooldown},
		{name: "408", fault: statusFault(408), reason: "server-error", moves: true, alone: 408, trips: third, wait: cooldown},
		{name: "500", fault: statusFault(500), reason: "server-error", moves: true, alone: 500, trips: third, wait: cooldown},
		{name: "502", fault: statusFault(502), reason: "server-error", moves: true, alone: 502, trips: third, wait: cooldown},
		{name: "503", fault: statusFault(503), reason: "server-error", moves: true, alone: 503, trips: third, wait: cooldown},
		{name: "503 Retry-After", fault: statusFault(503, "Retry-After=90"), reason: "server-error", moves: true, alone: 503, trips: atOnce,
			wait: named},
		{name: "refused", place: "refused", reason: "connect-failed", moves: true, alone: 503, trips: atOnce, wait: cooldown},
		{name: "TLS failure", place: "tls", reason: "tls-failed", moves: true, alone: 503, trips: atOnce, wait: cooldown},
		{name: "reset", fault: aoaisim.Fault{Do: aoaisim.DoReset}, reason: "reset", moves: true, alone: 503, trips: third, wait: cooldown},
		{name: "hang before header", fault: aoaisim.Fault{Do: aoaisim.DoHang, Millis: hangs}, reason: "first-byte-timeout", moves: true,
			alone: 504, waits: 200, trips: atOnce, wait: cooldown},
		{name: "hang before first event", fault: aoaisim.Fault{Do: aoaisim.DoHangEvent, Millis: hangs}, reason: "first-byte-timeout",
			moves: true, waits: 200, trips: atOnce, wait: cooldown, only: "stream"},
		{name: "reset before first event", fault: aoaisim.Fault{Do: aoaisim.DoResetEvent}, reason: "cut-before-first-event", moves: true,
			alone: 503, trips: third, wait: cooldown, only: "stream"},
		{name: "reset before the body", fault: aoaisim.Fault{Do: aoaisim.DoResetEvent}, reason: "broken-body", moves: true, alone: 503,
			trips: third, wait: cooldown, only: "whole"},
		{name: "reset half way", fault: aoaisim.Fault{Do: aoaisim.DoResetBody}, reason: "broken-body", moves: true, alone: 503, trips: third,
			wait: cooldown, only: "whole"},
		{name: "401 once", fault: once, reason: "credential-refused", tries: 1, alone: 200},
		{name: "401 always", fault: statusFault(401), reason: "credential-refused", tries: 2, moves: true, alone: 502},
		{name: "403", fault: statusFault(403), reason: "credential-refused", moves: true, alone: 502},
		{name: "409", fault: statusFault(409), alone: 409},
		{name: "409 Retry-After", fault: statusFault(409, "Retry-After=90"), reason: "conflict", moves: true, alone: 409, trips: atOnce,
			wait: named},
		{name: "400", fault: statusFault(400), alone: 400},
		{name: "content filter", fault: filtered, alone: 400},
		{name: "404", fault: statusFault(404), alone: 404},
	}
}

// matrixCase is a row with a number of regions, all but the last failing, or the one there
// is. Each has a model of its own, and so breakers of its own: the cases share one stack.
type matrixCase struct {
	faultRow
	stream bool
	model  string
	chain  []string // regions by priority

	first harness.Answer // of the first request
	state []string       // problems with breakers, seen at once
}

func matrixCases() (cases []*matrixCase) {
	for _, row := range faultRows() {
		for _, stream := range []bool{false, true} {
			if row.only == "stream" && !stream || row.only == "whole" && stream {
				continue
			}
			for regions := 1; regions <= 3; regions++ {
				bad := map[string][]string{"": {"a", "b"}, "refused": {"refused1", "refused2"}, "tls": {"tls1", "tls2"}}[row.place]
				chain := [][]string{{bad[0]}, {bad[0], "c"}, {bad[0], bad[1], "c"}}[regions-1]
				cases = append(cases, &matrixCase{faultRow: row, stream: stream, model: fmt.Sprintf("m%d", len(cases)), chain: chain})
			}
		}
	}
	return cases
}

func (c *matrixCase) String() string {
	return fmt.Sprintf("%s, stream %t, %d regions", c.name, c.stream, len(c.chain))
}

// failing are the regions of the chain that fail.
func (c *matrixCase) failing() []string {
	switch {
	case len(c.chain) == 1:
		return c.chain
	case !c.moves:
		return c.chain[:1]
	}
	return c.chain[:len(c.chain)-1]
}

// waited: nobody else could be asked, so that the region's silence was borne.
func (c *matrixCase) waited() bool { return c.waits != 0 && len(c.chain) == 1 }

func (c *matrixCase) status() int {
	switch {
	case c.moves && len(c.chain) > 1:
		return 200
	case c.waited() && c.stream:
		return c.waits
	}
	return c.alone
}

// reasons are those of the attempts, as region/reason.
func (c *matrixCase) reasons() (want []string) {
	for _, region := range c.failing() {
		reason := c.reason
		if c.waited() {
			reason = map[bool]string{true: "", false: "client-cancelled"}[c.stream]
		}
		for range max(1, c.tries) {
			want = append(want, region+"/"+reason)
		}
	}
	switch {
	case c.moves && len(c.chain) > 1:
		want = append(want, "c/")
	case c.name == "401 once":
		want = append(want, c.chain[0]+"/")
	}
	return want
}

func (c *matrixCase) body() string {
	return fmt.Sprintf(`{"messages":[{"role":"user","content":"go [tokens:5]"}],"stream":%t}`, c.stream)
}

// matrix is one staged gateway behind the host stand-in, with every region the cases need.
type matrix struct {
	*harness.Gateway
	storage *azurite.Server
}

func startMatrix(t *testing.T, cases []*matrixCase) *matrix {
	t.Helper()
	m := &matrix{storage: harness.StartAzurite(t)}
	w := harness.NewEnvironment(t, m.storage.ConnectionString(), harness.TestPolicy)
	deployments := map[string]aoaisim.Deployment{}
	models := map[string]map[string]string{}
	for _, c := range cases {
		deployments[c.model] = aoaisim.Deployment{Model: "gpt-4o"}
		for _, region := range c.chain {
			if models[region] == nil {
				models[region] = map[string]string{}
			}
			models[region][c.model] = c.model
		}
	}
	locked := httptest.NewTLSServer(http.NotFoundHandler()) // signed by nobody the gateway trusts
	t.Cleanup(locked.Close)
	nobody := "http://127.0.0.1:" + harness.FreePort(t)
	endpoints := map[string]string{"refused1": nobody, "refused2": nobody, "tls1": locked.URL, "tls2": locked.URL}
	sims := map[string]*aoaisim.Region{}
	for _, name := range []string{"a", "b", "c"} {
		sims[name] = aoaisim.New(aoaisim.Options{Name: name, Key: "key", Kind: true, Deployments: deployments})
		endpoint, _, err := sims[name].Start()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(sims[name].Close)
		endpoints[name] = endpoint
	}
	for i, name := range []string{"a", "b", "refused1", "refused2", "tls1", "tls2", "c"} {
		w.Secrets["secret-"+name] = "key"
		w.Backends = append(w.Backends, map[string]any{"name": name, "endpoint": endpoints[name], "priority": i + 1, "credential": "secret-" +
			name, "models": models[name]})
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	host, err := funchost.Start(ctx, funchost.Options{AppDir: harness.Staged(t), Env: w.Environ(
		"GATEWAY_FIRST_BYTE_TIMEOUT=700ms", "GATEWAY_STREAM_FIRST_BYTE_TIMEOUT=700ms", "GATEWAY_ANSWER_TIMEOUT=3s")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(host.Close)
	m.Gateway = &harness.Gateway{T: t, URL: host.URL()}
	m.Key = m.Subscribe("default", "team")
	strike(sims, cases)
	return m
}

func strike(sims map[string]*aoaisim.Region, cases []*matrixCase) {
	date := time.Now().Add(90 * time.Second).UTC().Format(http.TimeFormat)
	for _, c := range cases {
		for _, region := range c.failing() {
			if sims[region] == nil {
				continue
			}
			f := c.fault
			f.Deployment = c.model
			if f.Headers["Retry-After"] == later {
				f.Headers = map[string]string{"Retry-After": date}
			}
			sims[region].Fault(f)
		}
	}
}

// states are the breakers by region and deployment.
func (m *matrix) states() map[string]backend.Health {
	a := m.Do(http.MethodGet, "/manage/api/regions", "", "api-key="+harness.AdminKey)
	var list []backend.Health
	if err := json.Unmarshal(a.Body, &list); err != nil {
		m.T.Errorf("regions: %d %v", a.Status, err)
	}
	found := map[string]backend.Health{}
	for _, h := range list {
		found[h.Region+"/"+h.Deployment] = h
	}
	return found
}

// run sends a case's requests and looks at its breakers after each.
func (m *matrix) run(c *matrixCase) {
	path := "/openai/deployments/" + c.model + "/chat/completions?api-version=2024-10-21"
	for n := trips(1); n <= max(1, c.trips); n++ {
		a := m.Post(path, c.body())
		if n == 1 {
			c.first = a
		}
		states := m.states()
		for _, region := range c.chain {
			h := states[region+"/"+c.model]
			open := c.trips != never && n >= c.trips && !c.waited() && region != "c"
			if h.State != map[bool]string{true: "open", false: "closed"}[open] {
				c.state = append(c.state, fmt.Sprintf("after %d requests the breaker of %s is %s", n, region, h.State))
			}
			if wait := time.Duration(h.WaitMillis) * time.Millisecond; open && (wait > c.wait || wait < c.wait-9500*time.Millisecond) {
				c.state = append(c.state, fmt.Sprintf("%s is left alone for %v, want about %v", region, wait, c.wait))
			}
		}
	}
}

func (c *matrixCase) check(t *testing.T, rec gateway.Record) {
	a := c.first
	if a.Status != c.status() || a.Err != nil {
		t.Errorf("status %d, %v, want %d: %s", a.Status, a.Err, c.status(), a.Body)
	}
	if done := bytes.HasSuffix(a.Body, []byte("data: [DONE]\n\n")); a.Status == 200 && done != c.stream {
		t.Errorf("not whole: %s", a.Body)
	}
	if a.Status == 429 && a.Header.Get("Retry-After") == "" {
		t.Errorf("429 without Retry-After: %v", a.Header)
	}
	if c.fault.Body != "" && string(a.Body) != c.fault.Body {
		t.Errorf("the region's words were changed: %s", a.Body)
	}
	var got []string
	for _, attempt := range rec.Attempts {
		got = append(got, attempt.Region+"/"+attempt.Reason)
	}
	if fmt.Sprint(got) != fmt.Sprint(c.reasons()) {
		t.Errorf("attempts %v, want %v", got, c.reasons())
	}
	if rec.Status != c.status() || rec.Outcome != gateway.Complete {
		t.Errorf("record: status %d, %s", rec.Status, rec.Outcome)
	}
	for _, problem := range c.state {
		t.Error(problem)
	}
}

func TestFaultMatrix(t *testing.T) {
	cases := matrixCases()
	m := startMatrix(t, cases)
	began := time.Now()
	queue := make(chan *matrixCase)
	var workers sync.WaitGroup
	for range 12 {
		workers.Go(func() {
			for c := range queue {
				m.run(c)
			}
		})
	}
	for _, c := range cases {
		queue <- c
	}
	close(queue)
	workers.Wait()
	records := m.records(t, cases)
	for _, c := range cases {
		t.Run(c.String(), func(t *testing.T) { c.check(t, records[c.first.Header.Get("X-Gateway-Request-Id")]) })
	}
	harness.Report(t, "%d cases in %.1f s", len(cases), time.Since(began).Seconds())
}

// records waits until the record of each case's first request is in the journal.
func (m *matrix) records(t *testing.T, cases []*matrixCase) (found map[string]gateway.Record) {
	t.Helper()
	harness.Until(t, "every record", func() bool {
		found = map[string]gateway.Record{}
		for id, end := range harness.ReadJournal(t, m.storage).EndLines {
			found[id] = end.Record
		}
		for _, c := range cases {
			if _, ok := found[c.first.Header.Get("X-Gateway-Request-Id")]; !ok {
				return false
			}
		}
		return true
	})
	return found
}

// The second instance learns from the first, through storage, whom not to ask.
func TestNewProcessKnowsOfOutage(t *testing.T) {
	storage := harness.StartAzurite(t)
	w := harness.NewEnvironment(t, storage.ConnectionString(), harness.TestPolicy)
	dead := w.Region(1, aoaisim.Options{Name: "dead", Kind: true})
	w.Region(2, aoaisim.Options{Name: "live", Kind: true})
	dead.Fault(aoaisim.Fault{Do: aoaisim.DoHang})
	environ := w.Environ("GATEWAY_FIRST_BYTE_TIMEOUT=500ms")
	first := harness.StartProcess(t, environ)
	first.Ready()
	one := &harness.Gateway{T: t, URL: first.URL}
	one.Key = one.Subscribe("default", "team")
	if a := one.Post(harness.ChatPath, harness.ChatBody); a.Status != 200 {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	tripped := time.Now()
	health, err := table.NewAzure(table.AzureOptions{ConnectionString: storage.ConnectionString(), Table: app.RegionTable})
	if err != nil {
		t.Fatal(err)
	}
	harness.Until(t, "the row of the dead region", func() bool {
		_, err := health.Get(t.Context(), table.Key{Partition: "regions", Row: "dead|chat-dead"})
		return err == nil
	})
	second := harness.StartProcess(t, environ)
	second.Ready()
	before := dead.Counts().Requests
	two := &harness.Gateway{T: t, URL: second.URL, Key: one.Key}
	for range 40 {
		if a := two.Post(harness.ChatPath, harness.ChatBody); a.Status != 200 {
			t.Errorf("%d %s", a.Status, a.Body)
		}
	}
	n := dead.Counts().Requests - before
	harness.Report(t, "40 requests of a new process, %d of them to the dead region", n)
	most := int64(0)
	if time.Since(tripped) > 9*time.Second { // a slow machine: the breaker's time was over meanwhile
		most = 1
	}
	if before != 1 || n > most {
		t.Errorf("the first process asked the dead region %d times, the second %d", before, n)
	}
}
