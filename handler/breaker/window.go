package breaker

import "time"

const partCount = 10

// rollingWindow counts the calls and failures of the last window. It divides the window
// into ten parts.
type rollingWindow struct {
	newest      int64 // number of the newest part, counted from the Unix epoch
	parts       [partCount]part
	consecutive int       // failures since the last success
	since       time.Time // time of the first failure since the last success
}

type part struct{ calls, failures int }

func (w *rollingWindow) success(now time.Time, window time.Duration) {
	w.current(now, window).calls++
	w.consecutive = 0
}

func (w *rollingWindow) failure(now time.Time, window time.Duration) {
	p := w.current(now, window)
	p.calls++
	p.failures++
	if w.consecutive == 0 || now.Sub(w.since) >= window {
		w.consecutive, w.since = 0, now
	}
	w.consecutive++
}

// current returns the part for the time now, and clears the parts that were skipped since
// the last call.
func (w *rollingWindow) current(now time.Time, window time.Duration) *part {
	at := now.UnixNano() / int64(window/partCount)
	for n := max(w.newest+1, at-partCount+1); n <= at; n++ {
		w.parts[n%partCount] = part{}
	}
	w.newest = max(w.newest, at)
	return &w.parts[w.newest%partCount]
}

func (w *rollingWindow) sum() (calls, failures int) {
	for _, p := range w.parts {
		calls += p.calls
		failures += p.failures
	}
	return calls, failures
}
