package quota

import (
	"time"

	"aoaigateway/handler/quota/state"
)

const (
	slotRenew     = 20 * time.Second // they are written again after this
	slotLostAfter = 50 * time.Second // not renewed for this long: hard limits end the requests
	unknownSlots  = -1               // it is not known what the entity counts
)

// slotUse is the requests that have a slot in a counter. Its fields are guarded by the
// counter's mu.
type slotUse struct {
	inUse     int64
	peak      int64            // the most in use at a time since the lease was last renewed
	available int64            // slots that all instances could still take, when last known
	onLost    map[*hold]func() // ends the request of a hold; only under hard limits
	recorded  int64            // what the entity counts as this writer's
	renewedAt time.Time        // when the last certain write was decided
}

// takeSlot, releaseSlot and cancelLateSlots are called with mu held.

func (c *counter) takeSlot(h *hold) {
	if !h.needsSlot || h.hasSlot {
		return
	}
	h.hasSlot = true
	c.slots.inUse++
	c.slots.peak = max(c.slots.peak, c.slots.inUse)
	if h.onLost != nil {
		if c.slots.onLost == nil {
			c.slots.onLost = map[*hold]func(){}
		}
		c.slots.onLost[h] = h.onLost
	}
}

func (c *counter) releaseSlot(h *hold) {
	if h.hasSlot {
		h.hasSlot = false
		c.slots.inUse--
		delete(c.slots.onLost, h)
	}
}

// transferSlot gives the slot of one attempt's hold to that of a further attempt.
func (c *counter) transferSlot(from, to *hold) {
	c.mu.Lock()
	defer c.mu.Unlock()
	to.needsSlot, to.hasSlot, to.onLost = from.needsSlot, from.hasSlot, from.onLost
	if _, ok := c.slots.onLost[from]; ok {
		delete(c.slots.onLost, from)
		c.slots.onLost[to] = to.onLost
	}
	from.needsSlot, from.hasSlot = false, false
}

// cancelLateSlots ends the requests whose slots could not be renewed, before other
// instances may take those slots.
func (c *counter) cancelLateSlots(now time.Time) {
	if c.slots.inUse+c.lease.slots == 0 && now.Sub(c.slots.renewedAt) > state.SlotLife {
		c.slots.recorded = 0 // other instances no longer count them
	}
	if len(c.slots.onLost) == 0 || now.Sub(c.slots.renewedAt) < slotLostAfter {
		return
	}
	c.limiter.log.Warn("quota slots lost", "counter", c.writer.key.Partition, "requests", len(c.slots.onLost), "error", c.lastErr)
	for h, lost := range c.slots.onLost {
		c.releaseSlot(h)
		lost()
	}
	c.lease.slots = 0
}
