package quota

import (
	"time"

	"aoaigateway/handler/policy"
)

// grain divides a token so that a bucket refills by a whole number of parts each
// millisecond: limit/60 a second is limit parts a millisecond.
const grain = 60_000

// counter is the state of one limit: {window, charged}, or for a bucket {level, at}.
type counter struct {
	Window  int64 `json:"window,omitempty"`  // Unix seconds at which the window began
	Charged int64 `json:"charged,omitempty"` // in that window
	Level   int64 `json:"level,omitempty"`   // parts in the bucket; below 0 after use beyond what was held
	At      int64 `json:"at,omitempty"`      // Unix milliseconds at which Level was right
}

// isBucket tells a soft limit per minute, a token bucket, from a count in a fixed window.
func isBucket(l policy.Limit) bool { return !l.Hard && l.Per == policy.Minute }

// fresh is the counter of a limit that nobody has used yet.
func fresh(l policy.Limit, now time.Time) counter {
	if isBucket(l) {
		return counter{Level: l.Amount * grain, At: now.UnixMilli()}
	}
	return counter{Window: windowStart(l.Per, now).Unix()}
}

// roll brings a counter to now; it never takes one back.
func (c counter) roll(l policy.Limit, now time.Time) counter {
	if !isBucket(l) {
		if start := windowStart(l.Per, now).Unix(); start > c.Window {
			return counter{Window: start}
		}
		return c
	}
	full := l.Amount * grain
	c.Level = min(max(c.Level, -full), full)
	if elapsed := now.UnixMilli() - c.At; elapsed > 0 {
		c.At = now.UnixMilli()
		c.Level += min(elapsed, (full-c.Level+l.Amount-1)/l.Amount) * l.Amount
		c.Level = min(c.Level, full)
	}
	return c
}

// left is what could still be charged to a rolled counter.
func (c counter) left(l policy.Limit) int64 {
	if isBucket(l) {
		return max(c.Level, 0) / grain
	}
	return max(l.Amount-c.Charged, 0)
}

// wait is how long after now a rolled counter has room for n; 0 = it has.
func (c counter) wait(l policy.Limit, n int64, now time.Time) time.Duration {
	if !isBucket(l) {
		if n <= c.left(l) {
			return 0
		}
		return windowEnd(l.Per, time.Unix(c.Window, 0).UTC()).Sub(now)
	}
	missing := min(n, l.Amount)*grain - c.Level
	if missing <= 0 {
		return 0
	}
	return time.Duration((missing+l.Amount-1)/l.Amount) * time.Millisecond
}

// charge takes n, room or not: who may not go over asks wait before. A bucket owes at
// most one minute, so that one long answer does not close it for hours.
func (c counter) charge(l policy.Limit, n int64) counter {
	if isBucket(l) {
		full := l.Amount * grain
		c.Level = max(c.Level-min(n, 2*l.Amount)*grain, -full)
		return c
	}
	c.Charged += n
	return c
}

// refund gives back n of what was charged at stamp, if that still counts.
func (c counter) refund(l policy.Limit, n, stamp int64) counter {
	switch {
	case !c.counts(l, stamp):
	case isBucket(l):
		c.Level = min(c.Level+min(n, l.Amount)*grain, l.Amount*grain)
	default:
		c.Charged = max(c.Charged-n, 0)
	}
	return c
}

// stamp says when a charge was made, for a refund: the window, or a bucket's time.
func (c counter) stamp(l policy.Limit) int64 {
	if isBucket(l) {
		return c.At
	}
	return c.Window
}

// counts tells whether a charge made at stamp still weighs on the counter. A bucket has
// made up for any charge after one minute.
func (c counter) counts(l policy.Limit, stamp int64) bool {
	if isBucket(l) {
		return c.At-stamp < time.Minute.Milliseconds()
	}
	return c.Window == stamp
}
