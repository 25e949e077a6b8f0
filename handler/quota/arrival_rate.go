package quota

import (
	"math"
	"time"
)

// arrivalRate measures how many requests a counter recently had, and how much they held.
// The zero value means none.
type arrivalRate struct {
	lastAt       time.Time
	requests     float64                   // requests of about the last 2 s: each weighs e^(-age / 2 s)
	amounts      []float64                 // what they held in each limit, with the same weights
	recent       [leaseThreshold]time.Time // times of the last arrivals, a ring buffer
	oldest       int                       // index of the oldest time in recent
	othersWrites float64                   // how often other instances write the entity, per second
}

// record adds one request and the amounts that it holds.
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

// decay returns the weight of a request of this age, from 1 down to 0.
func decay(age time.Duration) float64 {
	return math.Exp(-age.Seconds() / leaseLife.Seconds())
}

// recordOthers updates othersWrites: other instances made this many writes between two
// readings.
func (a *arrivalRate) recordOthers(writes int64, within time.Duration) {
	a.othersWrites = (a.othersWrites*leaseLife.Seconds() + float64(writes)) / (leaseLife + within).Seconds()
}

// likelyCurrent reports whether, with more than 50 % probability, nobody has written the
// entity since a reading of this age. If so, a write based on that reading costs less than
// reading again.
func (a *arrivalRate) likelyCurrent(age time.Duration) bool {
	return a.othersWrites*age.Seconds() < math.Ln2
}

// warrantsLease reports whether a lease pays: all instances together had at least four
// requests within the last 2 s, at least one of them here. A request of another instance is
// counted as two writes.
func (a *arrivalRate) warrantsLease(now time.Time) bool {
	ours := 0
	for _, at := range a.recent {
		if now.Sub(at) <= leaseLife {
			ours++
		}
	}
	return ours > 0 && float64(ours)+a.othersWrites*leaseLife.Seconds()/2 >= leaseThreshold
}

// leaseSize returns how much to lease in each limit: what requests held in the last 2 s,
// but at most a sixteenth of what the limit has left. It returns nil if a lease of this
// size would not cover one more request.
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
