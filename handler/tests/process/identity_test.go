package process_test

import (
	"net/http"
	"sync"
	"testing"

	"aoaigateway/handler/admin"
	"aoaigateway/handler/cli"
	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/devstack/stack"
	"aoaigateway/handler/tests/harness"
)

// The first token of an instance takes six seconds. The requests that arrive in the meantime
// wait for it and succeed, and all of them share one fetch.
func TestColdInstanceWaitsForToken(t *testing.T) {
	const token, requests = "token-of-the-region", 20
	id, err := stack.StartIdentity(stack.IdentityOptions{RegionToken: token})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(id.Stop)
	w := harness.NewEnvironment(t, harness.StartAzurite(t).ConnectionString(), harness.TestPolicy)
	w.Region(1, aoaisim.Options{Name: "a", Token: token})
	w.Backends[0]["credential"] = stack.ManagedIdentity
	p := harness.StartProcess(t, w.Environ(id.Environ()...))
	p.Ready()
	remote := cli.Remote{URL: p.URL, Key: harness.AdminKey, Client: http.DefaultClient}
	team, err := remote.Create(t.Context(), admin.NewSubscription{ID: "team", Product: "default"})
	if err != nil {
		t.Fatal(err)
	}
	client := &harness.Client{URL: p.URL, Key: team.Primary, Team: "team", HTTP: http.DefaultClient}
	var all sync.WaitGroup
	for n := range requests {
		all.Go(func() {
			if s := client.One(t.Context(), harness.Asks[n%len(harness.Asks)], "hello"); s.Status != http.StatusOK || !s.Complete {
				t.Errorf("a request on a cold instance: %+v", s)
			}
		})
	}
	all.Wait()
	if n := id.Calls("https://cognitiveservices.azure.com"); n != 1 {
		t.Errorf("%d requests for a token, want 1", n)
	}
}
