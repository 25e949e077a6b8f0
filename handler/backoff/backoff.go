// Package backoff makes pauses between the tries of an operation that fails temporarily.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff is the sequence of pauses First, 2×First, 4×First … up to Max. Only one goroutine
// may use it. With zero fields the pauses are zero.
type Backoff struct {
	First, Max time.Duration

	next time.Duration
}

// Next returns the pause before the next try.
func (b *Backoff) Next() time.Duration {
	pause := min(max(b.next, b.First), b.Max)
	b.next = 2 * pause
	return pause
}

// Reset starts the sequence again. It is called after a success.
func (b *Backoff) Reset() { b.next = 0 }

// Wait sleeps for the next pause. It returns false if ctx ended first.
func (b *Backoff) Wait(ctx context.Context) bool { return Sleep(ctx, b.Next()) }

// Sleep waits for the time d. It returns false if ctx ended first.
func Sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// Jitter returns a random time from half of d to one and a half times d, so that instances
// that failed at the same moment do not retry at the same moment.
func Jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return d/2 + rand.N(d) //nolint:gosec // a pause need not be unpredictable
}
