package process_test

import (
	"context"
	"math/rand/v2"
	"net/http"
	"syscall"
	"testing"
	"time"

	"aoaigateway/handler/admin"
	"aoaigateway/handler/app"
	"aoaigateway/handler/cli"
	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/devstack/azurite"
	"aoaigateway/handler/devstack/funchost"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/tests/harness"
)

const killPolicy = `
version: 1
models:
  chat: {contextWindow: 128000}
  emb: {contextWindow: 8192}
products:
  soft:
    models: ["*"]
    limits:
      - {tokens: 100000000, per: minute}
      - {requests: 1000000, per: minute}
  hard:
    models: ["*"]
    maxOutputTokens: 200
    limits:
      - {name: year, tokens: 1000000000, per: year, hard: true}
  tight:
    models: ["*"]
    maxOutputTokens: 200
    limits:
      - {name: year, tokens: 3000, per: year, hard: true}
`

func plannedKills() harness.KillPlan {
	if harness.Proving {
		return harness.KillPlan{Kills: 60, Apart: time.Second, Trouble: 10 * time.Second}
	}
	return harness.KillPlan{Kills: 20, Apart: 300 * time.Millisecond, Trouble: time.Second}
}

// The gateway is killed by SIGKILL at random moments under load. Every answer that a client
// received completely has its end record. Every stream that began has its begin record. No
// hard limit has charged less than was used. After one recovery, Log Analytics, which
// failed in every way in the meantime, has a row of each record, and the statistics are the
// sums over the records.
func TestKilledGatewayLosesNoAnswer(t *testing.T) {
	plan := plannedKills()
	server := harness.StartAzurite(t)
	sink := startLogAnalytics(t)
	host := startKilledHost(t, server, sink)
	clients := killClients(t, host.URL())
	harassed, peace := context.WithCancel(t.Context())
	defer peace()
	go sink.harass(harassed, plan.Trouble)
	began := time.Now()
	load := harness.StartLoad(t, clients)
	killAtRandom(t, host, load, plan)
	if err := harness.Pause(t.Context(), plan.Apart); err != nil {
		t.Fatal(err)
	}
	sights := load.End()
	if starts := host.Starts(); starts != plan.Kills+1 {
		t.Errorf("%d processes were started for %d kills: the gateway ended by itself", starts, plan.Kills)
	}
	host.Close()
	peace()
	sink.sink.ClearFaults()
	after := newRecovery(t, server, sink)
	after.sweep()

	book := harness.ReadJournal(t, server)
	found := book.Compare(t, sights)
	charged := harness.ReadCharges(t, server)
	harness.Report(t, "%d kills in %.0f s\n%s", plan.Kills, time.Since(began).Seconds(), found.Table())
	found.Check(t, plan)
	harness.CheckCharges(t, charged, book, sights)
	checkIncomplete(&book, t)
	sink.check(t, book)
	after.checkUsage(book)
	after.checkJournal(true)
}

