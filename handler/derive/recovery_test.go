package derive_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal/manifest"
	"aoaigateway/handler/table"
)

// in runs f in a bubble over fresh stores.
func in(t *testing.T, f func(*harness)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(newHarness(t)) })
}

func TestRunDerivesWithinTenSeconds(t *testing.T) {
	in(t, func(w *harness) {
		p := w.start(&life{})
		p.begin("a")
		p.finish("a")
		time.Sleep(10 * time.Second)
		if got := p.sink.got(); got["a"][gateway.End] != 1 || len(got) != 1 {
			t.Errorf("after 10 s the sink has %v", got)
		}
		e := p.sink.fresh[0]
		if string(e.Request.JSON) != prompt || e.Chain == "" || e.Outcome != gateway.Complete {
			t.Errorf("entry %+v is not complete in itself", e)
		}
		time.Sleep(2 * time.Minute)
		if f := w.files()[0]; f.State != manifest.Done || f.Processed != f.Length {
			t.Errorf("entry of an idle process's file: %+v, want it done", f)
		}
		p.begin("b")
		p.finish("b")
		p.end()
		for _, f := range w.files() {
			if f.State != manifest.Done {
				t.Errorf("after a stop in good order: %+v", f)
			}
		}
		w.wantSound()
	})
}

func TestRecoverDeadProcess(t *testing.T) {
	in(t, func(w *harness) {
		p := w.start(&life{})
		p.begin("ended")
		p.begin("open")
		p.finish("ended")
		p.life.kill()
		q := w.start(&life{})
		time.Sleep(time.Minute)
		if line := q.recoverFiles(); !strings.HasPrefix(line, "files recovered: 0,") {
			t.Errorf("a minute after the death: %s", line)
		}
		time.Sleep(90 * time.Second)
		if line := q.recoverFiles(); line != "files recovered: 1, files added to the manifest: 0, incomplete requests recorded: 1" {
			t.Errorf("after 2.5 minutes: %s", line)
		}
		time.Sleep(10 * time.Second)
		got := q.sink.got()
		if got["ended"][gateway.End] != 1 || got["open"][gateway.Incomplete] != 1 || len(got) != 2 {
			t.Errorf("sink has %v", got)
		}
		for _, e := range q.sink.fresh {
			if string(e.Request.JSON) != prompt {
				t.Errorf("%s of %s has lost its prompt", e.Type, e.ID)
			}
		}
		for _, f := range w.files() {
			if f.Process != p.writer.Process() {
				continue
			}
			if _, sealed, _ := w.blobs.Length(t.Context(), f.Name); !sealed || f.State != manifest.Done {
				t.Errorf("entry of the dead process %+v, its blob sealed: %v", f, sealed)
			}
		}
		if line := q.recoverFiles(); line != "files recovered: 0, files added to the manifest: 0, incomplete requests recorded: 0" {
			t.Errorf("the next recovery: %s", line)
		}
		w.wantSound()
		p.end()
		q.end()
	})
}

// A process is stopped while an answer waits for its end record, counts as dead, and continues.
func TestRecoverStoppedProcess(t *testing.T) {
	in(t, func(w *harness) {
		p := w.start(&life{})
		p.begin("held")
		time.Sleep(5 * time.Second)
		p.life.stop()
		pending, _ := p.writer.AppendEnd("held", endLine("held"))
		time.Sleep(3 * time.Minute)
		q := w.start(&life{})
		if line := q.recoverFiles(); line != "files recovered: 1, files added to the manifest: 0, incomplete requests recorded: 1" {
			t.Errorf("recovery: %s", line)
		}
		p.life.cont()
		if !durable(pending) {
			t.Fatal("the held end never became durable")
		}
		time.Sleep(10 * time.Second)
		if got := q.sink.got()["held"]; got[gateway.Incomplete] != 1 || got[gateway.End] != 0 {
			t.Errorf("the recovering process derived %v", got)
		}
		if got := p.sink.got()["held"]; got[gateway.End] != 1 {
			t.Errorf("the process that came back derived %v", got)
		}
		if e := p.sink.fresh[len(p.sink.fresh)-1]; string(e.Request.JSON) != prompt {
			t.Errorf("its end has no prompt: %+v", e)
		}
		files := map[string]int{}
		for _, f := range w.files() {
			files[f.Process]++
		}
		if files[p.writer.Process()] != 2 {
			t.Errorf("files %v, want a second one for the end", files)
		}
		p.end()
		q.end()
		if r := w.wantSound(); r.BeyondCheckpoint != 0 {
			t.Errorf("%d batches beyond the checkpoint", r.BeyondCheckpoint)
		}
	})
}

func TestRecoverReplaysOldEntries(t *testing.T) {
	in(t, func(w *harness) {
		p := w.start(&life{})
		for n := range 3 {
			p.begin(fmt.Sprint(n))
			p.finish(fmt.Sprint(n))
		}
		time.Sleep(10 * time.Second)
		p.begin("late")
		p.finish("late")
		p.life.kill()
		p.end()
		time.Sleep(3 * time.Minute)
		q := w.start(&life{})
		defer q.end()
		q.recoverFiles()
		if len(q.sink.replay) != 3 || len(q.sink.fresh) != 1 || q.sink.fresh[0].ID != "late" || len(q.sink.closed) != 1 {
			t.Errorf("replayed %d, fresh %d, closed %v", len(q.sink.replay), len(q.sink.fresh), q.sink.closed)
		}
	})
}

