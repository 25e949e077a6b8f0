package audit_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"aoaigateway/handler/audit"
	"aoaigateway/handler/blob"
	"aoaigateway/handler/body/bodytest"
	"aoaigateway/handler/gateway"
)

func away(on *atomic.Bool, hang bool) hook {
	return func(ctx context.Context, _ blob.Op, _ string) (bool, error) {
		if !on.Load() {
			return true, nil
		}
		if hang {
			<-ctx.Done()
			return false, ctx.Err()
		}
		return false, errors.New("storage is away")
	}
}

func TestEndFailsWhenNotDurable(t *testing.T) {
	for name, hang := range map[string]bool{"failing": false, "hanging": true} {
		for _, where := range []string{"journal", "request body", "response body"} {
			t.Run(name+" "+where, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { endIsNotDurable(t, where, hang) })
			})
		}
	}
}

func endIsNotDurable(t *testing.T, where string, hang bool) {
	t.Helper()
	var down atomic.Bool
	down.Store(true)
	jf, bf := hook(nil), away(&down, hang)
	request, response := []byte(question), []byte(answer)
	switch where {
	case "journal":
		jf, bf = bf, nil
	case "request body":
		request = make([]byte, 2<<20)
	case "response body":
		response = make([]byte, 2<<20)
	}
	r := newHarness(t, audit.Options{}, jf, bf)
	rec := record("r1")
	start := time.Now()
	wantUnavailable(t, exchange(t, r.Log, rec, request, response))
	if took := time.Since(start); took > 31*time.Second {
		t.Errorf("took %v", took) // one Wait for a blocked Write, one for End
	}
	if rec.Outcome != gateway.NotDurable {
		t.Errorf("outcome %q, want not-durable", rec.Outcome)
	}
	down.Store(false)
	time.Sleep(10 * time.Second)
	r.close()
	outcome := gateway.Outcome("")
	for _, l := range r.lines(t) {
		if l.Type != gateway.Begin {
			outcome = l.Outcome
		}
	}
	if outcome != gateway.NotDurable {
		t.Errorf("the last outcome in the journal is %q, want not-durable", outcome)
	}
	if n := blobCount(t, r.bodies); n != 0 {
		t.Errorf("%d blobs of bodies whose upload failed", n)
	}
}

func TestRelaxedLogReleasesAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		down.Store(true)
		r := newHarness(t, audit.Options{Relaxed: true}, away(&down, false), away(&down, true))
		rec := record("r1")
		x := r.Exchange(rec)
		x.Request("", bodytest.Of(make([]byte, 2<<20)))
		if err := x.BeginDurable(t.Context()); err != nil {
			t.Errorf("BeginDurable: %v", err)
		}
		c := x.Response("")
		for range 3 {
			if n, err := c.Write(make([]byte, 1<<20)); n != 1<<20 || err != nil {
				t.Errorf("Write = %d, %v", n, err)
			}
		}
		if err := x.End(t.Context()); err != nil {
			t.Errorf("End: %v", err)
		}
		if rec.Outcome != gateway.Complete {
			t.Errorf("outcome %q, want complete", rec.Outcome)
		}
		down.Store(false)
		time.Sleep(10 * time.Second)
		r.close()
		ls := r.lines(t)
		if len(ls) != 1 || !ls[0].Relaxed || ls[0].Response.Size != 3<<20 || ls[0].Response.Blob != "" || ls[0].Request.Blob != "" {
			t.Errorf("lines: %+v", ls)
		}
	})
}

func TestEndOutlivesClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func(context.Context, blob.Op, string) (bool, error) {
			time.Sleep(4 * time.Second)
			return true, nil
		}
		r := newHarness(t, audit.Options{}, slow, nil)
		ctx, cancel := context.WithCancel(t.Context())
		x := r.Exchange(record("r1"))
		cancel()
		if err := x.BeginDurable(ctx); gateway.KindOf(err) != gateway.ClientGone {
			t.Errorf("BeginDurable = %v, want ClientGone", err)
		}
		if err := x.End(ctx); err != nil {
			t.Errorf("End = %v", err)
		}
		r.close()
		if n := len(r.lines(t)); n != 2 {
			t.Errorf("%d lines, want 2", n)
		}
	})
}

func TestFullBacklogRefusesBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		down.Store(true)
		r := newHarness(t, audit.Options{}, away(&down, false), nil)
		content := []byte(`"` + strings.Repeat("x", 1<<20-2) + `"`)
		var open []*audit.Exchange
		for {
			x := r.Exchange(record("r"))
			x.Request("", bodytest.Of(content))
			if err := x.Begin(); err != nil {
				wantUnavailable(t, err)
				break
			}
			open = append(open, x)
		}
		if len(open) != 4 {
			t.Errorf("%d begins of 1 MiB in half of 8 MiB", len(open))
		}
		wantUnavailable(t, r.Exchange(record("r")).MayBegin()) // before the body is read
		time.AfterFunc(10*time.Second, func() { down.Store(false) })
		for _, x := range open {
			_, _ = x.Response("").Write(content)
			if err := x.End(t.Context()); err != nil {
				t.Errorf("End: %v", err)
			}
		}
		r.close()
	})
}

func TestKillAfterBodyLeavesOrphan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dead atomic.Bool
		r := newHarness(t, audit.Options{}, away(&dead, true), func(_ context.Context, op blob.Op, _ string) (bool, error) {
			if op == blob.OpPut {
				dead.Store(true) // the body is the last write that is applied
			}
			return true, nil
		})
		x := r.Exchange(record("r1"))
		x.Request("", bodytest.Of(make([]byte, 2<<20)))
		_ = x.Begin()
		synctest.Wait()
		r.close()
		if n := blobCount(t, r.bodies); n != 1 {
			t.Errorf("%d blobs, want the orphan", n)
		}
		if ls := r.lines(t); len(ls) != 0 {
			t.Errorf("lines: %+v", ls)
		}
	})
}

func TestJournalFaultsAreNotSilent(t *testing.T) {
	for _, op := range []blob.Op{blob.OpCreate, blob.OpAppend} {
		for _, apply := range []bool{false, true} {
			for _, hang := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					var n atomic.Int64
					fault := func(ctx context.Context, o blob.Op, _ string) (bool, error) {
						if o != op || n.Add(1)%2 == 0 {
							return true, nil
						}
						if hang {
							<-ctx.Done()
							return apply, ctx.Err()
						}
						return apply, errors.New("reset")
					}
					r := newHarness(t, audit.Options{}, fault, nil)
					withheld := 0
					for i := range 5 {
						err := exchange(t, r.Log, record(string(rune('a'+i))), []byte(question), []byte(answer))
						if err != nil {
							wantUnavailable(t, err)
							withheld++
						}
						time.Sleep(time.Minute)
					}
					r.close()
					if withheld > 0 && !hang {
						t.Errorf("%s apply=%v: %d answers withheld for a reset", op, apply, withheld)
					}
					count := map[gateway.LineType]int{}
					for _, l := range r.lines(t) {
						count[l.Type]++
					}
					if count[gateway.Begin] != 5 || count[gateway.End] != 5 || count[gateway.Amend] != withheld {
						t.Errorf("%s apply=%v hang=%v: %v, want 5 begins, 5 ends, %d amends", op, apply, hang, count, withheld)
					}
				})
			}
		}
	}
}