// startKilledHost serves the staged app. After each kill, the whole host is replaced on the
// same port, as Azure replaces an instance.
func startKilledHost(t *testing.T, server *azurite.Server, sink *logAnalytics) *funchost.Host {
	t.Helper()
	w := harness.NewEnvironment(t, server.ConnectionString(), killPolicy)
	w.Region(1, aoaisim.Options{Name: "unkind", EventDelay: 3 * time.Millisecond, Random: true, Seed: rand.Uint64()})
	spotty := w.Region(1, aoaisim.Options{Name: "spotty", EventDelay: 5 * time.Millisecond})
	spotty.Fault(aoaisim.Fault{
		Do: aoaisim.DoStatus, Status: http.StatusTooManyRequests, Probability: 0.03,
		Headers: map[string]string{"retry-after-ms": "100"},
	})
	spotty.Fault(aoaisim.Fault{Do: aoaisim.DoCutReset, After: 4, Probability: 0.02})
	spotty.Fault(aoaisim.Fault{Do: aoaisim.DoSlow, Millis: 20, Probability: 0.1})
	w.Region(2, aoaisim.Options{Name: "steady", EventDelay: 8 * time.Millisecond})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	host, err := funchost.Start(ctx, funchost.Options{AppDir: harness.Staged(t), Env: w.Environ(sink.env...), Fresh: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(host.Close)
	return host
}

// killClients are clients of three teams, one for each product.
func killClients(t *testing.T, url string) (clients []*harness.Client) {
	t.Helper()
	remote := cli.Remote{URL: url, Key: harness.AdminKey, Client: http.DefaultClient}
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	add := func(product string, n int, asks []harness.Ask) {
		c, err := remote.Create(t.Context(), admin.NewSubscription{ID: "team-" + product, Product: product})
		if gateway.KindOf(err) != gateway.BadRequest && err != nil {
			t.Fatal(err)
		}
		for range n {
			clients = append(clients, &harness.Client{
				URL: url, Key: c.Primary, Team: product, Number: len(clients), Asks: asks,
				Leaves: product == "soft", HTTP: &http.Client{Transport: transport},
			})
		}
	}
	add("soft", 12, harness.Asks)
	add("hard", 10, harness.Asks)
	add("tight", 2, harness.Asks)
	for range 2 {
		long := *clients[0]
		long.Number, long.Asks = len(clients), []harness.Ask{harness.LongAsk, harness.Asks[1], harness.LongAsk}
		clients = append(clients, &long)
	}
	return clients
}

// killAtRandom kills each new process after a random time, between zero and twice the
// average. On a very busy machine it waits longer, because too few requests would prove
// nothing.
func killAtRandom(t *testing.T, host *funchost.Host, load *harness.Load, plan harness.KillPlan) {
	t.Helper()
	for n := range plan.Kills {
		if err := harness.Pause(t.Context(), rand.N(2*plan.Apart)); err != nil {
			t.Fatal(err)
		}
		load.Await(t, 2*(n+1))
		host.Kill()
		if err := host.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// startStreams starts n streams. Each stops after three events, until the region's faults
// are cleared.
func startStreams(t *testing.T, p *harness.Process, region *aoaisim.Region, n int) <-chan harness.Observation {
	t.Helper()
	region.Fault(aoaisim.Fault{Do: aoaisim.DoStep})
	remote := cli.Remote{URL: p.URL, Key: harness.AdminKey, Client: http.DefaultClient}
	created, err := remote.Create(t.Context(), admin.NewSubscription{ID: "team", Product: "default"})
	if err != nil {
		t.Fatal(err)
	}
	c := &harness.Client{URL: p.URL, Key: created.Primary, HTTP: &http.Client{Transport: &http.Transport{}}}
	seen := make(chan harness.Observation, n)
	for i := range n {
		go func() { seen <- c.One(t.Context(), harness.Asks[1+i%2], "at length [tokens:20]") }()
	}
	region.Step(3 * n)
	return seen
}

// After Ctrl-C or a container's SIGTERM, the gateway finishes the streams in progress with
// their records, and accepts no new requests.
func TestSIGTERMLetsStreamsFinish(t *testing.T) {
	const streams = 8
	server := harness.StartAzurite(t)
	w := harness.NewEnvironment(t, server.ConnectionString(), harness.TestPolicy)
	region := w.Region(1, aoaisim.Options{Name: "a"})
	p := harness.StartProcess(t, w.Environ())
	p.Ready()
	seen := startStreams(t, p, region, streams)
	harness.Until(t, "the streams have begun", func() bool { return region.Counts().Events >= 3*streams && region.Counts().Open == streams })
	p.Signal(syscall.SIGTERM)
	harness.Until(t, "the port is closed", func() bool {
		resp, err := http.Get(p.URL + "/")
		if err == nil {
			resp.Body.Close()
		}
		return err != nil
	})
	region.ClearFaults()
	var sights []harness.Observation
	for range streams {
		s := <-seen
		if sights = append(sights, s); !s.Complete {
			t.Errorf("a stream under way was not finished: %+v", s)
		}
	}
	if code := p.Exit(); code != app.ExitInterrupted {
		t.Errorf("exit code %d, want %d", code, app.ExitInterrupted)
	}
	book := harness.ReadJournal(t, server)
	for _, s := range sights {
		if end, ok := book.EndLines[s.ID]; !ok || end.Outcome != gateway.Complete || end.Type != gateway.End {
			t.Errorf("record %q: %+v", s.ID, end)
		}
	}
}