func TestEndFindsBeginInEarlierFile(t *testing.T) {
	in(t, func(w *harness) {
		p := w.start(&life{})
		p.begin("long")
		time.Sleep(90 * time.Minute)
		p.begin("other")
		time.Sleep(20 * time.Second) // the first file is derived and done
		p.finish("long")
		p.life.kill()
		p.end()
		time.Sleep(3 * time.Minute)
		q := w.start(&life{})
		defer q.end()
		q.recoverFiles()
		if len(q.sink.fresh) != 1 || q.sink.fresh[0].ID != "long" || string(q.sink.fresh[0].Request.JSON) != prompt {
			t.Errorf("derived %+v", q.sink.fresh)
		}
	})
}

func TestAmendIsWholeEnd(t *testing.T) {
	in(t, func(w *harness) {
		p := w.start(&life{})
		defer p.end()
		p.begin("a")
		p.finish("a")
		time.Sleep(10 * time.Second)
		if _, err := p.writer.Append([]byte(`{"type":"amend","id":"a","outcome":"not-durable"}`)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		p.sink.mu.Lock()
		defer p.sink.mu.Unlock()
		last := p.sink.fresh[len(p.sink.fresh)-1]
		if last.Type != gateway.Amend || last.Outcome != gateway.NotDurable || last.Request == nil || string(last.Request.JSON) != prompt {
			t.Errorf("entry %+v", last)
		}
	})
}

func TestRecoverAdoptsFile(t *testing.T) {
	in(t, func(w *harness) {
		w.store.SetFault(func(context.Context, table.Op, table.Key) (bool, error) { return false, errDead })
		p := w.start(&life{})
		p.begin("a")
		p.finish("a")
		p.life.kill()
		p.end()
		w.store.SetFault(nil)
		q := w.start(&life{})
		defer q.end()
		if line := q.recoverFiles(); line != "files recovered: 0, files added to the manifest: 1, incomplete requests recorded: 0" {
			t.Errorf("first recovery: %s", line)
		}
		time.Sleep(3 * time.Minute)
		q.recoverFiles()
		if got := q.sink.got(); got["a"][gateway.End] != 1 {
			t.Errorf("derived %v", got)
		}
		if r := w.wantSound(); r.BeyondCheckpoint != 2 {
			t.Errorf("%d batches beyond the checkpoint, want the adopted file's 2", r.BeyondCheckpoint)
		}
	})
}

func TestWriterClaimsAdoptedFile(t *testing.T) {
	in(t, func(w *harness) {
		w.store.SetFault(func(_ context.Context, op table.Op, _ table.Key) (bool, error) {
			return false, map[bool]error{true: errDead}[op == table.OpInsert]
		})
		p := w.start(&life{})
		p.begin("a")
		w.store.SetFault(nil)
		q := w.start(&life{})
		q.recoverFiles()
		time.Sleep(5 * time.Minute)
		q.recoverFiles()
		p.finish("a")
		p.end()
		q.end()
		if n := len(w.files()); n != 1 {
			t.Errorf("%d files, want the one", n)
		}
		w.wantSound()
	})
}

// A slow or failing consumer delays neither the other consumers nor, for good, the files.
func TestFailingConsumerDelaysNoOther(t *testing.T) {
	in(t, func(w *harness) {
		p := w.start(&life{})
		p.sink.err = errDead
		p.begin("a")
		p.finish("a")
		time.Sleep(3 * time.Minute)
		if f := w.files()[0]; f.State == manifest.Done || f.Processed != 0 {
			t.Errorf("entry %+v while its consumer fails", f)
		}
		p.sink.mu.Lock()
		p.sink.err = nil
		p.sink.mu.Unlock()
		time.Sleep(10 * time.Second)
		if f := w.files()[0]; f.State != manifest.Done || p.sink.got()["a"][gateway.End] != 1 {
			t.Errorf("entry %+v, derived %v", f, p.sink.got())
		}
		p.end()
	})
}

func TestRecoverSettlesOldDays(t *testing.T) {
	in(t, func(w *harness) {
		p := w.start(&life{})
		p.begin("a")
		p.finish("a")
		p.end()
		time.Sleep(72 * time.Hour)
		q := w.start(&life{})
		defer q.end()
		q.recoverFiles()
		days, err := w.manifest().Days(t.Context())
		if err != nil || len(days) != 1 || !days[0].Settled {
			t.Errorf("days %+v, %v", days, err)
		}
	})
}

// A file that a newer program wrote is left to it; the others are recovered.
func TestRecoverLeavesNewerFiles(t *testing.T) {
	in(t, func(w *harness) {
		p := w.start(&life{})
		p.begin("a")
		p.life.kill()
		p.end()
		newer, err := w.store.Get(t.Context(), table.Key{Partition: "days", Row: time.Now().UTC().Format("2006-01-02")})
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.store.Insert(t.Context(), table.Entity{
			Key:   table.Key{Partition: newer.Row, Row: "00-ffff-000000"},
			Props: map[string]any{"version": int64(2), "state": "open", "owner": "ffff", "until": time.Now()},
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(150 * time.Second)
		q := w.start(&life{})
		if line := q.recoverFiles(); line != "files recovered: 1, files added to the manifest: 0, incomplete requests recorded: 1" {
			t.Errorf("recovery: %s", line)
		}
		q.end()
	})
}
