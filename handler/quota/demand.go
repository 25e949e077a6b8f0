package quota

import (
	"math"
	"time"
)

// What a lease is made of.
const (
	leaseLife = 2 * time.Second // nothing is taken from it after that
	busyAt    = 4               // requests within leaseLife from which on leases are taken and kept
	portion   = 16              // a lease is at most this part of what its limit has left
)

// demand is what was asked of a scope lately. The zero value is that of a quiet one.
type demand struct {
	at       time.Time
	requests float64   // of about the last 2 s: each weighs e^(-age / 2 s)
	amounts  []float64 // likewise, one for each limit
	seen     [busyAt]time.Time
	oldest   int     // in seen
	others   float64 // writes of other instances, a second; owned by the writer
}

// note is called for each request with what it holds.
func (d *demand) note(now time.Time, amounts []int64) {
	if d.amounts == nil {
		d.amounts = make([]float64, len(amounts))
	}
	f := fade(now.Sub(d.at))
	d.requests = d.requests*f + 1
	for i, n := range amounts {
		d.amounts[i] = d.amounts[i]*f + float64(n)
	}
	d.at, d.seen[d.oldest] = now, now
	d.oldest = (d.oldest + 1) % busyAt
}

// fade is what a request weighs after some time.
func fade(age time.Duration) float64 {
	return math.Exp(-age.Seconds() / leaseLife.Seconds())
}

// noteOthers is called with what others wrote in the time between two readings.
func (d *demand) noteOthers(writes int64, within time.Duration) {
	d.others = (d.others*leaseLife.Seconds() + float64(writes)) / (leaseLife + within).Seconds()
}

// current tells whether a reading of that age is more likely than not the newest: then a
// write based on it costs less than another look.
func (d *demand) current(age time.Duration) bool {
	return d.others*age.Seconds() < math.Ln2
}

// busy tells whether the scope saw at least four requests within the last 2 s, one of
// them here. Each of the others' requests makes two writes at most.
func (d *demand) busy(now time.Time) bool {
	ours := 0
	for _, at := range d.seen {
		if now.Sub(at) <= leaseLife {
			ours++
		}
	}
	return ours > 0 && float64(ours)+d.others*leaseLife.Seconds()/2 >= busyAt
}

// lease is how much to take ahead when limits have left to give: what came in the last 2 s,
// but of no limit more than a sixteenth of what is left; nil = nothing, when that would
// not do for one more request.
func (d *demand) lease(now time.Time, left []int64) []int64 {
	if !d.busy(now) {
		return nil
	}
	requests := d.requests * fade(now.Sub(d.at))
	for i, sum := range d.amounts {
		if sum > 0 {
			requests = min(requests, float64(left[i]/portion)*d.requests/sum)
		}
	}
	if requests < 1 {
		return nil
	}
	amounts := make([]int64, len(d.amounts))
	for i, sum := range d.amounts {
		amounts[i] = min(int64(math.Ceil(requests*sum/d.requests)), left[i]/portion)
	}
	return amounts
}
