package azurite_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"aoaigateway/handler/devstack/azurite"
)

func TestStartServesBoth(t *testing.T) {
	if testing.Short() {
		t.Skip("needs Node; make test runs it")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	s, err := azurite.Start(ctx, azurite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	for _, url := range []string{s.Blob, s.Table} {
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		_ = resp.Body.Close()
	}
}
