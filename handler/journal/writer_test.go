package journal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"aoaigateway/handler/journal"
)

// line is a record that can be told from all others.
func line(i int) []byte { return fmt.Appendf(nil, `{"type":"end","n":%d}`, i) }

func lines(n int) (all []string) {
	for i := range n {
		all = append(all, string(line(i)))
	}
	return all
}

// appendAll appends n lines, each in its own group if apart is over the interval.
func appendAll(t *testing.T, w *journal.Writer, n int, apart time.Duration) (all []*journal.Pending) {
	t.Helper()
	for i := range n {
		p, err := w.Append(line(i))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
		time.Sleep(apart)
	}
	return all
}

// records reads everything back and fails on any break in framing or chain.
func records(t *testing.T, b journal.Blobs) (all []string) {
	t.Helper()
	for m, err := range journal.Read(context.Background(), b, "") {
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range m.Records {
			all = append(all, string(r))
		}
	}
	return all
}

func members(t *testing.T, b journal.Blobs) (all []journal.Member) {
	t.Helper()
	for m, err := range journal.Read(context.Background(), b, "") {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

func closeNow(t *testing.T, w *journal.Writer) {
	t.Helper()
	if err := w.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func wantRecords(t *testing.T, b journal.Blobs, want []string) {
	t.Helper()
	if d := cmp.Diff(want, records(t, b)); d != "" {
		t.Errorf("records (-want +got):\n%s", d)
	}
}

func wantDurable(t *testing.T, pending []*journal.Pending) {
	t.Helper()
	for i, p := range pending {
		if err := p.Wait(context.Background()); err != nil {
			t.Errorf("line %d: %v", i, err)
		}
	}
}

func TestLinesAreReadBackInOrderOverAzure(t *testing.T) {
	b := newAzure(t, "order")
	w := journal.New(journal.Options{Blobs: b, Interval: time.Millisecond, MaxAppends: 3})
	for i := range 40 {
		p, err := w.Append(line(i))
		if err != nil {
			t.Fatal(err)
		}
		if i%4 == 0 {
			wantDurable(t, []*journal.Pending{p})
		}
	}
	closeNow(t, w)
	wantRecords(t, b, lines(40))
	if files, _ := b.List(t.Context(), ""); len(files) < 3 {
		t.Errorf("%d files for at least 10 appends of at most 3 a file", len(files))
	}
}

func TestFirstLineIsCommittedAtOnceAndTheNextWithTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &journal.Mem{}
		w := journal.New(journal.Options{Blobs: b})
		defer closeNow(t, w)
		start := time.Now()
		wantDurable(t, appendAll(t, w, 1, 0))
		if took := time.Since(start); took != 0 {
			t.Errorf("first line took %v, want 0", took)
		}
		time.Sleep(30 * time.Millisecond)
		wantDurable(t, appendAll(t, w, 5, time.Millisecond))
		if took := time.Since(start); took != 100*time.Millisecond {
			t.Errorf("second group was durable after %v, want 100 ms", took)
		}
		time.Sleep(time.Second)
		idle := time.Now()
		wantDurable(t, appendAll(t, w, 1, 0))
		if took := time.Since(idle); took != 0 {
			t.Errorf("line after a pause took %v, want 0", took)
		}
		if n := len(members(t, b)); n != 3 {
			t.Errorf("%d members, want 3", n)
		}
	})
}

// fault fails operation op each time say wants it, counted from 1 over the run.
type fault struct {
	op    journal.Op
	say   func(n int64) bool
	apply bool
	hang  bool
	err   error
	n     atomic.Int64
}

func (f *fault) hook(ctx context.Context, op journal.Op, _ string) (bool, error) {
	if op != f.op || !f.say(f.n.Add(1)) {
		return true, nil
	}
	if f.hang {
		<-ctx.Done()
		return f.apply, ctx.Err()
	}
	return f.apply, f.err
}

