package state

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"aoaigateway/handler/policy"
)

// SlotLife is how long a writer's slots count after it has written them.
const SlotLife = 60 * time.Second

// slot is how many slots one writer has, and until when other writers count them. A writer
// always writes the total, never a difference.
type slot struct {
	n     int64
	until int64 // Unix seconds
}

// slotsOfOthers counts the slots of all other writers that have not expired.
func (s *Counter) slotsOfOthers(writer string) (n int64) {
	for name, held := range s.slots {
		if name != writer && held.until > s.Time.Unix() {
			n += held.n
		}
	}
	return n
}

// FreeSlots returns how many more slots the limits allow a writer that has n, and the limit
// that allows the least. Without limits it returns 1.
func (s *Counter) FreeSlots(limits []policy.Limit, writer string, n int64) (free int64, tightest policy.Limit) {
	free = 1
	for i, l := range limits {
		if r := l.Amount - s.slotsOfOthers(writer) - n; i == 0 || r < free {
			free, tightest = r, l
		}
	}
	return free, tightest
}

// Slots returns how many slots the entity counts for a writer.
func (s *Counter) Slots(writer string) int64 { return s.slots[writer].n }

// SetSlots sets how many slots a writer has from now on.
func (s *Counter) SetSlots(writer string, n int64) {
	if n <= 0 {
		delete(s.slots, writer)
		return
	}
	if s.slots == nil {
		s.slots = map[string]slot{}
	}
	s.slots[writer] = slot{n: n, until: s.Time.Add(SlotLife).Unix()}
}

// formatSlots writes slots as writer=n@until, separated by blanks.
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
