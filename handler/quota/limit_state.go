package quota

import (
	"time"

	"aoaigateway/handler/policy"
)

// grain divides a token so that a bucket refills by a whole number of parts each
// millisecond: limit/60 a second is limit parts a millisecond.
const grain = 60_000

// counter is the state of one limit: {window, charged}, or for a bucket {level, at}.
type limitState struct {
	Window  int64 `json:"window,omitempty"`  // Unix seconds at which the window began
	Charged int64 `json:"charged,omitempty"` // in that window
	Level   int64 `json:"level,omitempty"`   // parts in the bucket; below 0 after use beyond what was held
	At      int64 `json:"at,omitempty"`      // Unix milliseconds at which Level was right
}

// isBucket tells a soft limit per minute, a token bucket, from a count in a fixed window.
func isBucket(l policy.Limit) bool { return !l.Hard && l.Per == policy.Minute }

// fresh is the counter of a limit that nobody has used yet.
func newLimitState(l policy.Limit, now time.Time) limitState {
	if isBucket(l) {
		return limitState{Level: l.Amount * grain, At: now.UnixMilli()}
	}
	return limitState{Window: windowStart(l.Per, now).Unix()}
}

// roll brings a counter to now; it never takes one back.
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

// left is what could still be charged to a rolled counter.
func (ls limitState) left(l policy.Limit) int64 {
	if isBucket(l) {
		return max(ls.Level, 0) / grain
	}
	return max(l.Amount-ls.Charged, 0)
}

// wait is how long after now a rolled counter has room for n; 0 = it has.
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

// charge takes n, room or not: who may not go over asks wait before. A bucket owes at
// most one minute, so that one long answer does not close it for hours.
func (ls limitState) charge(l policy.Limit, n int64) limitState {
	if isBucket(l) {
		full := l.Amount * grain
		ls.Level = max(ls.Level-min(n, 2*l.Amount)*grain, -full)
		return ls
	}
	ls.Charged += n
	return ls
}

// refund gives back n of what was charged at stamp, if that still counts.
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

// stamp says when a charge was made, for a refund: the window, or a bucket's time.
func (ls limitState) windowID(l policy.Limit) int64 {
	if isBucket(l) {
		return ls.At
	}
	return ls.Window
}

// counts tells whether a charge made at stamp still weighs on the counter. A bucket has
// made up for any charge after one minute.
func (ls limitState) stillCounts(l policy.Limit, windowID int64) bool {
	if isBucket(l) {
		return ls.At-windowID < time.Minute.Milliseconds()
	}
	return ls.Window == windowID
}
