package state

import (
	"time"

	"aoaigateway/handler/policy"
)

// grain is the number of parts of a token. With it a bucket gains a whole number of parts
// per millisecond: a limit of L tokens a minute gains L parts per millisecond.
const grain = 60_000

// limitState is the state of one limit in a counter: {window, charged}, or {level, at} for a
// token bucket.
type limitState struct {
	Window  int64 `json:"window,omitempty"`  // Unix seconds at which the window began
	Charged int64 `json:"charged,omitempty"` // amount charged in that window
	Level   int64 `json:"level,omitempty"`   // what the bucket has left, in parts of a token (see grain); negative after overage
	At      int64 `json:"at,omitempty"`      // the time of Level, in Unix milliseconds
}

// isBucket reports whether the limit is a token bucket. Soft limits per minute are.
func isBucket(l policy.Limit) bool { return !l.Hard && l.Per == policy.Minute }

// newLimitState returns the state of an unused limit.
func newLimitState(l policy.Limit, now time.Time) limitState {
	if isBucket(l) {
		return limitState{Level: l.Amount * grain, At: now.UnixMilli()}
	}
	return limitState{Window: windowStart(l.Per, now).Unix()}
}

// roll returns the state at the time now: a new window begins, or a bucket refills. It
// never moves a state back in time.
func (ls limitState) roll(l policy.Limit, now time.Time) limitState {
	if !isBucket(l) {
		if start := windowStart(l.Per, now).Unix(); start > ls.Window {
			return limitState{Window: start}
		}
		return ls
	}
	full := l.Amount * grain
	ls.Level = min(max(ls.Level, -full), full)
	if elapsed := now.UnixMilli() - ls.At; elapsed > 0 {
		ls.At = now.UnixMilli()
		ls.Level += min(elapsed, (full-ls.Level+l.Amount-1)/l.Amount) * l.Amount
		ls.Level = min(ls.Level, full)
	}
	return ls
}

// left returns what can still be charged to a rolled state.
func (ls limitState) left(l policy.Limit) int64 {
	if isBucket(l) {
		return max(ls.Level, 0) / grain
	}
	return max(l.Amount-ls.Charged, 0)
}

// wait returns how long it takes until n can be charged to a rolled state; 0 = it can be
// charged now.
func (ls limitState) wait(l policy.Limit, n int64, now time.Time) time.Duration {
	if !isBucket(l) {
		if n <= ls.left(l) {
			return 0
		}
		return windowEnd(l.Per, time.Unix(ls.Window, 0).UTC()).Sub(now)
	}
	missing := min(n, l.Amount)*grain - ls.Level
	if missing <= 0 {
		return 0
	}
	return time.Duration((missing+l.Amount-1)/l.Amount) * time.Millisecond
}

// charge charges n, even beyond the limit; a caller that must not exceed the limit calls
// wait first. The debt of a bucket is at most what it gains in one minute, so that a long
// answer does not block it for hours.
func (ls limitState) charge(l policy.Limit, n int64) limitState {
	if isBucket(l) {
		full := l.Amount * grain
		ls.Level = max(ls.Level-min(n, 2*l.Amount)*grain, -full)
		return ls
	}
	ls.Charged += n
	return ls
}

// refund gives back n that were charged in a window, if the window still counts.
func (ls limitState) refund(l policy.Limit, n, windowID int64) limitState {
	switch {
	case !ls.stillCounts(l, windowID):
	case isBucket(l):
		ls.Level = min(ls.Level+min(n, l.Amount)*grain, l.Amount*grain)
	default:
		ls.Charged = max(ls.Charged-n, 0)
	}
	return ls
}

// windowID returns the id that a charge made now needs for a later refund: the beginning of
// the window, or the time of a bucket.
func (ls limitState) windowID(l policy.Limit) int64 {
	if isBucket(l) {
		return ls.At
	}
	return ls.Window
}

// stillCounts reports whether a charge made in that window still counts. In a bucket a
// charge no longer counts after one minute, because the bucket has refilled.
func (ls limitState) stillCounts(l policy.Limit, windowID int64) bool {
	if isBucket(l) {
		return ls.At-windowID < time.Minute.Milliseconds()
	}
	return ls.Window == windowID
}
