package quota

import (
	"context"
	"time"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/policy"
)

// Check refuses a request that Reserve would refuse whatever the request's body contains:
// its limits on requests or on concurrent requests are used up, or a limit on tokens or cost
// has nothing left. It is for the time before the body is read. It charges and counts
// nothing, and a request that it lets pass can still be refused by Reserve, which alone
// admits requests. metered says whether the request will use tokens. model is empty if only
// the body names it; then limits that count by model are not checked.
func (l *Limiter) Check(ctx context.Context, c gateway.Caller, model string, metered bool) error {
	product, ok := l.products[c.Product]
	if !ok {
		return gateway.ProductNotFound.Because(nil)
	}
	least := &Reservation{}
	if metered {
		least.cost = Cost{Estimate: 1, Bound: 1}
	}
	if model != "" {
		least.model, _ = l.policy.Model(model)
		if err := fits(product, model, least); err != nil {
			return err
		}
	}
	for _, p := range product.counters {
		if p.by == policy.ByModel && model == "" {
			continue
		}
		value, err := p.counterKey(c, model)
		if err != nil {
			return err
		}
		if err := l.counters.get(l, p, value).mayHold(ctx, least); err != nil {
			return err
		}
	}
	return nil
}

// leastAmounts returns the least that any request holds in each limit.
func (r *Reservation) leastAmounts(limits []policy.Limit) []int64 {
	out := make([]int64, len(limits))
	for i, l := range limits {
		out[i] = min(r.cost.Bound, 1)
		if l.Unit == policy.Requests {
			out[i] = 1
		}
	}
	return out
}

// mayHold refuses if the counter has less left than any request holds. If the store of a
// soft limit does not answer, it refuses nothing.
func (c *counter) mayHold(ctx context.Context, least *Reservation) error {
	h := &hold{amounts: least.leastAmounts(c.limits), needsSlot: len(c.concurrent) > 0}
	now := time.Now()
	c.mu.Lock()
	c.lastUse = now
	if c.leaseCovers(now, h) || !c.hard && now.Before(c.failingUntil) {
		c.mu.Unlock()
		return nil
	}
	u := c.enqueue(&update{hold: h, checks: true})
	c.mu.Unlock()
	return c.await(ctx, u).err
}
