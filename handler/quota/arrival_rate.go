package quota

import (
	"math"
	"time"
)

// arrivalRate is what requests have recently held in a counter. The zero value means none.
type arrivalRate struct {
	lastAt       time.Time
	requests     float64                   // of about the last 2 s: each weighs e^(-age / 2 s)
	amounts      []float64                 // likewise, one for each limit
	recent       [leaseThreshold]time.Time // the last arrivals, a ring
	oldest       int                       // index in recent
	othersWrites float64                   // writes of other instances per second
}

// record adds one request and what it holds.
func (a *arrivalRate) record(now time.Time, amounts []int64) {
	if a.amounts == nil {
		a.amounts = make([]float64, len(amounts))
	}
	f := decay(now.Sub(a.lastAt))
	a.requests = a.requests*f + 1
	for i, n := range amounts {
		a.amounts[i] = a.amounts[i]*f + float64(n)
	}
	a.lastAt, a.recent[a.oldest] = now, now
	a.oldest = (a.oldest + 1) % leaseThreshold
}

// decay is what a request of that age still weighs.
func decay(age time.Duration) float64 {
	return math.Exp(-age.Seconds() / leaseLife.Seconds())
}

// recordOthers adds what other instances wrote between two readings.
func (a *arrivalRate) recordOthers(writes int64, within time.Duration) {
	a.othersWrites = (a.othersWrites*leaseLife.Seconds() + float64(writes)) / (leaseLife + within).Seconds()
}

// likelyCurrent reports whether a reading of that age is more likely than not the newest.
// Then a write based on it costs less than another read.
func (a *arrivalRate) likelyCurrent(age time.Duration) bool {
	return a.othersWrites*age.Seconds() < math.Ln2
}

// warrantsLease reports whether the counter saw at least four requests within the last
// 2 s, of which at least one was here. A request elsewhere makes two writes at most.
func (a *arrivalRate) warrantsLease(now time.Time) bool {
	ours := 0
	for _, at := range a.recent {
		if now.Sub(at) <= leaseLife {
			ours++
		}
	}
	return ours > 0 && float64(ours)+a.othersWrites*leaseLife.Seconds()/2 >= leaseThreshold
}

// leaseSize is how much to lease from what the limits have left: what arrived in the last
// 2 s, but of no limit more than a sixteenth of the rest. It is nil when that would not
// cover one more request.
func (a *arrivalRate) leaseSize(now time.Time, left []int64) []int64 {
	if !a.warrantsLease(now) {
		return nil
	}
	requests := a.requests * decay(now.Sub(a.lastAt))
	for i, sum := range a.amounts {
		if sum > 0 {
			requests = min(requests, float64(left[i]/leaseShare)*a.requests/sum)
		}
	}
	if requests < 1 {
		return nil
	}
	amounts := make([]int64, len(a.amounts))
	for i, sum := range a.amounts {
		amounts[i] = min(int64(math.Ceil(requests*sum/a.requests)), left[i]/leaseShare)
	}
	return amounts
}
