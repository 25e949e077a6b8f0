package quota

import (
	"time"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/policy"
	"aoaigateway/handler/quota/state"
)

// degraded is the state of degraded mode, in which soft limits go on while the store
// cannot be reached. A counter then admits requests at the rate of its last write, or at
// the rate of its limits if that is higher. It admits none while a limit that was used up
// is closed. A counter that has never written begins with all of its limits. The fields
// are guarded by the counter's mu.
type degraded struct {
	lastCharged []int64      // what the last write charged, for about 2 s
	denied      state.Denial // the last decision, if it was a refusal
	deniedUntil time.Time    // the end of that refusal
	budget      []float64    // what may still be held; nil = the mode has not begun
	at          time.Time
}

// reserveDegraded makes a hold without the store. Called with mu held.
func (c *counter) reserveDegraded(now time.Time, h *hold) result {
	d := &c.degraded
	if now.Before(d.deniedUntil) {
		return result{err: quotaRefusal(state.Denial{Limit: d.denied.Limit, Wait: d.deniedUntil.Sub(now)})}
	}
	filled := d.budget == nil
	if filled {
		d.budget = make([]float64, len(c.limits))
	}
	for i, l := range c.limits {
		rate := d.rate(i, l)
		switch {
		case filled && d.lastCharged == nil:
			d.budget[i] = max(float64(l.Amount), rate)
		case filled:
			d.budget[i] = rate
		default:
			d.budget[i] = max(d.budget[i], min(d.budget[i]+rate*now.Sub(d.at).Seconds()/leaseLife.Seconds(), rate))
		}
	}
	d.at = now
	for i, l := range c.limits {
		if h.amounts[i] > 0 && d.budget[i] <= 0 {
			wait := time.Duration(-d.budget[i] / d.rate(i, l) * float64(leaseLife))
			return result{err: degradedRefusal(l, wait)}
		}
	}
	for i, n := range h.amounts {
		d.budget[i] -= float64(n)
	}
	if c.takeSlot(h); h.hasSlot {
		c.startWriter() // the entity must count the slot as soon as it can
	}
	return result{degraded: true}
}

// recordDecision keeps the last decision of the store about a hold. Called with mu held.
func (d *degraded) recordDecision(now time.Time, denied *state.Denial) {
	d.deniedUntil = time.Time{}
	if denied != nil {
		d.denied, d.deniedUntil = *denied, now.Add(denied.Wait)
	}
}

// rate is what a limit allows in 2 s. A window longer than an hour counts as an hour.
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

// degradedRefusal refuses a request that comes faster than degraded mode allows.
func degradedRefusal(l policy.Limit, wait time.Duration) *gateway.Error {
	e := quotaRefusal(state.Denial{Limit: policy.Limit{Name: l.Name, Unit: l.Unit, Per: policy.Minute}, Wait: max(wait, time.Second)})
	e.Message += " The limit " + l.Name + " cannot be counted exactly now."
	return e
}