func TestNoRecordIsLostOrDoubledWhateverFails(t *testing.T) {
	broken := errors.New("connection reset")
	const groups = 6
	for _, op := range []journal.Op{journal.OpCreate, journal.OpAppend, journal.OpLength, journal.OpOpen} {
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

// survives writes groups of one line while f fails; lengths are read only after a failed
// append, so those faults come with one.
func survives(t *testing.T, f *fault, groups int) {
	b := &journal.Mem{Fault: f.hook}
	if f.op == journal.OpLength || f.op == journal.OpOpen {
		lost := &fault{op: journal.OpAppend, apply: true, err: errors.New("answer lost"), say: func(n int64) bool { return n%2 == 0 }}
		b.Fault = func(ctx context.Context, op journal.Op, name string) (bool, error) {
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

func TestSealedFileIsLeftAndItsUndurableRecordsGoToTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &journal.Mem{}
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

func TestMemberThatLandedBeforeTheSealIsNotWrittenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &journal.Mem{}
		var appends int
		b.Fault = func(ctx context.Context, op journal.Op, name string) (bool, error) {
			if op == journal.OpAppend {
				if appends++; appends == 2 {
					return true, errors.New("answer lost")
				}
			}
			if op == journal.OpLength && appends == 2 {
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

func TestAppendThatLandsAfterItsTimeoutIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &journal.Mem{}
		var first atomic.Bool
		first.Store(true)
		b.Fault = func(ctx context.Context, op journal.Op, _ string) (bool, error) {
			if op == journal.OpAppend && first.CompareAndSwap(true, false) {
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

func TestForeignBytesAtThePositionAreNotTakenForOurs(t *testing.T) {
	for _, extra := range []int{1, 4000} { // shorter and longer than the member
		t.Run(fmt.Sprint(extra), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &journal.Mem{}
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
				var good, bad []string
				for m, err := range journal.Read(t.Context(), b, "") {
					if err != nil {
						bad = append(bad, err.Error())
					}
					for _, r := range m.Records {
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

func TestFileWhoseCreationWasNotAnsweredIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lost := &fault{op: journal.OpCreate, apply: true, err: errors.New("answer lost"), say: func(n int64) bool { return n == 1 }}
		b := &journal.Mem{Fault: lost.hook}
		w := journal.New(journal.Options{Blobs: b})
		wantDurable(t, appendAll(t, w, 2, time.Second))
		closeNow(t, w)
		if files, _ := b.List(t.Context(), ""); len(files) != 1 {
			t.Errorf("%d files, want 1", len(files))
		}
	})
}

func TestDeletedFileIsSucceeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &journal.Mem{}
		gone := ""
		b.Fault = func(_ context.Context, op journal.Op, name string) (bool, error) {
			if name == gone && op != journal.OpList {
				return false, journal.ErrNotFound
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

func TestBacklogIsBoundedAndEmptiesWhenStorageReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		down.Store(true)
		b := &journal.Mem{Fault: func(context.Context, journal.Op, string) (bool, error) {
			if down.Load() {
				return false, errors.New("storage is away")
			}
			return true, nil
		}}
		one := int64(len(line(0))) + 1
		w := journal.New(journal.Options{Blobs: b, MaxBacklog: 5 * one})
		pending := appendAll(t, w, 5, 0)
		if _, err := w.Append(line(5)); !errors.Is(err, journal.ErrFull) {
			t.Errorf("sixth line: %v, want ErrFull", err)
		}
		time.Sleep(time.Hour)
		for i, p := range pending {
			select {
			case <-p.Done():
				t.Errorf("line %d is reported durable while storage is away", i)
			default:
			}
		}
		down.Store(false)
		wantDurable(t, pending)
		if used, limit := w.Backlog(); used != 0 || limit != 5*one {
			t.Errorf("Backlog = %d of %d, want 0 of %d", used, limit, 5*one)
		}
		closeNow(t, w)
		wantRecords(t, b, lines(5))
	})
}

func TestFileIsRolledBeforeItsLastAppend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &journal.Mem{}
		w := journal.New(journal.Options{Blobs: b, MaxAppends: 2})
		appendAll(t, w, 5, time.Second)
		closeNow(t, w)
		wantFiles(t, b, []int{0, 0, 1, 1, 2})
		wantRecords(t, b, lines(5))
	})
}

func TestFileIsRolledByTheHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &journal.Mem{}
		w := journal.New(journal.Options{Blobs: b})
		start := time.Now().UTC()
		appendAll(t, w, 5, 25*time.Minute) // bubbles begin at midnight
		closeNow(t, w)
		wantFiles(t, b, []int{0, 0, 0, 1, 1})
		wantRecords(t, b, lines(5))
		ms := members(t, b)
		for i, hour := range map[int]time.Time{0: start, 4: start.Add(time.Hour)} {
			if !strings.HasPrefix(ms[i].Name, hour.Format("2006/01/02/15/")+w.Process()) {
				t.Errorf("member %d is in %s, want the file of %v", i, ms[i].Name, hour)
			}
		}
	})
}

func wantFiles(t *testing.T, b journal.Blobs, want []int) {
	t.Helper()
	var got []int
	for _, m := range members(t, b) {
		got = append(got, m.File)
	}
	if !slices.Equal(got, want) {
		t.Errorf("files of the members = %v, want %v", got, want)
	}
}

func TestGroupsLargerThanAnAppendAreSplit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &journal.Mem{}
		w := journal.New(journal.Options{Blobs: b})
		big := bytes.Repeat([]byte("x"), journal.MaxLine/3)
		start := time.Now()
		var pending []*journal.Pending
		for range 8 {
			p, err := w.Append(slices.Clone(big))
			if err != nil {
				t.Fatal(err)
			}
			pending = append(pending, p)
		}
		wantDurable(t, pending)
		if took := time.Since(start); took > 100*time.Millisecond {
			t.Errorf("took %v: full groups need not wait", took)
		}
		closeNow(t, w)
		if got := len(records(t, b)); got != 8 {
			t.Errorf("%d records, want 8", got)
		}
	})
}

func TestLongestLineFitsWhateverItsBytes(t *testing.T) {
	b := &journal.Mem{}
	w := journal.New(journal.Options{Blobs: b})
	longest := noise(journal.MaxLine - 1)
	p, err := w.Append(longest)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Append(noise(journal.MaxLine)); !errors.Is(err, journal.ErrTooLong) {
		t.Errorf("a byte more: %v, want ErrTooLong", err)
	}
	wantDurable(t, []*journal.Pending{p})
	closeNow(t, w)
	if got := records(t, b); len(got) != 1 || got[0] != string(longest) {
		t.Error("the longest line was not read back")
	}
}

func TestCloseFlushesWithoutWaitingForTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &journal.Mem{}
		w := journal.New(journal.Options{Blobs: b, Interval: time.Hour})
		start := time.Now()
		pending := appendAll(t, w, 20, time.Millisecond)
		closeNow(t, w)
		wantDurable(t, pending)
		if took := time.Since(start); took > time.Second {
			t.Errorf("Close took %v", took)
		}
		wantRecords(t, b, lines(20))
		if _, err := w.Append(line(0)); !errors.Is(err, journal.ErrClosed) {
			t.Errorf("Append after Close: %v, want ErrClosed", err)
		}
	})
}

func TestCloseGivesUpWithItsContextAndSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &journal.Mem{Fault: func(ctx context.Context, op journal.Op, _ string) (bool, error) {
			if op == journal.OpAppend {
				<-ctx.Done()
				return false, ctx.Err()
			}
			return true, nil
		}}
		w := journal.New(journal.Options{Blobs: b})
		pending := appendAll(t, w, 1, 0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close = %v, want context.DeadlineExceeded", err)
		}
		if err := pending[0].Wait(context.Background()); !errors.Is(err, journal.ErrClosed) {
			t.Errorf("Wait = %v, want ErrClosed", err)
		}
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &journal.Mem{Fault: func(context.Context, journal.Op, string) (bool, error) { return false, errors.New("away") }}
		w := journal.New(journal.Options{Blobs: b})
		pending := appendAll(t, w, 1, 0)
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		if err := pending[0].Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Wait = %v, want context.DeadlineExceeded", err)
		}
		_ = w.Close(ctx)
	})
}
