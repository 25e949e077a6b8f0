package quota

import (
	"time"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/policy"
)

// pace is how a scope of soft limits goes on without its store: at the rate of its last
// lease, or at that of the limits themselves if it is higher; not at all while a limit
// that was used up stays so. One that never had a lease begins with all of its limits.
// Its fields belong to the scope's mu.
type pace struct {
	last  []int64   // what the last write took, for about 2 s
	no    refusal   // the last decision, if it was none to grant
	until time.Time // that is over then
	level []float64 // what may still be held; nil = the store was there a moment ago
	at    time.Time
}

// alone makes a hold that the store knows nothing of. Called with mu held.
func (s *scope) alone(now time.Time, h *hold) granted {
	p := &s.pace
	if now.Before(p.until) {
		return granted{err: refused(refusal{limit: p.no.limit, wait: p.until.Sub(now)})}
	}
	filled := p.level == nil
	if filled {
		p.level = make([]float64, len(s.limits))
	}
	for i, l := range s.limits {
		rate := p.rate(i, l)
		switch {
		case filled && p.last == nil:
			p.level[i] = max(float64(l.Amount), rate)
		case filled:
			p.level[i] = rate
		default:
			p.level[i] = max(p.level[i], min(p.level[i]+rate*now.Sub(p.at).Seconds()/leaseLife.Seconds(), rate))
		}
	}
	p.at = now
	for i, l := range s.limits {
		if h.amounts[i] > 0 && p.level[i] <= 0 {
			wait := time.Duration(-p.level[i] / p.rate(i, l) * float64(leaseLife))
			return granted{err: paced(l, wait)}
		}
	}
	for i, n := range h.amounts {
		p.level[i] -= float64(n)
	}
	if s.enter(h); h.inside {
		s.start() // the entity must hear of the slot as soon as it can
	}
	return granted{unsure: true}
}

// know remembers a decision about a hold. Called with mu held.
func (p *pace) know(now time.Time, no *refusal) {
	p.until = time.Time{}
	if no != nil {
		p.no, p.until = *no, now.Add(no.wait)
	}
}

// rate is what a limit may give in 2 s; windows longer than an hour count as an hour.
func (p *pace) rate(i int, l policy.Limit) float64 {
	per := time.Hour
	if l.Per == policy.Minute {
		per = time.Minute
	}
	own := float64(l.Amount) * leaseLife.Seconds() / per.Seconds()
	if p.last != nil {
		own = max(own, float64(p.last[i]))
	}
	return own
}

// paced refuses what would be faster than the scope was before its store went away.
func paced(l policy.Limit, wait time.Duration) *gateway.Error {
	e := refused(refusal{limit: policy.Limit{Name: l.Name, Unit: l.Unit, Per: policy.Minute}, wait: max(wait, time.Second)})
	e.Message += " The limit " + l.Name + " cannot be counted exactly at the moment."
	return e
}
