package backoff_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"aoaigateway/handler/backoff"
)

func TestBackoffDoublesUpToMax(t *testing.T) {
	b := backoff.Backoff{First: 50 * time.Millisecond, Max: 300 * time.Millisecond}
	for _, want := range []time.Duration{50, 100, 200, 300, 300} {
		if got := b.Next(); got != want*time.Millisecond {
			t.Errorf("%v, want %v", got, want*time.Millisecond)
		}
	}
	b.Reset()
	if got := b.Next(); got != b.First {
		t.Errorf("after Reset %v, want %v", got, b.First)
	}
}

func TestWaitEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		b := backoff.Backoff{First: 2 * time.Second, Max: time.Minute}
		start := time.Now()
		if !b.Wait(ctx) || time.Since(start) != 2*time.Second {
			t.Errorf("the first pause ended after %v", time.Since(start))
		}
		if b.Wait(ctx) || time.Since(start) != 5*time.Second {
			t.Errorf("the pause that the context ended took until %v", time.Since(start))
		}
	})
}

func TestJitterStaysAroundPause(t *testing.T) {
	for range 1000 {
		if got := backoff.Jitter(time.Second); got < time.Second/2 || got >= 3*time.Second/2 {
			t.Fatalf("%v", got)
		}
	}
	if got := backoff.Jitter(0); got != 0 {
		t.Errorf("no pause became %v", got)
	}
}
