package blob_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"aoaigateway/handler/blob"
	"aoaigateway/handler/blob/blobtest"
	"aoaigateway/handler/devstack/azurite"
)

// storage is one Azurite for the whole package. Every test uses its own container.
var storage *azurite.Server

func TestMain(m *testing.M) {
	os.Exit(withStorage(m))
}

func withStorage(m *testing.M) int {
	if flag.Parse(); testing.Short() {
		return m.Run()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	s, err := azurite.Start(ctx, azurite.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer s.Stop()
	storage = s
	return m.Run()
}

func newAzure(t testing.TB, container string) *blob.Azure {
	t.Helper()
	if testing.Short() {
		t.Skip("needs Node; make test runs it")
	}
	container += "-" + fmt.Sprint(time.Now().UnixNano())
	b, err := blob.NewAzure(blob.AzureOptions{ConnectionString: storage.ConnectionString(), Container: container})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestMemKeepsContract(t *testing.T) { blobtest.Run(t, &blob.Mem{}) }

func TestAzureKeepsContract(t *testing.T) { blobtest.Run(t, newAzure(t, "contract")) }

func TestAbsentContainerIsEmpty(t *testing.T) {
	found, err := newAzure(t, "absent").List(t.Context(), "")
	if err != nil || len(found) != 0 {
		t.Errorf("List = %v, %v, want nothing", found, err)
	}
}

func TestNewAzureNamesMissingOption(t *testing.T) {
	for _, o := range []blob.AzureOptions{
		{},
		{Container: "audit"},
		{Container: "audit", ServiceURL: "https://a.blob.core.windows.net"},
		{ConnectionString: "AccountName=a;AccountKey=YQ==;BlobEndpoint=http://127.0.0.1:1/a"},
		{ConnectionString: "nonsense", Container: "audit"},
	} {
		if _, err := blob.NewAzure(o); err == nil {
			t.Errorf("NewAzure(%+v) succeeded", o)
		}
	}
}
