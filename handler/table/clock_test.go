package table

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A store d ahead of us answers with dates cut to the second: what is learnt from any run
// of answers is within a second and a round trip of d, and never jumps while d stays.
func TestOffsetStaysWithinAnswers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ahead := time.Duration(rapid.Int64Range(-3e12, 3e12).Draw(t, "ahead"))
		c, now := newClock(), time.Unix(1_800_000_000, 0)
		var slowest time.Duration
		for range rapid.IntRange(1, 20).Draw(t, "answers") {
			now = now.Add(time.Duration(rapid.Int64Range(0, 9e9).Draw(t, "pause")))
			there := time.Duration(rapid.Int64Range(0, 2e9).Draw(t, "there"))
			back := time.Duration(rapid.Int64Range(0, 2e9).Draw(t, "back"))
			slowest = max(slowest, there+back)
			c.note(now.Add(there+ahead).Truncate(time.Second), now, now.Add(there+back))
			now = now.Add(there + back)
			if off := (c.get() - ahead).Abs(); off > time.Second+slowest {
				t.Fatalf("offset %v, truth %v: %v apart", c.get(), ahead, off)
			}
		}
	})
}

// The offset follows a step of the store's clock.
func TestOffsetFollowsStep(t *testing.T) {
	c, now := newClock(), time.Unix(1_800_000_000, 0)
	c.note(now, now, now)
	c.note(now.Add(time.Hour), now, now)
	if d := (c.get() - time.Hour).Abs(); d > time.Second {
		t.Errorf("offset %v after a step of one hour", c.get())
	}
}
