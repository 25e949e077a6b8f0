package breaker

import "time"

const slices = 10

// tally counts calls and failures of the last window, in slices of a tenth of it.
type tally struct {
	at    int64 // number of the newest slice since the epoch
	parts [slices]struct{ calls, failures int }
	row   int       // failures since the last success
	since time.Time // the row's first failure
}

func (t *tally) add(now time.Time, window time.Duration, failed bool) {
	at := now.UnixNano() / int64(window/slices)
	for n := max(t.at+1, at-slices+1); n <= at; n++ {
		t.parts[n%slices] = struct{ calls, failures int }{}
	}
	t.at = max(t.at, at)
	part := &t.parts[t.at%slices]
	part.calls++
	if !failed {
		t.row = 0
		return
	}
	part.failures++
	if t.row == 0 || now.Sub(t.since) >= window {
		t.row, t.since = 0, now
	}
	t.row++
}

func (t *tally) sum() (calls, failures int) {
	for _, p := range t.parts {
		calls += p.calls
		failures += p.failures
	}
	return calls, failures
}
