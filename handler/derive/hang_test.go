package derive_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"aoaigateway/handler/blob"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/table"
)

// An append hangs; its bytes land late, or never; the process is killed while it hangs,
// just after, or much later. An end that was reported as durable is derived.
func TestDurableEndIsDerived(t *testing.T) {
	for _, hang := range []time.Duration{1900 * time.Millisecond, 2100 * time.Millisecond, 35 * time.Second} {
		for _, lands := range []bool{false, true} {
			for _, kill := range []time.Duration{time.Second, 2 * time.Second, 12 * time.Second, 34 * time.Second, time.Minute} {
				t.Run(fmt.Sprintf("hang=%v lands=%v kill=%v", hang, lands, kill), func(t *testing.T) {
					in(t, func(w *harness) { hung(w, hang, lands, kill) })
				})
			}
		}
	}
}

func hung(w *harness, hang time.Duration, lands bool, kill time.Duration) {
	var appends atomic.Int32
	w.blobs.Fault = func(ctx context.Context, op blob.Op, _ string) (bool, error) {
		if op != blob.OpAppend || appends.Add(1) != 2 {
			return true, nil
		}
		select { // the answer is lost, the bytes are still on their way
		case <-time.After(hang):
		case <-ctx.Done():
			if lands {
				time.Sleep(hang - 10*time.Second)
			}
		}
		return lands, errors.New("connection reset")
	}
	p := w.start(&life{})
	p.begin("a")
	time.AfterFunc(kill, p.life.kill)
	whole := p.finish("a")
	time.Sleep(2 * time.Minute)
	p.end()
	w.blobs.Fault = nil
	q := w.start(&life{})
	time.Sleep(3 * time.Minute)
	q.recoverFiles()
	time.Sleep(10 * time.Second)
	q.end()
	w.wantSound()
	ends := p.sink.got()["a"][gateway.End] + q.sink.got()["a"][gateway.End]
	cut := q.sink.got()["a"][gateway.Incomplete]
	if whole && ends == 0 || ends == 0 && cut == 0 || ends > 0 && cut > 0 {
		w.t.Errorf("durable: %v, derived %d ends and %d incomplete", whole, ends, cut)
	}
}

// Both stores fail, for a moment and for long. Everything that was durable before and after is derived, and the
// checkpoints cover all of it.
func TestOutageLosesNothing(t *testing.T) {
	for _, long := range []time.Duration{5 * time.Second, 10 * time.Minute} {
		t.Run(fmt.Sprint(long), func(t *testing.T) {
			in(t, func(w *harness) {
				away := w.canBeAway()
				p := w.start(&life{})
				p.begin("before")
				away.Store(true)
				pending, err := p.writer.AppendEnd("before", endLine("before"))
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(long)
				away.Store(false)
				if !durable(pending) {
					t.Fatal("not durable after storage came back")
				}
				p.begin("after")
				p.finish("after")
				time.Sleep(40 * time.Second)
				got := p.sink.got()
				if got["before"][gateway.End] != 1 || got["after"][gateway.End] != 1 {
					t.Errorf("derived %v", got)
				}
				p.end()
				if r := w.wantSound(); r.BeyondCheckpoint != 0 {
					t.Errorf("%d batches beyond the checkpoint", r.BeyondCheckpoint)
				}
			})
		})
	}
}

// canBeAway makes every operation on both stores fail while away is set. Call it first.
func (w *harness) canBeAway() (away *atomic.Bool) {
	gone := errors.New("storage is away")
	away = &atomic.Bool{}
	fail := func() (bool, error) {
		if away.Load() {
			return false, gone
		}
		return true, nil
	}
	w.blobs.Fault = func(context.Context, blob.Op, string) (bool, error) { return fail() }
	w.store.SetFault(func(context.Context, table.Op, table.Key) (bool, error) { return fail() })
	return away
}

// At 200 requests a second on one instance, begin and end apart, the log and its rows cost
// few operations; the budget is 60 on blobs and, with the limits' own, 40 on tables.
func TestOperationsPerThousandRequests(t *testing.T) {
	in(t, func(w *harness) {
		var blobs, tables atomic.Int64
		w.blobs.Fault = func(context.Context, blob.Op, string) (bool, error) { blobs.Add(1); return true, nil }
		w.store.SetFault(func(context.Context, table.Op, table.Key) (bool, error) { tables.Add(1); return true, nil })
		p := w.start(&life{})
		const requests = 12_000
		for n := range requests {
			id := fmt.Sprint(n)
			if _, err := p.writer.AppendBegin(id, beginLine(id)); err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(3*time.Second, func() { p.finish(id) })
			time.Sleep(5 * time.Millisecond)
		}
		b, s := float64(blobs.Load())*1000/requests, float64(tables.Load())*1000/requests
		t.Logf("%.1f blob operations and %.1f table operations a thousand requests", b, s)
		if b > 58 || s > 20 {
			t.Errorf("%.1f blob operations and %.1f table operations a thousand requests", b, s)
		}
		time.Sleep(20 * time.Second)
		p.end()
		if n := len(p.sink.got()); n != requests {
			t.Errorf("%d of %d ends were derived", n, requests)
		}
	})
}
