package app

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	azpolicy "github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"aoaigateway/handler/app/settings"
	"aoaigateway/handler/backend"
	"aoaigateway/handler/table"
)

// 64 operations at once use 64 connections, again and again. The SDK's own transport keeps
// ten and dials the others anew each time.
func TestStorageConnectionsAreKept(t *testing.T) {
	const atOnce, rounds = 64, 20
	var dials atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(8 * time.Millisecond) // a table operation in a region
		w.Header().Set("X-Ms-Error-Code", "ResourceNotFound")
		w.WriteHeader(http.StatusNotFound)
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			dials.Add(1)
		}
	}
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	s := settings.Values{Storage: "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=YQ==;TableEndpoint=" + server.URL + "/a;"}
	store, err := OpenTable(s, Access{Transport: &http.Client{Transport: newAzureTransport(roots)}}, "t", table.Once)
	if err != nil {
		t.Fatal(err)
	}
	for range rounds {
		var all sync.WaitGroup
		for range atOnce {
			all.Go(func() {
				if _, err := store.Get(t.Context(), table.Key{Partition: "p", Row: "r"}); !errors.Is(err, table.ErrNotFound) {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
	// A dial may have begun when a connection becomes free.
	if n := dials.Load(); n > 2*atOnce {
		t.Errorf("%d dials for %d operations, %d at once", n, atOnce*rounds, atOnce)
	}
}

// scopes is a credential that tells which tokens are fetched.
type scopes chan string

func (s scopes) GetToken(_ context.Context, o azpolicy.TokenRequestOptions) (azcore.AccessToken, error) {
	s <- o.Scopes[0]
	return azcore.AccessToken{}, nil
}

// The first request finds the tokens that it needs, because their fetch began at the start.
func TestStartFetchesTokens(t *testing.T) {
	fetched := make(scopes, 8)
	warmUp(settings.Values{
		KeyVaultURL: "https://v.vault.azure.net", LogsURL: "https://l.ingest.monitor.azure.com",
		Backends: []backend.Region{{Credential: backend.ManagedIdentity}},
	}, fetched)
	missing := map[string]bool{
		"https://storage.azure.com/.default": true, "https://vault.azure.net/.default": true,
		"https://monitor.azure.com//.default": true, "https://cognitiveservices.azure.com/.default": true,
	}
	for range 4 {
		delete(missing, <-fetched)
	}
	if len(missing) > 0 {
		t.Errorf("not fetched: %v", missing)
	}
}
