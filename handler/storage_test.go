package main

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

	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal"
	"aoaigateway/handler/table"
	"aoaigateway/handler/usage"
)

var errAway = errors.New("the storage is away")

// openLoad sends perSecond requests a second in turn, however long each takes, and
// returns what came of all of them.
func (r *rig) openLoad(perSecond int, lasts time.Duration, turn []ask, prompt string) []sight {
	var mu sync.Mutex
	var seen []sight
	var all sync.WaitGroup
	c := &client{url: r.url, key: r.key, team: "team-a", http: r.http()}
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	for n := range perSecond * int(lasts/time.Second) {
		<-tick.C
		all.Go(func() {
			s := c.one(r.t.Context(), turn[n%len(turn)], fmt.Sprintf("%s %d [tokens:8]", prompt, n))
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, s)
		})
	}
	all.Wait()
	return seen
}

// entry is what the journal has of one request.
type entry struct {
	begins, ends, amends int
	outcome              gateway.Outcome // amended
	status               int
	sum                  string
	tokens               int64
}

func (r *rig) entries() map[string]*entry {
	all := map[string]*entry{}
	for _, line := range readJournal(r.t, r.blobs) {
		k := all[line.ID]
		if k == nil {
			k = &entry{}
			all[line.ID] = k
		}
		switch line.Type {
		case gateway.Begin:
			k.begins++
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
			r.t.Errorf("%s is incomplete though no process died", line.ID)
		}
	}
	return all
}

// wantKept compares what clients saw with the journal, its rows and the statistics, and
// returns how many answers were complete.
func (r *rig) wantKept(seen []sight) (whole int) {
	r.t.Helper()
	all := r.entries()
	for _, s := range seen {
		k := all[s.id]
		switch {
		case k == nil || k.ends != 1 || k.begins > 1 || k.amends > 1:
			r.t.Errorf("of an answer with status %d the journal has %+v: %+v", s.status, k, s)
		case s.status != http.StatusOK:
			if s.complete && s.code == "" {
				r.t.Errorf("an error without a reason: %+v", s)
			}
		case s.complete && (k.outcome != gateway.Complete || k.begins != 1):
			r.t.Errorf("a complete answer's record says %+v", k)
		case s.complete && s.unaltered && (k.sum != s.sum || k.tokens != s.tokens):
			r.t.Errorf("the client has %s of %d tokens, the record %s of %d", s.sum, s.tokens, k.sum, k.tokens)
		case s.complete:
			whole++
		case k.outcome == gateway.Complete:
			r.t.Errorf("a cut answer's record says %+v", k)
		}
	}
	r.wantSound()
	r.wantCounted(all)
	return whole
}

func (r *rig) wantSound() {
	r.t.Helper()
	report, err := journal.Verify(r.t.Context(), journal.NewRows(r.edges.files), r.blobs, time.Time{}, time.Time{})
	if err != nil || len(report.Breaks) > 0 || report.Unanchored > 0 || report.Members == 0 {
		r.t.Errorf("verify: %+v, %v", report, err)
	}
}

// wantCounted: the statistics are sums over the journal's ends.
func (r *rig) wantCounted(all map[string]*entry) {
	r.t.Helper()
	var ends, tokens int64
	for _, k := range all {
		ends, tokens = ends+int64(k.ends), tokens+k.tokens
	}
	now := time.Now()
	sum, err := usage.New(r.edges.usage).Summarize(r.t.Context(), usage.Query{From: now.Add(-3 * time.Hour), To: now.Add(time.Hour)})
	if err != nil || sum.Sum.Requests != ends || sum.Sum.Total != tokens {
		r.t.Errorf("statistics have %+v, %v; the journal %d ends and %d tokens", sum.Sum, err, ends, tokens)
	}
}

// blobsAway has every second operation fail after it was applied, the others before.
func blobsAway() *blobFault {
	var n atomic.Int64
	f := blobFault(func(context.Context, journal.Op) (bool, error) { return n.Add(1)%2 == 0, errAway })
	return &f
}

// blobsHang has every operation take as long as its caller has patience.
func blobsHang() *blobFault {
	f := blobFault(func(ctx context.Context, _ journal.Op) (bool, error) { <-ctx.Done(); return false, ctx.Err() })
	return &f
}

