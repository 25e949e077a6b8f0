package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"aoaigateway/handler/blob"
	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal/journaltest"
	"aoaigateway/handler/journal/manifest"
	"aoaigateway/handler/journal/verify"
	"aoaigateway/handler/table"
	"aoaigateway/handler/tests/harness"
	"aoaigateway/handler/usage"
)

var errAway = errors.New("the storage is away")

// openLoad starts perSecond requests every second, even if earlier ones are not answered
// yet. The kinds of requests alternate as in turn. It returns what the clients saw of all
// requests.
func openLoad(r *harness.Gateway, perSecond int, lasts time.Duration, turn []harness.Ask, prompt string) []harness.Observation {
	var mu sync.Mutex
	var seen []harness.Observation
	var all sync.WaitGroup
	c := &harness.Client{URL: r.URL, Key: r.Key, Team: "team-a", HTTP: r.HTTP()}
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	for n := range perSecond * int(lasts/time.Second) {
		<-tick.C
		all.Go(func() {
			s := c.One(r.T.Context(), turn[n%len(turn)], fmt.Sprintf("%s %d [tokens:8]", prompt, n))
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, s)
		})
	}
	all.Wait()
	return seen
}

// entry is what the journal contains about one request.
type entry struct {
	beginLines, ends, amends int
	outcome                  gateway.Outcome // corrected by an amend, if there is one
	status                   int
	sum                      string
	tokens                   int64
}

func entries(r *harness.Gateway) map[string]*entry {
	all := map[string]*entry{}
	for _, line := range journaltest.Lines(r.T, r.Blobs) {
		k := all[line.ID]
		if k == nil {
			k = &entry{}
			all[line.ID] = k
		}
		switch line.Type {
		case gateway.Begin:
			k.beginLines++
		case gateway.End:
			k.ends++
			k.outcome, k.status, k.tokens = line.Outcome, line.Status, line.Usage.Total
			if line.Response != nil {
				k.sum = line.Response.SHA256
			}
		case gateway.Amend:
			k.amends++
			k.outcome = line.Outcome
		case gateway.Incomplete:
			r.T.Errorf("%s is incomplete though no process died", line.ID)
		}
	}
	return all
}

// wantKept compares what clients saw with the journal and the statistics. It returns the
// number of complete answers.
func wantKept(r *harness.Gateway, seen []harness.Observation) (whole int) {
	r.T.Helper()
	all := entries(r)
	for _, s := range seen {
		k := all[s.ID]
		switch {
		case k == nil || k.ends != 1 || k.beginLines > 1 || k.amends > 1:
			r.T.Errorf("of an answer with status %d the journal has %+v: %+v", s.Status, k, s)
		case s.Status != http.StatusOK:
			if s.Complete && s.Code == "" {
				r.T.Errorf("an error without a reason: %+v", s)
			}
		case s.Complete && (k.outcome != gateway.Complete || k.beginLines != 1):
			r.T.Errorf("a complete answer's record says %+v", k)
		case s.Complete && s.Unaltered && (k.sum != s.Sum || k.tokens != s.Tokens):
			r.T.Errorf("the client has %s of %d tokens, the record %s of %d", s.Sum, s.Tokens, k.sum, k.tokens)
		case s.Complete:
			whole++
		case k.outcome == gateway.Complete:
			r.T.Errorf("a cut answer's record says %+v", k)
		}
	}
	wantSound(r)
	wantCounted(r, all)
	return whole
}

func wantSound(r *harness.Gateway) {
	r.T.Helper()
	report, err := verify.Run(r.T.Context(), manifest.New(r.Services.Journal), r.Blobs, time.Time{}, time.Time{})
	if err != nil || len(report.Breaks) > 0 || report.BeyondCheckpoint > 0 || report.Batches == 0 {
		r.T.Errorf("verify: %+v, %v", report, err)
	}
}

// wantCounted checks that the statistics are the sums over the journal's end records.
func wantCounted(r *harness.Gateway, all map[string]*entry) {
	r.T.Helper()
	var ends, tokens int64
	for _, k := range all {
		ends, tokens = ends+int64(k.ends), tokens+k.tokens
	}
	now := time.Now()
	sum, err := usage.New(r.Services.Usage).Summarize(r.T.Context(), usage.Query{From: now.Add(-3 * time.Hour), To: now.Add(time.Hour)})
	if err != nil || sum.Sum.Requests != ends || sum.Sum.Total != tokens {
		r.T.Errorf("statistics have %+v, %v; the journal %d ends and %d tokens", sum.Sum, err, ends, tokens)
	}
}

// blobsAway makes all operations on blobs fail: alternately after and before they are
// applied.
func blobsAway() *harness.BlobFault {
	var n atomic.Int64
	f := harness.BlobFault(func(context.Context, blob.Op) (bool, error) { return n.Add(1)%2 == 0, errAway })
	return &f
}

// blobsHang makes all operations on blobs hang until their contexts end.
func blobsHang() *harness.BlobFault {
	f := harness.BlobFault(func(ctx context.Context, _ blob.Op) (bool, error) { <-ctx.Done(); return false, ctx.Err() })
	return &f
}

