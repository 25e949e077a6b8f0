package journal_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"aoaigateway/handler/blob"
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