func TestBlobStorageAwayForFiveSecondsUnderLoadLosesNothing(t *testing.T) {
	for name, fault := range map[string]func() *blobFault{"failing": blobsAway, "hanging": blobsHang} {
		t.Run(name, func(t *testing.T) {
			virtually(t, 2, func(t *testing.T, r *rig) {
				r.program.start()
				r.regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoSlow, Millis: 40})
				time.AfterFunc(5*time.Second, func() { r.fault.Store(fault()) })
				var peak int64
				time.AfterFunc(10*time.Second, func() {
					peak, _ = r.program.journal.Backlog()
					r.fault.Store(nil)
				})
				seen := r.openLoad(40, 20*time.Second, asks[:5], "in the storm")
				time.Sleep(15 * time.Second)
				whole := r.wantKept(seen)
				if used, _ := r.program.journal.Backlog(); whole != len(seen) || used != 0 || peak == 0 {
					t.Errorf("%d of %d answers complete, %d bytes waiting at the end of the outage, %d still", whole, len(seen), peak, used)
				}
				figures(t, "%d requests, blobs %s from second 5 to 10: %d complete, all with their record; %d KiB waited", len(seen), name, whole, peak>>10)
			})
		})
	}
}

// The patience of an answer is 15 s, so that this is long.
func TestBlobStorageAwayForLongIsA503WithAReasonAndEndsByItself(t *testing.T) {
	for name, fault := range map[string]func() *blobFault{"failing": blobsAway, "hanging": blobsHang} {
		t.Run(name, func(t *testing.T) { virtually(t, 1, func(t *testing.T, r *rig) { r.bearsLongOutage(fault()) }) })
	}
}

const (
	outageBegins = 10 * time.Second
	outageEnds   = 5 * time.Minute
)

func (r *rig) bearsLongOutage(fault *blobFault) {
	t := r.t
	r.program.start()
	r.regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoSlow, Millis: 1000}) // streams of 10 s are under way at any time
	began := time.Now()
	time.AfterFunc(outageBegins, func() { r.fault.Store(fault) })
	time.AfterFunc(outageEnds, func() { r.fault.Store(nil) })
	done := make(chan struct{})
	var peak, limit int64
	go func() {
		defer close(done)
		for time.Since(began) < outageEnds {
			time.Sleep(100 * time.Millisecond)
			var used int64
			used, limit = r.program.journal.Backlog()
			peak = max(peak, used)
		}
	}()
	seen := r.openLoad(4, outageEnds, asks[:3], strings.Repeat("much ", 40<<10))
	<-done
	cut, refused := 0, 0
	for _, s := range seen {
		switch {
		case s.status == http.StatusServiceUnavailable && s.code == "AuditLogUnavailable":
			refused++
		case s.status != http.StatusOK:
			t.Errorf("answered %d, %q", s.status, s.code)
		case !s.complete && !s.reported:
			t.Errorf("cut without a word: %+v", s)
		case !s.complete:
			cut++
		}
	}
	if cut == 0 || refused < len(seen)/2 || peak > limit || peak < limit/3 {
		t.Errorf("%d cut, %d refused of %d; %d bytes waited of %d at most", cut, refused, len(seen), peak, limit)
	}
	time.Sleep(15 * time.Second)
	after := r.openLoad(4, 10*time.Second, asks[:3], "later")
	time.Sleep(15 * time.Second)
	whole := r.wantKept(append(seen, after...))
	if late := len(after); whole < late || whole != late+len(seen)-cut-refused {
		t.Errorf("%d complete in all, of %d after the outage", whole, late)
	}
	figures(t, "%d requests in 5 minutes, blobs away for all but 10 s: %d refused with 503, %d cut, %d complete; %d of at most %d MiB waited; after it %d of %d answered",
		len(seen), refused, cut, len(seen)-cut-refused, peak>>20, limit>>20, len(after), len(after))
}

// Rows are written beside the appends: without them the journal goes on, over the hour's
// end too, where a new file waits for its row no longer than two seconds.
func TestRowsAwayHoldUpNoAnswerAndAreCaughtUp(t *testing.T) {
	for name, fault := range map[string]table.Fault{
		"failing": func(_ context.Context, op table.Op, _ table.Key) (bool, error) { return op == table.OpReplace, errAway },
		"hanging": func(ctx context.Context, _ table.Op, _ table.Key) (bool, error) {
			<-ctx.Done()
			return false, ctx.Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			virtually(t, 1, func(t *testing.T, r *rig) {
				files := r.edges.files.(*table.Mem)
				r.program.start()
				now := time.Now()
				time.Sleep(now.Truncate(time.Hour).Add(time.Hour - 30*time.Second).Sub(now))
				time.AfterFunc(10*time.Second, func() { files.SetFault(fault) })
				time.AfterFunc(50*time.Second, func() { files.SetFault(nil) })
				seen := r.openLoad(20, time.Minute, asks[:5], "rowless")
				time.Sleep(90 * time.Second)
				if whole := r.wantKept(seen); whole != len(seen) {
					t.Errorf("%d of %d answers complete", whole, len(seen))
				}
				blobs, err := r.blobs.List(t.Context(), "2")
				if err != nil || len(blobs) != 2 {
					t.Errorf("%d files, %v", len(blobs), err)
				}
				figures(t, "%d requests over an hour's end, rows %s for 40 s: all complete, %d files", len(seen), name, len(blobs))
			})
		})
	}
}