func TestShortBlobOutage(t *testing.T) {
	for name, fault := range map[string]func() *harness.BlobFault{"failing": blobsAway, "hanging": blobsHang} {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, 2, func(t *testing.T, r *harness.Gateway) {
				r.Program.Start()
				r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoSlow, Millis: 40})
				time.AfterFunc(5*time.Second, func() { r.Fault.Store(fault()) })
				var peak int64
				time.AfterFunc(10*time.Second, func() {
					peak, _ = r.Program.Journal.Backlog()
					r.Fault.Store(nil)
				})
				seen := openLoad(r, 40, 20*time.Second, harness.Asks[:5], "in the storm")
				time.Sleep(15 * time.Second)
				whole := wantKept(r, seen)
				if used, _ := r.Program.Journal.Backlog(); whole != len(seen) || used != 0 || peak == 0 {
					t.Errorf("%d of %d answers complete, %d bytes waiting at the end of the outage, %d still", whole, len(seen), peak, used)
				}
				harness.Report(t, "%d requests, blobs %s from second 5 to 10: %d complete, all with their record; %d KiB waited", len(seen), name,
					whole, peak>>10)
			})
		})
	}
}

// An answer waits up to 15 s for its record, so this outage is long.
func TestLongBlobOutage(t *testing.T) {
	for name, fault := range map[string]func() *harness.BlobFault{"failing": blobsAway, "hanging": blobsHang} {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, 1, func(t *testing.T, r *harness.Gateway) { bearsLongOutage(r, fault()) })
		})
	}
}

const (
	outageBegins = 10 * time.Second
	outageEnds   = 5 * time.Minute
)

// peakBacklog observes the backlog for the time d. It returns the largest number of bytes
// in it, and its limit.
func peakBacklog(r *harness.Gateway, d time.Duration) (peak, limit int64) {
	for began := time.Now(); time.Since(began) < d; {
		time.Sleep(100 * time.Millisecond)
		var used int64
		used, limit = r.Program.Journal.Backlog()
		peak = max(peak, used)
	}
	return peak, limit
}

func bearsLongOutage(r *harness.Gateway, fault *harness.BlobFault) {
	t := r.T
	r.Program.Start()
	r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoSlow, Millis: 1000}) // each stream takes about 10 s, so some are in progress at any time
	began := time.Now()
	time.AfterFunc(outageBegins, func() { r.Fault.Store(fault) })
	time.AfterFunc(outageEnds, func() { r.Fault.Store(nil) })
	var peak, limit int64
	var watch sync.WaitGroup
	watch.Go(func() { peak, limit = peakBacklog(r, outageEnds-time.Since(began)) })
	seen := openLoad(r, 4, outageEnds, harness.Asks[:3], strings.Repeat("much ", 40<<10))
	watch.Wait()
	cut, refused := 0, 0
	for _, s := range seen {
		switch {
		case s.Status == http.StatusServiceUnavailable && s.Code == "AuditLogUnavailable":
			refused++
		case s.Status != http.StatusOK:
			t.Errorf("answered %d, %q", s.Status, s.Code)
		case !s.Complete && !s.Reported:
			t.Errorf("cut without a word: %+v", s)
		case !s.Complete:
			cut++
		}
	}
	if cut == 0 || refused < len(seen)/2 || peak > limit || peak < limit/3 {
		t.Errorf("%d cut, %d refused of %d; %d bytes waited of %d at most", cut, refused, len(seen), peak, limit)
	}
	time.Sleep(15 * time.Second)
	after := openLoad(r, 4, 10*time.Second, harness.Asks[:3], "later")
	time.Sleep(15 * time.Second)
	whole := wantKept(r, append(seen, after...))
	if late := len(after); whole < late || whole != late+len(seen)-cut-refused {
		t.Errorf("%d complete in all, of %d after the outage", whole, late)
	}
	harness.Report(t, "%d requests in 5 minutes, blobs away for all but 10 s: %d refused with 503, %d cut, %d complete; %d of at most %d "+
		"MiB waited; after it %d of %d answered",
		len(seen), refused, cut, len(seen)-cut-refused, peak>>20, limit>>20, len(after), len(after))
}

// The manifest is written independently of the appends. If its table cannot be reached,
// appends continue, also at the end of the hour, when a new file waits for its entry for at
// most two seconds.
func TestManifestOutage(t *testing.T) {
	for name, fault := range map[string]table.Fault{
		"failing": func(_ context.Context, op table.Op, _ table.Key) (bool, error) { return op == table.OpReplace, errAway },
		"hanging": func(ctx context.Context, _ table.Op, _ table.Key) (bool, error) {
			<-ctx.Done()
			return false, ctx.Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, 1, func(t *testing.T, r *harness.Gateway) {
				files := r.Services.Journal.(*table.Mem)
				r.Program.Start()
				now := time.Now()
				time.Sleep(now.Truncate(time.Hour).Add(time.Hour - 30*time.Second).Sub(now))
				time.AfterFunc(10*time.Second, func() { files.SetFault(fault) })
				time.AfterFunc(50*time.Second, func() { files.SetFault(nil) })
				seen := openLoad(r, 20, time.Minute, harness.Asks[:5], "rowless")
				time.Sleep(90 * time.Second)
				if whole := wantKept(r, seen); whole != len(seen) {
					t.Errorf("%d of %d answers complete", whole, len(seen))
				}
				blobs, err := r.Blobs.List(t.Context(), "2")
				if err != nil || len(blobs) != 2 {
					t.Errorf("%d files, %v", len(blobs), err)
				}
				harness.Report(t, "%d requests over an hour's end, rows %s for 40 s: all complete, %d files", len(seen), name, len(blobs))
			})
		})
	}
}
