package idle_test

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"aoaigateway/handler/idle"
)

// slow yields one byte after each pause, until its context ends.
type slow struct {
	ctx   context.Context //nolint:containedctx // stands in for the body of a request
	pause time.Duration
}

func (s *slow) Read(p []byte) (int, error) {
	select {
	case <-time.After(s.pause):
		return copy(p, "x"), nil
	case <-s.ctx.Done():
		return 0, context.Cause(s.ctx)
	}
}

func (s *slow) Close() error { return nil }

func TestReaderLimitsOneRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		src := &slow{ctx, 9 * time.Second}
		r := idle.NewReader(src)
		one := make([]byte, 1)
		src.pause = time.Minute
		if _, err := r.Read(one); err != nil {
			t.Fatalf("a read before SetLimit: %v", err)
		}
		r.SetLimit(10*time.Second, func() { cancel(io.ErrNoProgress) })
		src.pause = 9 * time.Second
		for range 3 {
			if _, err := r.Read(one); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour) // between two reads
		}
		src.pause = 11 * time.Second
		start := time.Now()
		if _, err := r.Read(one); err != io.ErrNoProgress || time.Since(start) != 10*time.Second { //nolint:errorlint // the cause itself
			t.Errorf("a read over the limit: %v after %v", err, time.Since(start))
		}
	})
}

func TestDeadlineMovesWithProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var set []time.Time
		d := idle.NewDeadline(8*time.Second, func(at time.Time) error { set = append(set, at); return nil })
		start := time.Now()
		for range 5 {
			d.Extend()
			time.Sleep(600 * time.Millisecond)
		}
		want := []time.Duration{8 * time.Second, 9200 * time.Millisecond, 10400 * time.Millisecond}
		if len(set) != len(want) {
			t.Fatalf("set %d times, want %d", len(set), len(want))
		}
		for i, w := range want {
			if got := set[i].Sub(start); got != w {
				t.Errorf("deadline %d is %v after the start, want %v", i, got, w)
			}
		}
		d.Clear()
		d.Extend()
		if !set[3].IsZero() || set[4].Sub(start) != 11*time.Second {
			t.Errorf("after Clear %v, then %v", set[3], set[4].Sub(start))
		}
	})
}
