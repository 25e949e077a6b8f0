package quota

import (
	"time"

	"aoaigateway/handler/quota/state"
)

const (
	slotRenew     = 20 * time.Second // slots are written again after this time
	slotLostAfter = 50 * time.Second // hard limits end requests whose slots were not renewed for this long
	unknownSlots  = -1               // value of slotUse.recorded: the count in the entity is not known
)

// slotUse counts the requests that have a slot in a counter. Its fields are guarded by the
// counter's mu.
type slotUse struct {
	inUse     int64
	peak      int64            // the most slots in use at once since the last renewal of the lease
	available int64            // slots that all instances could still take, at the last write or reading
	onLost    map[*hold]func() // what ends the request of a hold; only for hard limits
	recorded  int64            // slots that the entity counts for this writer, or unknownSlots
	renewedAt time.Time        // when the last write that is known to be applied was decided
}

// takeSlot, releaseSlot and cancelLateSlots require that the caller has locked mu.

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

// transferSlot moves the slot from the hold of one attempt to the hold of the next.
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
// instances may take these slots.
func (c *counter) cancelLateSlots(now time.Time) {
	if c.slots.inUse+c.lease.slots == 0 && now.Sub(c.slots.renewedAt) > state.SlotLife {
		c.slots.recorded = 0 // other instances no longer count them
	}
	if len(c.slots.onLost) == 0 || now.Sub(c.slots.renewedAt) < slotLostAfter {
		return
	}
	c.limiter.log.Warn("quota slots could not be renewed; their requests are being ended",
		"counter", c.writer.key.Partition, "requests", len(c.slots.onLost), "error", c.lastErr)
	for h, lost := range c.slots.onLost {
		c.releaseSlot(h)
		lost()
	}
	c.lease.slots = 0
}
