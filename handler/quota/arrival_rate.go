package quota

import (
	"math"
	"time"
)

// What a lease is made of.
const (
	leaseLife      = 2 * time.Second // nothing is taken from it after that
	leaseThreshold = 4               // requests within leaseLife from which on leases are taken and kept
	leaseShare     = 16              // a lease is at most this part of what its limit has left
)

// demand is what was asked of a scope lately. The zero value is that of a quiet one.
type arrivalRate struct {
	lastAt       time.Time
	requests     float64   // of about the last 2 s: each weighs e^(-age / 2 s)
	amounts      []float64 // likewise, one for each limit
	recent       [leaseThreshold]time.Time
	oldest       int     // in seen
	othersWrites float64 // writes of other instances, a second; owned by the writer
}

// note is called for each request with what it holds.
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

// fade is what a request weighs after some time.
func decay(age time.Duration) float64 {
	return math.Exp(-age.Seconds() / leaseLife.Seconds())
}

// noteOthers is called with what others wrote in the time between two readings.
func (a *arrivalRate) recordOthers(writes int64, within time.Duration) {
	a.othersWrites = (a.othersWrites*leaseLife.Seconds() + float64(writes)) / (leaseLife + within).Seconds()
}

// current tells whether a reading of that age is more likely than not the newest: then a
// write based on it costs less than another look.
func (a *arrivalRate) likelyCurrent(age time.Duration) bool {
	return a.othersWrites*age.Seconds() < math.Ln2
}

// busy tells whether the scope saw at least four requests within the last 2 s, one of
// them here. Each of the others' requests makes two writes at most.
func (a *arrivalRate) warrantsLease(now time.Time) bool {
	ours := 0
	for _, at := range a.recent {
		if now.Sub(at) <= leaseLife {
			ours++
		}
	}
	return ours > 0 && float64(ours)+a.othersWrites*leaseLife.Seconds()/2 >= leaseThreshold
}

// lease is how much to take ahead when limits have left to give: what came in the last 2 s,
// but of no limit more than a sixteenth of what is left; nil = nothing, when that would
// not do for one more request.
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
