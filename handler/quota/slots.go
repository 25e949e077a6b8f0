package quota

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"aoaigateway/handler/policy"
)

const (
	slotLife      = 60 * time.Second // a write keeps an instance's slots this long
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
	if c.slots.inUse+c.lease.slots == 0 && now.Sub(c.slots.renewedAt) > slotLife {
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

// slot is how many requests one writer has in flight, and until when other writers count
// them. A writer always writes the whole number, never a difference.
type slot struct {
	n     int64
	until int64 // Unix seconds
}

// slotsOfOthers counts the slots of all writers but one that are still valid.
func (s *state) slotsOfOthers(writer string) (n int64) {
	for name, held := range s.slots {
		if name != writer && held.until > s.time.Unix() {
			n += held.n
		}
	}
	return n
}

// freeSlots is how many more requests the limits allow a writer that has n in flight, and
// the tightest of the limits. Without limits it is 1.
func (s *state) freeSlots(limits []policy.Limit, writer string, n int64) (free int64, tightest policy.Limit) {
	free = 1
	for i, l := range limits {
		if r := l.Amount - s.slotsOfOthers(writer) - n; i == 0 || r < free {
			free, tightest = r, l
		}
	}
	return free, tightest
}

// setSlots records how many slots a writer has from now on.
func (s *state) setSlots(writer string, n int64) {
	if n <= 0 {
		delete(s.slots, writer)
		return
	}
	if s.slots == nil {
		s.slots = map[string]slot{}
	}
	s.slots[writer] = slot{n: n, until: s.time.Add(slotLife).Unix()}
}

// formatSlots writes slots as writer=n@until, with blanks between.
func formatSlots(slots map[string]slot) string {
	parts := make([]string, 0, len(slots))
	for _, name := range slices.Sorted(maps.Keys(slots)) {
		parts = append(parts, fmt.Sprintf("%s=%d@%d", name, slots[name].n, slots[name].until))
	}
	return strings.Join(parts, " ")
}

func parseSlots(text string) (map[string]slot, error) {
	if text == "" {
		return nil, nil
	}
	slots := map[string]slot{}
	for part := range strings.FieldsSeq(text) {
		name, rest, ok1 := strings.Cut(part, "=")
		n, until, ok2 := strings.Cut(rest, "@")
		held, err1 := strconv.ParseInt(n, 10, 64)
		end, err2 := strconv.ParseInt(until, 10, 64)
		if !ok1 || !ok2 || err1 != nil || err2 != nil {
			return nil, fmt.Errorf("slot %q does not have the form writer=n@until", part)
		}
		slots[name] = slot{n: held, until: end}
	}
	return slots, nil
}
