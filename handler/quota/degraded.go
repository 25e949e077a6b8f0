package quota

import (
	"time"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/policy"
	"aoaigateway/handler/quota/state"
)

// degraded is the state of a counter in degraded mode, in which soft limits admit requests
// while the store cannot be reached. A counter then admits requests at the rate of its last
// write, or at the rate of its limits if that is higher. If the store's last decision was a
// refusal, it refuses until the end of that refusal. A counter that has never reached the
// store begins with the whole amount of its limits. All fields are guarded by the counter's
// mu.
type degraded struct {
	lastCharged []int64      // what the last write charged, for requests of about 2 s
	denied      state.Denial // the store's last decision, if that was a refusal
	deniedUntil time.Time    // until when that refusal is valid
	budget      []float64    // what may still be held in each limit; nil = the counter is not in degraded mode
	at          time.Time
}

// reserveDegraded makes a hold without the store. The caller has locked mu.
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
		c.startWriter() // writes the slot to the entity as soon as the store can be reached
	}
	return result{degraded: true}
}

// recordDecision keeps the store's last decision about a hold. The caller has locked mu.
func (d *degraded) recordDecision(now time.Time, denied *state.Denial) {
	d.deniedUntil = time.Time{}
	if denied != nil {
		d.denied, d.deniedUntil = *denied, now.Add(denied.Wait)
	}
}

// rate returns how much the counter may hold in a limit every 2 s. A limit per day or month
// is treated as a limit per hour.
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

// degradedRefusal is the error for a request that arrives faster than degraded mode allows.
func degradedRefusal(l policy.Limit, wait time.Duration) *gateway.Error {
	e := quotaRefusal(state.Denial{Limit: policy.Limit{Name: l.Name, Unit: l.Unit, Per: policy.Minute}, Wait: max(wait, time.Second)})
	e.Message += " The limit " + l.Name + " is counted only approximately now, because its store cannot be reached."
	return e
}
