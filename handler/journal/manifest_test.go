package journal_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"aoaigateway/handler/blob"
	"aoaigateway/handler/journal"
	"aoaigateway/handler/journal/journaltest"
	"aoaigateway/handler/journal/manifest"
	"aoaigateway/handler/journal/verify"
	"aoaigateway/handler/table"
)

// harness is a journal in memory with its manifest. Its stores can be made to fail.
type harness struct {
	blobs    *blob.Mem
	store    *table.Mem
	manifest *manifest.Manifest
}

func newHarness() *harness {
	r := &harness{blobs: &blob.Mem{}, store: table.NewMem()}
	r.manifest = manifest.New(r.store)
	return r
}

func (r *harness) writer() *journal.Writer {
	return journal.New(journal.Options{Blobs: r.blobs, Manifest: r.manifest})
}

// files reads all manifest entries in order.
func (r *harness) files(t testing.TB) (all []manifest.File) {
	t.Helper()
	days, err := r.manifest.Days(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range days {
		for f, err := range r.manifest.Day(context.Background(), d.Time) {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, f)
		}
	}
	return all
}

// appendLine appends the begin or the end of a request and waits until it is durable.
func appendLine(t *testing.T, w *journal.Writer, what, id string) {
	t.Helper()
	line := fmt.Appendf(nil, `{"type":%q,"id":%q}`, what, id)
	add := w.AppendBegin
	if what == "end" {
		add = w.AppendEnd
	}
	p, err := add(id, line)
	if err != nil {
		t.Fatal(err)
	}
	wantDurable(t, []*journal.Pending{p})
}

func TestEntryPrecedesBlob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newHarness()
		r.blobs.Fault = func(_ context.Context, op blob.Op, name string) (bool, error) {
			if op == blob.OpCreate {
				if rows := r.files(t); len(rows) != 1 || rows[0].Name != name || rows[0].State != manifest.Open {
					t.Errorf("entries when %s is created: %+v", name, rows)
				}
			}
			return true, nil
		}
		w := r.writer()
		defer closeNow(t, w)
		for i := range 30 {
			wantDurable(t, appendAll(t, w, 1, time.Duration(i)*37*time.Millisecond))
		}
		all := journaltest.Batches(t, r.blobs)
		head := all[len(all)-1]
		time.Sleep(time.Second + time.Millisecond)
		f := r.files(t)[0]
		if f.Seq != head.Seq || f.Hash != head.Hash || f.Length != head.Offset+head.Length || f.Owner != w.Process() {
			t.Errorf("entry %+v a second after batch %d", f, head.Seq)
		}
	})
}

func TestEntryWrittenOncePerSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newHarness()
		var writes []time.Time
		r.store.SetFault(func(_ context.Context, op table.Op, _ table.Key) (bool, error) {
			if op == table.OpReplace {
				writes = append(writes, time.Now())
			}
			return true, nil
		})
		w := r.writer()
		defer closeNow(t, w)
		appendAll(t, w, 1000, 10*time.Millisecond)
		for i := 1; i < len(writes); i++ {
			if d := writes[i].Sub(writes[i-1]); d < time.Second {
				t.Errorf("writes %v apart", d)
			}
		}
		if n := len(writes); n < 9 || n > 11 {
			t.Errorf("%d writes in 10 s", n)
		}
	})
}

func TestEntryTouchedWhileInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newHarness()
		w := r.writer()
		defer closeNow(t, w)
		appendLine(t, w, "begin", "slow")
		for range 60 {
			time.Sleep(20 * time.Second)
			if f := r.files(t)[0]; time.Until(f.Until) < time.Minute || f.State != manifest.Open {
				t.Fatalf("entry %+v at %v", f, time.Now())
			}
		}
		appendLine(t, w, "end", "slow")
		time.Sleep(110 * time.Second)
		if f := r.files(t)[0]; f.State != manifest.Sealed || time.Until(f.Until) < 0 {
			t.Errorf("entry of an idle writer %+v, want it closed before it looks dead", f)
		}
		appendLine(t, w, "begin", "next")
		if files := w.Files(); len(files) != 2 || files[1].Number != 1 {
			t.Errorf("files %+v, want a second", files)
		}
	})
}

func TestNewFileListsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newHarness()
		w := r.writer()
		for _, id := range []string{"a", "b", "c"} {
			appendLine(t, w, "begin", id)
		}
		appendLine(t, w, "end", "b")
		first := r.files(t)[0].Name
		time.Sleep(time.Hour)
		appendLine(t, w, "end", "c")
		appendLine(t, w, "begin", "d")
		second := r.files(t)[1].Name
		if err := r.blobs.Seal(t.Context(), second); err != nil {
			t.Fatal(err)
		}
		appendLine(t, w, "end", "a") // the sealed file refuses it, so the request is in flight when the third file begins
		closeNow(t, w)
		var open []map[string][]string
		for _, m := range journaltest.Batches(t, r.blobs) {
			if m.InFlight != nil {
				open = append(open, m.InFlight)
			}
		}
		for _, o := range open {
			for _, ids := range o {
				if len(ids) > 1 && ids[0] > ids[1] {
					ids[0], ids[1] = ids[1], ids[0]
				}
			}
		}
		want := []map[string][]string{{first: {"a", "c"}}, {first: {"a"}, second: {"d"}}}
		if d := cmp.Diff(want, open); d != "" {
			t.Errorf("ids in flight (-want +got):\n%s", d)
		}
	})
}

func TestManyInFlightFitOneBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newHarness()
		w := r.writer()
		const n = 120_000
		var last *journal.Pending
		for i := range n {
			id := fmt.Sprintf("%026d", i)
			last, _ = w.AppendBegin(id, []byte(`{}`))
		}
		wantDurable(t, []*journal.Pending{last})
		time.Sleep(time.Hour)
		appendLine(t, w, "end", "x")
		_ = w.Close(t.Context())
		all := journaltest.Batches(t, r.blobs)
		told := 0
		for _, m := range all {
			for _, ids := range m.InFlight {
				told += len(ids)
			}
		}
		if told < 100_000 || told > n {
			t.Errorf("%d of %d are listed", told, n)
		}
	})
}

func TestFileSealedOnceNextHasBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newHarness()
		w := r.writer()
		defer closeNow(t, w)
		appendLine(t, w, "begin", "a")
		time.Sleep(time.Hour)
		var down atomic.Bool
		down.Store(true)
		r.blobs.Fault = func(_ context.Context, op blob.Op, _ string) (bool, error) {
			return !down.Load(), map[bool]error{true: errors.New("away")}[down.Load() && op == blob.OpAppend]
		}
		p, _ := w.AppendEnd("a", []byte(`{}`))
		time.Sleep(time.Minute)
		if f := r.files(t); len(f) != 2 || f[0].State != manifest.Open {
			t.Errorf("entries %+v, want two and the first open", f)
		}
		down.Store(false)
		wantDurable(t, []*journal.Pending{p})
		time.Sleep(2 * time.Second)
		if f := r.files(t); f[0].State != manifest.Sealed || f[1].State != manifest.Open {
			t.Errorf("entries %+v, want the first sealed", f)
		}
	})
}

func TestWriterSurvivesManifestOutage(t *testing.T) {
	for _, hang := range []bool{false, true} {
		t.Run(fmt.Sprint("hang=", hang), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newHarness()
				r.store.SetFault(func(ctx context.Context, _ table.Op, _ table.Key) (bool, error) {
					if hang {
						<-ctx.Done()
					}
					return false, errors.New("rows are away")
				})
				w := r.writer()
				start := time.Now()
				wantDurable(t, appendAll(t, w, 1, 0))
				if took := time.Since(start); took > 2100*time.Millisecond {
					t.Errorf("the first line took %v", took)
				}
				for range 90 {
					start = time.Now()
					wantDurable(t, appendAll(t, w, 1, 0))
					if took := time.Since(start); took > 100*time.Millisecond {
						t.Errorf("a line took %v", took)
					}
					time.Sleep(10 * time.Second)
				}
				r.store.SetFault(nil)
				time.Sleep(35 * time.Second)
				closeNow(t, w)
				wantReport(t, r, verify.Report{Files: 1, Batches: 91, Records: 91})
			})
		})
	}
}

// Each write of an entry fails in turn, applied or not. In the end all entries are right.
func TestEntrySurvivesFailedWrites(t *testing.T) {
	for nth := range 12 {
		for _, apply := range []bool{false, true} {
			t.Run(fmt.Sprintf("nth=%d apply=%v", nth, apply), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newHarness()
					n := 0
					r.store.SetFault(func(_ context.Context, op table.Op, _ table.Key) (bool, error) {
						if n++; n == nth+1 {
							return apply, errors.New("answer lost")
						}
						return true, nil
					})
					w := r.writer()
					for i := range 4 {
						appendLine(t, w, "begin", fmt.Sprint(i))
						time.Sleep(20 * time.Minute)
					}
					for i := range 4 {
						appendLine(t, w, "end", fmt.Sprint(i))
					}
					closeNow(t, w)
					r.store.SetFault(nil)
					if !w.Sync(t.Context()) {
						t.Error("an entry could not be written")
					}
					rows := r.files(t)
					for _, f := range rows {
						if f.State != manifest.Sealed {
							t.Errorf("entry %+v, want it sealed", f)
						}
					}
					wantReport(t, r, verify.Report{Files: 2, Batches: 9, Records: 8}) // the first batch of the second file lists what is in flight
				})
			})
		}
	}
}

func TestWriterLeavesTakenFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newHarness()
		w := r.writer()
		appendLine(t, w, "begin", "a")
		time.Sleep(5 * time.Second)
		f := r.files(t)[0]
		f.Owner, f.Until = "recovery", r.manifest.Now().Add(manifest.RecoveryClaim)
		if _, err := r.manifest.Replace(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		_ = r.blobs.Seal(t.Context(), f.Name)
		appendLine(t, w, "end", "a")
		time.Sleep(2 * time.Minute)
		closeNow(t, w)
		rows := r.files(t)
		if len(rows) != 2 || rows[0].Owner != "recovery" || rows[0].Length != f.Length || rows[1].State != manifest.Sealed {
			t.Errorf("entries %+v", rows)
		}
	})
}
