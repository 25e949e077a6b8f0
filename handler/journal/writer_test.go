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

	"aoaigateway/handler/blob"
	"aoaigateway/handler/journal"
	"aoaigateway/handler/journal/journaltest"
)

// line returns a record that differs from all others.
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
func records(t *testing.T, b blob.Store) (all []string) {
	t.Helper()
	for _, raw := range journaltest.Records(t, b) {
		all = append(all, string(raw))
	}
	return all
}

func closeNow(t *testing.T, w *journal.Writer) {
	t.Helper()
	if err := w.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func wantRecords(t *testing.T, b blob.Store, want []string) {
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

func TestWriterKeepsOrderOverAzure(t *testing.T) {
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

// A begin record nobody waits for shares the append of its end, or goes alone after an
// interval when the end takes longer.
func TestWriterGathersForAnInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &blob.Mem{}
		w := journal.New(journal.Options{Blobs: b})
		defer closeNow(t, w)
		start := time.Now()
		begin := appendAll(t, w, 1, 30*time.Millisecond)
		wantDurable(t, appendAll(t, w, 1, 0))
		wantDurable(t, begin)
		if took := time.Since(start); took != 30*time.Millisecond || len(journaltest.Batches(t, b)) != 1 {
			t.Errorf("durable after %v in %d batches, want 30 ms and 1", took, len(journaltest.Batches(t, b)))
		}
		time.Sleep(time.Second)
		start = time.Now()
		alone := appendAll(t, w, 1, 0)
		<-alone[0].Done()
		if took := time.Since(start); took != 100*time.Millisecond {
			t.Errorf("the lone line was durable after %v, want 100 ms", took)
		}
	})
}

func TestWriterCommitsAwaitedLineAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &blob.Mem{}
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
		if n := len(journaltest.Batches(t, b)); n != 3 {
			t.Errorf("%d batches, want 3", n)
		}
	})
}

// survives writes groups of one line while f fails; lengths are read only after a failed
// append, so those faults come with one.
func TestBacklogIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		down.Store(true)
		b := &blob.Mem{Fault: func(context.Context, blob.Op, string) (bool, error) {
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
				t.Errorf("line %d is reported as durable during an outage", i)
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

func TestFileRollsAtMaxAppends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &blob.Mem{}
		w := journal.New(journal.Options{Blobs: b, MaxAppends: 2})
		appendAll(t, w, 5, time.Second)
		closeNow(t, w)
		wantFiles(t, b, []int{0, 0, 1, 1, 2})
		wantRecords(t, b, lines(5))
	})
}

func TestFileRollsByTheHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &blob.Mem{}
		w := journal.New(journal.Options{Blobs: b})
		start := time.Now().UTC()
		appendAll(t, w, 5, 25*time.Minute) // bubbles begin at midnight
		closeNow(t, w)
		wantFiles(t, b, []int{0, 0, 0, 1, 1})
		wantRecords(t, b, lines(5))
		ms := journaltest.Batches(t, b)
		for i, hour := range map[int]time.Time{0: start, 4: start.Add(time.Hour)} {
			if !strings.HasPrefix(ms[i].Name, hour.Format("2006/01/02/15/")+w.Process()) {
				t.Errorf("batch %d is in %s, want the file of %v", i, ms[i].Name, hour)
			}
		}
	})
}

func wantFiles(t *testing.T, b blob.Store, want []int) {
	t.Helper()
	var got []int
	for _, m := range journaltest.Batches(t, b) {
		got = append(got, m.File)
	}
	if !slices.Equal(got, want) {
		t.Errorf("files of the batches = %v, want %v", got, want)
	}
}

func TestWriterSplitsLargeGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &blob.Mem{}
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
		if took := time.Since(start); took > 200*time.Millisecond { // the first line alone, what fills groups, the rest
			t.Errorf("took %v: full groups need not wait", took)
		}
		closeNow(t, w)
		if got := len(records(t, b)); got != 8 {
			t.Errorf("%d records, want 8", got)
		}
	})
}

func TestLongestLineFitsOneAppend(t *testing.T) {
	b := &blob.Mem{}
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

func TestCloseFlushesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &blob.Mem{}
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

func TestCloseEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &blob.Mem{Fault: func(ctx context.Context, op blob.Op, _ string) (bool, error) {
			if op == blob.OpAppend {
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

func TestWaitEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &blob.Mem{Fault: func(context.Context, blob.Op, string) (bool, error) { return false, errors.New("away") }}
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
