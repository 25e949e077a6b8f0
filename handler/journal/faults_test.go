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
)

// fault fails operation op whenever say returns true for its number, counted from 1.
type fault struct {
	op    blob.Op
	say   func(n int64) bool
	apply bool
	hang  bool
	err   error
	n     atomic.Int64
}

func (f *fault) hook(ctx context.Context, op blob.Op, _ string) (bool, error) {
	if op != f.op || !f.say(f.n.Add(1)) {
		return true, nil
	}
	if f.hang {
		<-ctx.Done()
		return f.apply, ctx.Err()
	}
	return f.apply, f.err
}

func TestAppendFaultsLoseNothing(t *testing.T) {
	broken := errors.New("connection reset")
	const groups = 6
	for _, op := range []blob.Op{blob.OpCreate, blob.OpAppend, blob.OpLength, blob.OpOpen} {
		for _, apply := range []bool{false, true} {
			for _, hang := range []bool{false, true} {
				for nth := range int64(groups + 1) {
					f := &fault{op: op, apply: apply, hang: hang, err: broken, say: func(n int64) bool {
						return n == nth || nth == 0 && n <= 12 // 0: a long run of failures
					}}
					t.Run(fmt.Sprintf("%s apply=%v hang=%v nth=%d", op, apply, hang, nth), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) { survives(t, f, groups) })
					})
				}
			}
		}
	}
}

func survives(t *testing.T, f *fault, groups int) {
	b := &blob.Mem{Fault: f.hook}
	if f.op == blob.OpLength || f.op == blob.OpOpen {
		lost := &fault{op: blob.OpAppend, apply: true, err: errors.New("answer lost"), say: func(n int64) bool { return n%2 == 0 }}
		b.Fault = func(ctx context.Context, op blob.Op, name string) (bool, error) {
			if apply, err := lost.hook(ctx, op, name); err != nil {
				return apply, err
			}
			return f.hook(ctx, op, name)
		}
	}
	w := journal.New(journal.Options{Blobs: b, MaxAppends: 4})
	pending := appendAll(t, w, groups, 150*time.Millisecond)
	wantDurable(t, pending)
	closeNow(t, w)
	b.Fault = nil
	wantRecords(t, b, lines(groups))
	if f.n.Load() == 0 {
		t.Errorf("%s was never tried", f.op)
	}
}

func TestWriterLeavesSealedFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &blob.Mem{}
		w := journal.New(journal.Options{Blobs: b})
		var pending []*journal.Pending
		for i := range 5 {
			if i == 3 {
				files, _ := b.List(t.Context(), "")
				if err := b.Seal(t.Context(), files[0].Name); err != nil {
					t.Fatal(err)
				}
			}
			p, _ := w.Append(line(i))
			pending = append(pending, p)
			time.Sleep(time.Second)
		}
		wantDurable(t, pending)
		closeNow(t, w)
		wantRecords(t, b, lines(5))
		wantFiles(t, b, []int{0, 0, 0, 1, 1})
	})
}

func TestSealedBatchNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &blob.Mem{}
		var appends int
		b.Fault = func(ctx context.Context, op blob.Op, name string) (bool, error) {
			if op == blob.OpAppend {
				if appends++; appends == 2 {
					return true, errors.New("answer lost")
				}
			}
			if op == blob.OpLength && appends == 2 {
				appends++
				return true, b.Seal(ctx, name)
			}
			return true, nil
		}
		w := journal.New(journal.Options{Blobs: b})
		wantDurable(t, appendAll(t, w, 4, time.Second))
		closeNow(t, w)
		wantRecords(t, b, lines(4))
		wantFiles(t, b, []int{0, 0, 1, 1})
	})
}

func TestLateAppendIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &blob.Mem{}
		var first atomic.Bool
		first.Store(true)
		b.Fault = func(ctx context.Context, op blob.Op, _ string) (bool, error) {
			if op == blob.OpAppend && first.CompareAndSwap(true, false) {
				<-ctx.Done() // the answer never comes, the bytes do
				return true, ctx.Err()
			}
			return true, nil
		}
		w := journal.New(journal.Options{Blobs: b, TryTimeout: 35 * time.Second})
		start := time.Now()
		pending := appendAll(t, w, 3, 10*time.Millisecond)
		wantDurable(t, pending)
		if took := time.Since(start); took < 35*time.Second || took > 36*time.Second {
			t.Errorf("durable after %v, want just over 35 s", took)
		}
		closeNow(t, w)
		wantRecords(t, b, lines(3))
	})
}

func TestForeignBytesNotTakenForOwn(t *testing.T) {
	for _, extra := range []int{1, 4000} { // shorter and longer than the batch
		t.Run(fmt.Sprint(extra), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &blob.Mem{}
				w := journal.New(journal.Options{Blobs: b})
				first, _ := w.Append(line(0))
				wantDurable(t, []*journal.Pending{first})
				files, _ := b.List(t.Context(), "")
				if err := b.Append(t.Context(), files[0].Name, files[0].Length, make([]byte, extra)); err != nil {
					t.Fatal(err)
				}
				second, _ := w.Append(line(1))
				wantDurable(t, []*journal.Pending{second})
				closeNow(t, w)
				var good []string
				batches, bad := journaltest.Read(t, b)
				for _, batch := range batches {
					for _, r := range batch.Records {
						good = append(good, string(r))
					}
				}
				if d := cmp.Diff(lines(2), good); d != "" || len(bad) != 1 {
					t.Errorf("want both records and one break, got breaks %v and (-want +got):\n%s", bad, d)
				}
			})
		})
	}
}

func TestCreateSurvivesLostAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lost := &fault{op: blob.OpCreate, apply: true, err: errors.New("answer lost"), say: func(n int64) bool { return n == 1 }}
		b := &blob.Mem{Fault: lost.hook}
		w := journal.New(journal.Options{Blobs: b})
		wantDurable(t, appendAll(t, w, 2, time.Second))
		closeNow(t, w)
		if files, _ := b.List(t.Context(), ""); len(files) != 1 {
			t.Errorf("%d files, want 1", len(files))
		}
	})
}

func TestWriterLeavesDeletedFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &blob.Mem{}
		gone := ""
		b.Fault = func(_ context.Context, op blob.Op, name string) (bool, error) {
			if name == gone && op != blob.OpList {
				return false, blob.ErrNotFound
			}
			return true, nil
		}
		w := journal.New(journal.Options{Blobs: b})
		wantDurable(t, appendAll(t, w, 1, time.Second))
		files, _ := b.List(t.Context(), "")
		gone = files[0].Name
		p, _ := w.Append(line(1))
		wantDurable(t, []*journal.Pending{p})
		closeNow(t, w)
		if files, _ = b.List(t.Context(), ""); len(files) != 2 {
			t.Errorf("%d files, want 2", len(files))
		}
	})
}
