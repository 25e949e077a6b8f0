package e2e_test

import (
	"context"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"aoaigateway/handler/blob"
	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/devstack/loganalytics"
	"aoaigateway/handler/logs"
	"aoaigateway/handler/logs/export"
	"aoaigateway/handler/table"
	"aoaigateway/handler/tests/harness"
)

const oneScope = `
version: 1
models: {}
products:
  default:
    models: [chat]
    maxOutputTokens: 100
    limits:
      - {name: pace, tokens: 100000000, per: minute}
`

// The largest numbers of operations for 1,000 requests, at 200 requests a second in one
// instance whose limits use one counter.
const (
	blobBudget  = 60
	tableBudget = 40
)

// operations counts operations on the stores.
type operations struct {
	mu    sync.Mutex
	blobs map[blob.Op]int
	rows  map[string]int // operations by table
}

func (o *operations) blob(took time.Duration) *harness.BlobFault {
	f := harness.BlobFault(func(_ context.Context, op blob.Op) (bool, error) {
		o.mu.Lock()
		o.blobs[op]++
		o.mu.Unlock()
		time.Sleep(took)
		return true, nil
	})
	return &f
}

func (o *operations) of(name string, took time.Duration) table.Fault {
	return func(context.Context, table.Op, table.Key) (bool, error) {
		o.mu.Lock()
		o.rows[name]++
		o.mu.Unlock()
		time.Sleep(took)
		return true, nil
	}
}

func (o *operations) sums() (writes, reads, rows int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for op, n := range o.blobs {
		if op == blob.OpOpen || op == blob.OpLength || op == blob.OpList {
			reads += n
		} else {
			writes += n
		}
	}
	for n := range maps.Values(o.rows) {
		rows += n
	}
	return writes, reads, rows
}

// takesAll returns an Exporter to a Log Analytics that accepts all rows.
func takesAll(t *testing.T) *export.Exporter {
	t.Helper()
	shipper, err := export.NewShipper(export.ShipperOptions{
		Endpoint: "https://logs", RuleID: "dcr", Stream: logs.Stream,
		Credential: harness.TokenMaker{Tokens: loganalytics.Tokens{Secret: []byte("secret")}},
		Transport:  taken{}, DeadLetter: func(context.Context, logs.Row, string) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return &export.Exporter{Shipper: shipper}
}

type taken struct{}

func (taken) RoundTrip(r *http.Request) (*http.Response, error) {
	_, _ = io.Copy(io.Discard, r.Body)
	return &http.Response{StatusCode: http.StatusNoContent, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
}

// countOperations sends 200 requests a second for the given time. It returns the counts and
// the number of requests.
func countOperations(t *testing.T, lasts time.Duration) (o *operations, requests int) {
	o = &operations{blobs: map[blob.Op]int{}, rows: map[string]int{}}
	inVirtualTimeUnder(t, oneScope, 1, func(t *testing.T, r *harness.Gateway, charges *ledger) {
		r.Program.Start()
		r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoSlow, Millis: 20})
		r.Fault.Store(o.blob(30 * time.Millisecond))
		charges.store.SetFault(o.of("quota", 10*time.Millisecond))
		r.Services.Journal.(*table.Mem).SetFault(o.of("journal", 10*time.Millisecond))
		r.Services.Usage.(*table.Mem).SetFault(o.of("usage", 10*time.Millisecond))
		r.Services.Regions.(*table.Mem).SetFault(o.of("regions", 10*time.Millisecond))
		r.Services.Affinity.(*table.Mem).SetFault(o.of("affinity", 10*time.Millisecond))
		for _, s := range openLoad(r, 200, lasts, harness.Asks[:3], "how much") {
			if !s.Complete || s.Status != http.StatusOK {
				t.Fatalf("%+v", s)
			}
			requests++
		}
	})
	return o, requests
}

func TestStorageOperationsBudget(t *testing.T) {
	o, requests := countOperations(t, 20*time.Second)
	per := func(n int) float64 { return 1000 * float64(n) / float64(requests) }
	writes, reads, rows := o.sums()
	harness.Report(t, "per 1,000 of %d requests at 200/s: %.1f blob operations (%.1f writes, %.1f reads) of at most %d; %.1f table "+
		"operations of at most %d; %v %v",
		requests, per(writes+reads), per(writes), per(reads), blobBudget, per(rows), tableBudget, o.blobs, o.rows)
	if per(writes+reads) > blobBudget || per(rows) > tableBudget || writes == 0 || reads == 0 || len(o.rows) < 3 {
		t.Errorf("%.1f blob and %.1f table operations: %v %v", per(writes+reads), per(rows), o.blobs, o.rows)
	}
}

// BenchmarkOperations prints the operations on the stores for 1,000 requests at 200 a
// second.
func BenchmarkOperations(b *testing.B) {
	var writes, reads, rows, requests int
	for b.Loop() {
		if !testing.RunTests(func(_, name string) (bool, error) { return name == "count", nil },
			[]testing.InternalTest{{Name: "count", F: func(t *testing.T) {
				o, n := countOperations(t, 10*time.Second)
				w, r, s := o.sums()
				writes, reads, rows, requests = writes+w, reads+r, rows+s, requests+n
			}}}) {
			b.Fatal("the load failed")
		}
	}
	per := func(n int) float64 { return 1000 * float64(n) / float64(requests) }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(per(writes), "blob-writes/1000")
	b.ReportMetric(per(reads), "blob-reads/1000")
	b.ReportMetric(per(rows), "table-ops/1000")
}

// The last event of a stream waits for one append, which has the end record. It waits for
// nothing else, because the previous append began more than an interval ago.
func TestLoneAnswerWaitsOneAppend(t *testing.T) {
	const appends, event = 30 * time.Millisecond, 200 * time.Millisecond
	inVirtualTime(t, 1, func(t *testing.T, r *harness.Gateway) {
		r.Program.Start()
		r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoSlow, Millis: int(event / time.Millisecond)})
		r.Post(harness.ChatPath, harness.ChatStream) // opens the journal file before the measurement
		time.Sleep(10 * time.Second)
		o := &operations{blobs: map[blob.Op]int{}, rows: map[string]int{}}
		r.Fault.Store(o.blob(appends))
		var held []time.Duration
		for range 10 {
			time.Sleep(10*time.Second + 7*time.Millisecond)
			began := time.Now()
			a := r.Post(harness.ChatPath, harness.ChatStream)
			if a.Err != nil || !strings.HasSuffix(string(a.Body), doneEvent) {
				t.Fatalf("%v %s", a.Err, a.Body)
			}
			// plus one, because the region also sends the usage chunk, which the gateway removes
			sent := time.Duration(1+len(harness.Events(a.Body))) * event
			held = append(held, time.Since(began)-sent)
		}
		harness.Report(t, "an append takes %v; a lone stream's last event came later by %v to %v", appends, slices.Min(held), slices.Max(held))
		if slices.Max(held) != appends || slices.Min(held) != appends {
			t.Errorf("held for %v", held)
		}
	})
}
