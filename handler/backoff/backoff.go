// Package backoff spaces the attempts of an operation that fails for the moment.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff is the sequence of pauses First, 2×First, 4×First … up to Max. It belongs to
// one goroutine; its zero sequence starts with First.
type Backoff struct {
	First, Max time.Duration

	next time.Duration
}

// Next returns the pause before the next attempt.
func (b *Backoff) Next() time.Duration {
	pause := min(max(b.next, b.First), b.Max)
	b.next = 2 * pause
	return pause
}

// Reset starts the sequence again, after a success.
func (b *Backoff) Reset() { b.next = 0 }

// Wait sleeps for the next pause. It reports false when ctx ended first.
func (b *Backoff) Wait(ctx context.Context) bool { return Sleep(ctx, b.Next()) }

// Sleep waits for d. It reports false when ctx ended first.
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

// Jitter returns a random duration between a half and one and a half of d, so that
// instances which failed together do not meet again.
func Jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return d/2 + rand.N(d) //nolint:gosec // a pause needs no secret randomness
}
