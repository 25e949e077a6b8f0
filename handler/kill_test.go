package main

import (
	"context"
	"math/rand/v2"
	"net/http"
	"syscall"
	"testing"
	"time"

	"aoaigateway/handler/admin"
	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/devstack/azurite"
	"aoaigateway/handler/devstack/funchost"
	"aoaigateway/handler/gateway"
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

const tightLimit = 3000

// plan of a kill loop.
type killPlan struct {
	kills   int
	apart   time.Duration // in the mean
	trouble time.Duration // of one sort at the sink
}

func plannedKills() killPlan {
	if proving {
		return killPlan{kills: 60, apart: time.Second, trouble: 10 * time.Second}
	}
	return killPlan{kills: 20, apart: 300 * time.Millisecond, trouble: time.Second}
}

// The gateway is killed by SIGKILL at random moments under load. Whatever a client holds
// as a complete answer has its end record, whatever began to stream has its begin record,
// and no hard limit has been charged less than was used. After one sweep the sink, which
// failed in every way meanwhile, has each record, and the statistics are their sums.
func TestNoCompletedAnswerIsLostWhenTheGatewayIsKilled(t *testing.T) {
	plan := plannedKills()
	server := startAzurite(t)
	sink := startAnalytics(t)
	host := startKilledHost(t, server, sink)
	clients := killClients(t, host.URL())
	harassed, peace := context.WithCancel(t.Context())
	defer peace()
	go sink.harass(harassed, plan.trouble)
	began := time.Now()
	load := startLoad(t, clients)
	killAtRandom(t, host, load, plan)
	if err := pause(t.Context(), plan.apart); err != nil {
		t.Fatal(err)
	}
	sights := load.end()
	if starts := host.Starts(); starts != plan.kills+1 {
		t.Errorf("%d processes were started for %d kills: the gateway ended by itself", starts, plan.kills)
	}
	host.Close()
	peace()
	sink.sink.ClearFaults()
	after := newAftermath(t, server, sink)
	after.sweep()

	book := readBook(t, server)
	found := book.compare(t, sights)
	charged := readCharges(t, server)
	figures(t, "%d kills in %.0f s\n%s", plan.kills, time.Since(began).Seconds(), found.table())
	found.check(t, plan)
	checkCharges(t, charged, book, sights)
	book.checkIncomplete(t)
	sink.check(t, book)
	after.checkUsage(book)
	after.checkJournal(true)
}

// startKilledHost serves the staged app; each kill is a lost instance, replaced on the
// same port.
func startKilledHost(t *testing.T, server *azurite.Server, sink *analytics) *funchost.Host {
	t.Helper()
	w := newWorld(t, server.ConnectionString(), killPolicy)
	w.region(1, aoaisim.Options{Name: "unkind", EventDelay: 3 * time.Millisecond, Seed: rand.Uint64()})
	spotty := w.region(1, aoaisim.Options{Name: "spotty", EventDelay: 5 * time.Millisecond, Kind: true})
	spotty.Fault(aoaisim.Fault{Do: aoaisim.DoStatus, Status: http.StatusTooManyRequests, Probability: 0.03, Headers: map[string]string{"retry-after-ms": "100"}})
	spotty.Fault(aoaisim.Fault{Do: aoaisim.DoCutReset, After: 4, Probability: 0.02})
	spotty.Fault(aoaisim.Fault{Do: aoaisim.DoSlow, Millis: 20, Probability: 0.1})
	w.region(2, aoaisim.Options{Name: "steady", EventDelay: 8 * time.Millisecond, Kind: true})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	host, err := funchost.Start(ctx, funchost.Options{AppDir: staged(t), Env: w.environ(sink.env...), Fresh: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(host.Close)
	return host
}

// killClients are of three teams, one for each product.
func killClients(t *testing.T, url string) (clients []*client) {
	t.Helper()
	remote := admin.Remote{URL: url, AdminKey: adminKey, Client: http.DefaultClient}
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	add := func(product string, n int, asks []ask) {
		c, err := remote.Create(t.Context(), admin.NewSubscription{ID: "team-" + product, Product: product})
		if gateway.KindOf(err) != gateway.BadRequest && err != nil {
			t.Fatal(err)
		}
		for range n {
			clients = append(clients, &client{
				url: url, key: c.Primary, team: product, number: len(clients), asks: asks,
				leaves: product == "soft", http: &http.Client{Transport: transport},
			})
		}
	}
	add("soft", 12, asks)
	add("hard", 10, asks)
	add("tight", 2, asks)
	for range 2 {
		long := *clients[0]
		long.number, long.asks = len(clients), []ask{longAsk, asks[1], longAsk}
		clients = append(clients, &long)
	}
	return clients
}

// killAtRandom lets each new process live for a random time, from nothing to twice the
// mean; longer on a machine so busy that the load would be too thin to prove anything.
func killAtRandom(t *testing.T, host *funchost.Host, load *load, plan killPlan) {
	t.Helper()
	for n := range plan.kills {
		if err := pause(t.Context(), rand.N(2*plan.apart)); err != nil {
			t.Fatal(err)
		}
		load.await(t, 2*(n+1))
		host.Kill()
		if err := host.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// A person's Ctrl-C, or a container's SIGTERM: streams under way are finished, with their
// records, and nothing new is taken.
func TestStreamsUnderWayFinishAfterSIGTERM(t *testing.T) {
	const streams = 8
	server := startAzurite(t)
	w := newWorld(t, server.ConnectionString(), testPolicy)
	region := w.region(1, aoaisim.Options{Name: "a", Kind: true})
	p := startGateway(t, w.environ())
	p.ready()
	region.Fault(aoaisim.Fault{Do: aoaisim.DoStep})
	remote := admin.Remote{URL: p.url, AdminKey: adminKey, Client: http.DefaultClient}
	created, err := remote.Create(t.Context(), admin.NewSubscription{ID: "team", Product: "default"})
	if err != nil {
		t.Fatal(err)
	}
	c := &client{url: p.url, key: created.Primary, http: &http.Client{Transport: &http.Transport{}}}
	seen := make(chan sight, streams)
	for i := range streams {
		go func() { seen <- c.one(t.Context(), asks[1+i%2], "at length [tokens:20]") }()
	}
	region.Step(3 * streams)
	until(t, "the streams have begun", func() bool { return region.Counts().Events >= 3*streams && region.Counts().Open == streams })
	p.signal(syscall.SIGTERM)
	until(t, "the port is closed", func() bool {
		resp, err := http.Get(p.url + "/")
		if err == nil {
			resp.Body.Close()
		}
		return err != nil
	})
	region.ClearFaults()
	var sights []sight
	for range streams {
		s := <-seen
		if sights = append(sights, s); !s.complete {
			t.Errorf("a stream under way was not finished: %+v", s)
		}
	}
	if code := p.exit(); code != stopped {
		t.Errorf("exit code %d, want %d", code, stopped)
	}
	book := readBook(t, server)
	for _, s := range sights {
		if end, ok := book.ends[s.id]; !ok || end.Outcome != gateway.Complete || end.Type != gateway.End {
			t.Errorf("record %q: %+v", s.id, end)
		}
	}
}

// until polls what another process does.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		if err := pause(t.Context(), 2*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
}
