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

// How long a process has its slots for.
const (
	slotLife      = 60 * time.Second // from a write on; then they are free again
	slotRenew     = 20 * time.Second // written again after this
	slotLostAfter = 50 * time.Second // not renewed for so long: hard limits cut the requests
)

// slot is how many requests one writer has under way, and until when that is believed. It
// writes the whole number each time, never a difference.
type slot struct {
	n     int64
	until int64 // Unix seconds
}

// others counts the slots of all writers but one, as far as they are believed.
func (s *state) slotsOfOthers(writer string) (n int64) {
	for name, held := range s.slots {
		if name != writer && held.until > s.time.Unix() {
			n += held.n
		}
	}
	return n
}

// room is how many more requests the limits let a writer have under way that has n;
// without limits there is always one more. It names the tightest limit.
func (s *state) freeSlots(limits []policy.Limit, writer string, n int64) (room int64, tightest policy.Limit) {
	room = 1
	for i, l := range limits {
		if r := l.Amount - s.slotsOfOthers(writer) - n; i == 0 || r < room {
			room, tightest = r, l
		}
	}
	return room, tightest
}

// setSlots says how many slots a writer has from now on.
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

// slotText writes slots as writer=n@until, with blanks between.
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
			return nil, fmt.Errorf("slot %q is not writer=n@until", part)
		}
		slots[name] = slot{n: held, until: end}
	}
	return slots, nil
}
