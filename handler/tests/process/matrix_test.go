package process_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
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

// matrix is one staged gateway behind the stand-in for the Functions host, with the regions
// of all cases.
type matrix struct {
	*harness.Gateway
	storage *azurite.Server
}

// matrixModels gives each case its own model, which only the regions of the case serve.
func matrixModels(cases []*matrixCase) (deployments map[string]aoaisim.Deployment, models map[string]map[string]string) {
	deployments, models = map[string]aoaisim.Deployment{}, map[string]map[string]string{}
	for _, c := range cases {
		deployments[c.model] = aoaisim.Deployment{Model: "gpt-4o"}
		for _, region := range c.chain {
			if models[region] == nil {
				models[region] = map[string]string{}
			}
			models[region][c.model] = c.model
		}
	}
	return deployments, models
}

func startMatrix(t *testing.T, cases []*matrixCase) *matrix {
	t.Helper()
	m := &matrix{storage: harness.StartAzurite(t)}
	w := harness.NewEnvironment(t, m.storage.ConnectionString(), harness.TestPolicy)
	deployments, models := matrixModels(cases)
	locked := httptest.NewTLSServer(http.NotFoundHandler()) // its certificate is not trusted by the gateway
	t.Cleanup(locked.Close)
	nobody := "http://127.0.0.1:" + harness.FreePort(t)
	endpoints := map[string]string{"refused1": nobody, "refused2": nobody, "tls1": locked.URL, "tls2": locked.URL}
	sims := map[string]*aoaisim.Region{}
	for _, name := range []string{"a", "b", "c"} {
		sims[name] = aoaisim.New(aoaisim.Options{Name: name, Key: "key", Deployments: deployments})
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

// states returns the states of the deployments by region and deployment.
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

// run sends the requests of a case and checks its deployments after each request.
func (m *matrix) run(c *matrixCase) {
	path := "/openai/deployments/" + c.model + "/chat/completions?api-version=2024-10-21"
	for n := trips(1); n <= max(1, c.trips); n++ {
		a := m.Post(path, c.body())
		if n == 1 {
			c.first = a
		}
		states := m.states()
		for _, region := range c.chain {
			h, want := states[region+"/"+c.model], c.stateAfter(n, region)
			if h.State != want {
				c.state = append(c.state, fmt.Sprintf("after %d requests the deployment in %s is %s, want %s", n, region, h.State, want))
			}
			if wait := time.Duration(h.WaitMillis) * time.Millisecond; want != "open" && (wait > c.wait || wait < c.wait-9500*time.Millisecond) {
				c.state = append(c.state, fmt.Sprintf("%s is left alone for %v, want about %v", region, wait, c.wait))
			}
		}
	}
}

// stateAfter returns the expected state of a region's deployment after n requests.
func (c *matrixCase) stateAfter(n trips, region string) string {
	switch {
	case c.trips == never, n < c.trips, c.waited(), region == "c", len(c.chain) == 1 && c.trips != atOnce:
		return "open"
	case c.reason == "throttled":
		return "throttled"
	default:
		return "unavailable"
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

// records waits until the journal has the record of each case's first request, and returns
// these records.
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

// The second instance learns from the first, through the table, which deployments are closed.
func TestNewProcessKnowsOfThrottle(t *testing.T) {
	storage := harness.StartAzurite(t)
	w := harness.NewEnvironment(t, storage.ConnectionString(), harness.TestPolicy)
	dead := w.Region(1, aoaisim.Options{Name: "dead"})
	w.Region(2, aoaisim.Options{Name: "live"})
	dead.Fault(statusFault(429, "Retry-After=200"))
	environ := w.Environ()
	first := harness.StartProcess(t, environ)
	first.Ready()
	one := &harness.Gateway{T: t, URL: first.URL}
	one.Key = one.Subscribe("default", "team")
	if a := one.Post(harness.ChatPath, harness.ChatBody); a.Status != 200 {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
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
	if before != 1 || n > 0 {
		t.Errorf("the first process asked the dead region %d times, the second %d", before, n)
	}
}
