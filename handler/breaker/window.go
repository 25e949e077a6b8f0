package breaker

import "time"

const partCount = 10

// tally counts calls and failures of the last window, in slices of a tenth of it.
type rollingWindow struct {
	at          int64 // number of the newest slice since the epoch
	parts       [partCount]struct{ calls, failures int }
	consecutive int       // failures since the last success
	since       time.Time // the row's first failure
}

func (t *rollingWindow) add(now time.Time, window time.Duration, failed bool) {
	at := now.UnixNano() / int64(window/partCount)
	for n := max(t.at+1, at-partCount+1); n <= at; n++ {
		t.parts[n%partCount] = struct{ calls, failures int }{}
	}
	t.at = max(t.at, at)
	part := &t.parts[t.at%partCount]
	part.calls++
	if !failed {
		t.consecutive = 0
		return
	}
	part.failures++
	if t.consecutive == 0 || now.Sub(t.since) >= window {
		t.consecutive, t.since = 0, now
	}
	t.consecutive++
}

func (t *rollingWindow) sum() (calls, failures int) {
	for _, p := range t.parts {
		calls += p.calls
		failures += p.failures
	}
	return calls, failures
}
