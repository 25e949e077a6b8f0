package process_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"aoaigateway/handler/app"
	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/devstack/azurite"
	"aoaigateway/handler/devstack/storageproxy"
	"aoaigateway/handler/tests/harness"
)

// startStorageProxy starts a proxy in front of storage, and returns the settings of gateways
// that use it.
func startStorageProxy(t *testing.T, server *azurite.Server) (proxy *storageproxy.Proxy, storage, environ string) {
	t.Helper()
	proxy, err := storageproxy.Start(storageproxy.Options{Blob: server.Blob, Table: server.Table})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	ca := filepath.Join(t.TempDir(), "storage.pem")
	if err := os.WriteFile(ca, append(aoaisim.CA(), proxy.CA...), 0o600); err != nil {
		t.Fatal(err)
	}
	storage = strings.NewReplacer("=http;", "=https;", server.Blob, proxy.Blob, server.Table, proxy.Table).Replace(server.ConnectionString())
	return proxy, storage, "GATEWAY_DEV_CA_FILE=" + ca
}

// storageTrouble returns the faults of storage, each for a time.
func storageTrouble(each time.Duration) []storageproxy.Fault {
	return []storageproxy.Fault{
		{Do: storageproxy.DoBusy, Probability: 0.1},
		{Do: storageproxy.DoTimeout, Writes: true, Probability: 0.1},
		{Do: storageproxy.DoLate, Writes: true, Probability: 0.1, Delay: 3 * each},
		{Do: storageproxy.DoReset, Probability: 0.1},
		{Do: storageproxy.DoLost, Writes: true, Probability: 0.1},
		{Do: storageproxy.DoReading, Match: "comp=appendblock", Probability: 0.2},
	}
}

// startPair starts two gateways that share storage, and clients of both.
func startPair(t *testing.T, storage, ca string) (gateways []*harness.Process, clients []*harness.Client) {
	t.Helper()
	w := harness.NewEnvironment(t, storage, killPolicy)
	w.Region(1, aoaisim.Options{Name: "steady", EventDelay: 3 * time.Millisecond})
	for range 2 {
		p := harness.StartProcess(t, w.Environ(ca))
		p.Ready()
		gateways = append(gateways, p)
	}
	clients = killClients(t, gateways[0].URL)
	for _, c := range clients {
		if c.Team == "tight" { // more of them, so that their limit is used up
			clients = append(clients, c, c, c)
		}
	}
	for i, c := range clients {
		copied := *c
		copied.Number, copied.URL = i, gateways[i%2].URL
		clients[i] = &copied
	}
	return gateways, clients
}

// Storage answers slowly, loses answers, applies writes long after it has answered with an
// error, and resets connections, while two gateways share it under load. Every answer that
// a client received has its record, and no hard limit has charged less than was used or
// more than it allows.
func TestStorageTroubleLosesNothing(t *testing.T) {
	each := time.Second
	if harness.Proving {
		each = 10 * time.Second
	}
	server := harness.StartAzurite(t)
	proxy, storage, ca := startStorageProxy(t, server)
	gateways, clients := startPair(t, storage, ca)
	load := harness.StartLoad(t, clients)
	for _, fault := range storageTrouble(each) {
		proxy.Fault(fault)
		if err := harness.Pause(t.Context(), each); err != nil {
			t.Fatal(err)
		}
		harness.Until(t, "the fault has happened", func() bool { return proxy.Struck()[fault.Do] >= 3 })
		proxy.ClearFaults()
	}
	load.Await(t, 50)
	sights := load.End()
	for _, p := range gateways {
		p.Signal(syscall.SIGTERM)
		if code := p.Exit(); code != app.ExitInterrupted {
			t.Errorf("exit code %d, want %d", code, app.ExitInterrupted)
		}
	}
	proxy.Close() // waits for late writes
	book := harness.ReadJournal(t, server)
	found := book.Compare(t, sights)
	harness.Report(t, "faults %v, %d connections to storage\n%s", proxy.Struck(), proxy.Dials(), found.Table())
	found.Check(t, harness.KillPlan{})
	harness.CheckCharges(t, harness.ReadCharges(t, server), book, sights)
}

// While the partition of one team's counters is silent, the other team's requests are
// neither refused nor delayed.
func TestSilentPartitionHarmsOneTeam(t *testing.T) {
	silent := 3 * time.Second
	if harness.Proving {
		silent = 10 * time.Second
	}
	proxy, storage, ca := startStorageProxy(t, harness.StartAzurite(t))
	w := harness.NewEnvironment(t, storage, killPolicy)
	w.Region(1, aoaisim.Options{Name: "steady"})
	p := harness.StartProcess(t, w.Environ(ca))
	p.Ready()
	var hard, soft *harness.Client
	for _, c := range killClients(t, p.URL) {
		switch c.Team {
		case "hard":
			hard = c
		case "soft":
			soft = c
		}
	}
	soft.Leaves = false
	for _, c := range []*harness.Client{hard, soft} {
		if s := c.One(t.Context(), harness.Asks[0], "warm up"); s.Status != http.StatusOK {
			t.Fatalf("%s: status %d", c.Team, s.Status)
		}
	}
	proxy.Fault(storageproxy.Fault{Do: storageproxy.DoSilent, Match: "hard|subscription"})
	load := harness.StartLoad(t, []*harness.Client{hard, hard, hard, hard})
	longest, requests := time.Duration(0), 0
	for began := time.Now(); time.Since(began) < silent; requests++ {
		start := time.Now()
		s := soft.One(t.Context(), harness.Asks[requests%2], fmt.Sprint("request ", requests))
		if longest = max(longest, time.Since(start)); s.Status != http.StatusOK || !s.Complete {
			t.Errorf("a request of the other team: %+v", s)
		}
	}
	proxy.ClearFaults()
	load.End()
	harness.Report(t, "%d requests of the other team while a partition was silent for %v, the longest took %v", requests, silent, longest)
	if longest > 2*time.Second {
		t.Errorf("a request of the other team took %v", longest)
	}
	if proxy.Struck()[storageproxy.DoSilent] == 0 {
		t.Error("no operation met the silent partition, so nothing was proved")
	}
}
