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
type degraded struct {
	lastCharged []int64   // what the last write took, for about 2 s
	denied      denial    // the last decision, if it was none to grant
	deniedUntil time.Time // that is over then
	budget      []float64 // what may still be held; nil = the store was there a moment ago
	at          time.Time
}

// alone makes a hold that the store knows nothing of. Called with mu held.
func (c *counter) reserveDegraded(now time.Time, h *hold) result {
	p := &c.degraded
	if now.Before(p.deniedUntil) {
		return result{err: quotaRefusal(denial{limit: p.denied.limit, wait: p.deniedUntil.Sub(now)})}
	}
	filled := p.budget == nil
	if filled {
		p.budget = make([]float64, len(c.limits))
	}
	for i, l := range c.limits {
		rate := p.rate(i, l)
		switch {
		case filled && p.lastCharged == nil:
			p.budget[i] = max(float64(l.Amount), rate)
		case filled:
			p.budget[i] = rate
		default:
			p.budget[i] = max(p.budget[i], min(p.budget[i]+rate*now.Sub(p.at).Seconds()/leaseLife.Seconds(), rate))
		}
	}
	p.at = now
	for i, l := range c.limits {
		if h.amounts[i] > 0 && p.budget[i] <= 0 {
			wait := time.Duration(-p.budget[i] / p.rate(i, l) * float64(leaseLife))
			return result{err: degradedRefusal(l, wait)}
		}
	}
	for i, n := range h.amounts {
		p.budget[i] -= float64(n)
	}
	if c.takeSlot(h); h.hasSlot {
		c.startWriter() // the entity must hear of the slot as soon as it can
	}
	return result{degraded: true}
}

// know remembers a decision about a hold. Called with mu held.
func (d *degraded) recordDecision(now time.Time, denied *denial) {
	d.deniedUntil = time.Time{}
	if denied != nil {
		d.denied, d.deniedUntil = *denied, now.Add(denied.wait)
	}
}

// rate is what a limit may give in 2 s; windows longer than an hour count as an hour.
func (d *degraded) rate(i int, l policy.Limit) float64 {
	per := time.Hour
	if l.Per == policy.Minute {
		per = time.Minute
	}
	own := float64(l.Amount) * leaseLife.Seconds() / per.Seconds()
	if d.lastCharged != nil {
		own = max(own, float64(d.lastCharged[i]))
	}
	return own
}

// paced refuses what would be faster than the scope was before its store went away.
func degradedRefusal(l policy.Limit, wait time.Duration) *gateway.Error {
	e := quotaRefusal(denial{limit: policy.Limit{Name: l.Name, Unit: l.Unit, Per: policy.Minute}, wait: max(wait, time.Second)})
	e.Message += " The limit " + l.Name + " cannot be counted exactly at the moment."
	return e
}
