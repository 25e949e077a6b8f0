package table_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"aoaigateway/handler/devstack/azurite"
	"aoaigateway/handler/table"
	"aoaigateway/handler/table/tabletest"
)

// startAzurite runs one for the test; the time-out is for the first install.
func startAzurite(t *testing.T) *azurite.Server {
	t.Helper()
	if testing.Short() {
		t.Skip("needs Node; make test runs it")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	s, err := azurite.Start(ctx, azurite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func open(t *testing.T, o table.AzureOptions) *table.Azure {
	t.Helper()
	s, err := table.NewAzure(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Azure keeps the contract.
func TestAzureContract(t *testing.T) {
	server := startAzurite(t)
	for _, retry := range []table.RetryPolicy{table.Once, table.Retrying} {
		t.Run(fmt.Sprintf("retry %v", retry), func(t *testing.T) {
			var n atomic.Int32
			tabletest.Run(t, func(t *testing.T) table.Store {
				return open(t, table.AzureOptions{
					ConnectionString: server.ConnectionString(), Retry: retry,
					Table: fmt.Sprintf("contract%dx%d", retry, n.Add(1)),
				})
			})
		})
	}
}

// A table is made once and shared by all who open it.
func TestAzureCreatesTableOnce(t *testing.T) {
	server := startAzurite(t)
	o := table.AzureOptions{ConnectionString: server.ConnectionString(), Table: "shared"}
	first, second := open(t, o), open(t, o)
	if _, err := first.Insert(t.Context(), table.Entity{Key: table.Key{Partition: "p"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := second.Get(t.Context(), table.Key{Partition: "p"}); err != nil {
		t.Errorf("the second does not see what the first wrote: %v", err)
	}
}

// lossy stands between client and Azurite: it passes a request on and loses the answer,
// or answers 503 itself, as often as told.
type lossy struct {
	requests, lose, busy atomic.Int32
	pass                 http.Handler
}

func (l *lossy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.requests.Add(1)
	if l.busy.Add(-1) >= 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if l.lose.Add(-1) < 0 {
		l.pass.ServeHTTP(w, r)
		return
	}
	l.pass.ServeHTTP(httptest.NewRecorder(), r)
	panic(http.ErrAbortHandler)
}

// behindLossy opens a table through a lossy hop.
func behindLossy(t *testing.T, retry table.RetryPolicy) (*table.Azure, *lossy) {
	t.Helper()
	server := startAzurite(t)
	target, err := url.Parse(server.Table)
	if err != nil {
		t.Fatal(err)
	}
	hop := &lossy{pass: &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host = target.Scheme, target.Host
	}}}
	front := httptest.NewServer(hop)
	t.Cleanup(front.Close)
	through := strings.ReplaceAll(server.ConnectionString(), server.Table, front.URL+target.Path)
	s := open(t, table.AzureOptions{ConnectionString: through, Table: "lossy", Retry: retry})
	hop.requests.Store(0)
	return s, hop
}

// A lost answer is neither success nor conflict.
func TestAzureLostAnswer(t *testing.T) {
	for _, retry := range []table.RetryPolicy{table.Once, table.Retrying} {
		s, hop := behindLossy(t, retry)
		e, err := s.Insert(t.Context(), table.Entity{Key: table.Key{Partition: "p"}, Props: map[string]any{"n": int64(1)}})
		if err != nil {
			t.Fatal(err)
		}
		hop.requests.Store(0)
		hop.lose.Store(1)
		e.Props["n"] = int64(2)
		_, err = s.Replace(t.Context(), e)
		if err == nil || errors.Is(err, table.ErrConflict) || errors.Is(err, table.ErrNotFound) {
			t.Errorf("retry %v: Replace with its answer lost: %v, want an error that decides nothing", retry, err)
		}
		if n := hop.requests.Load(); n != 1 {
			t.Errorf("retry %v: the write was sent %d times, want once", retry, n)
		}
		if got, err := s.Get(t.Context(), e.Key); err != nil || got.Props["n"] != int64(2) {
			t.Errorf("retry %v: reading afterwards: %v, %v", retry, got.Props, err)
		}
	}
}

// Retries repeat reads and writes that were not applied.
func TestRetryingRepeatsWhatIsSafe(t *testing.T) {
	s, hop := behindLossy(t, table.Retrying)
	hop.busy.Store(1)
	if _, err := s.Insert(t.Context(), table.Entity{Key: table.Key{Partition: "p"}}); err != nil {
		t.Errorf("Insert after one 503: %v", err)
	}
	hop.lose.Store(1)
	if _, err := s.Get(t.Context(), table.Key{Partition: "p"}); err != nil {
		t.Errorf("Get after one lost answer: %v", err)
	}
}

// Without retries every method sends one request.
func TestOnceSendsOneRequest(t *testing.T) {
	s, hop := behindLossy(t, table.Once)
	hop.busy.Store(2)
	if _, err := s.Insert(t.Context(), table.Entity{Key: table.Key{Partition: "p"}}); err == nil {
		t.Error("Insert: no error after a 503")
	}
	if _, err := s.Get(t.Context(), table.Key{Partition: "p"}); err == nil || errors.Is(err, table.ErrNotFound) {
		t.Errorf("Get: %v, want the 503", err)
	}
	if n := hop.requests.Load(); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}

func TestNewAzureRefusesHalfAddress(t *testing.T) {
	for name, o := range map[string]table.AzureOptions{
		"nothing":           {Table: "t"},
		"URL alone":         {Table: "t", ServiceURL: "https://x.table.core.windows.net"},
		"both":              {Table: "t", ServiceURL: "https://x", ConnectionString: "UseDevelopmentStorage=true"},
		"broken connection": {Table: "t", ConnectionString: "nonsense"},
	} {
		if _, err := table.NewAzure(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
