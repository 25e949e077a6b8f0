package quota

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"aoaigateway/handler/policy"
	"aoaigateway/handler/table"
)

// remembered is how many writers' last ids an entity keeps. As each has one write under
// way at a time, its last id tells the fate of it, however often others wrote meanwhile.
const rememberedWriters = 64

// state is what a scope's entity holds. Its methods are pure but for the receiver.
type state struct {
	time   time.Time // the latest any writer decided at; nobody decides earlier
	writes int64
	ids    []string // writer.number: the last of each of the last writers, oldest first
	limits map[string]limitState
	slots  map[string]slot // by writer; nil = none
}

// counterKey names a limit's counter by what it counts, not by the limit's name or size:
// a limit that is renamed or resized keeps its counter.
func limitKey(l policy.Limit) string {
	key := string(l.Unit) + "/" + string(l.Per)
	if l.Hard {
		key += "/hard"
	}
	return key
}

func (s *state) clone() state {
	return state{time: s.time, writes: s.writes, ids: slices.Clone(s.ids), limits: maps.Clone(s.limits), slots: maps.Clone(s.slots)}
}

// advance moves the state to now, or leaves it where it is when that is later.
func (s *state) advance(now time.Time) {
	if now = now.UTC().Truncate(time.Millisecond); now.After(s.time) {
		s.time = now
	}
}

// counter returns a limit's counter at the state's time. One that turned from soft to
// hard or back in the middle of its window goes on from where it was.
func (s *state) limit(l policy.Limit) limitState {
	if c, ok := s.limits[limitKey(l)]; ok {
		return c.roll(l, s.time)
	}
	other := l
	other.Hard = !l.Hard
	if c, ok := s.limits[limitKey(other)]; ok && !isBucket(l) && !isBucket(other) {
		return c.roll(l, s.time)
	}
	return newLimitState(l, s.time)
}

// left is what each limit could still give.
func (s *state) left(limits []policy.Limit) []int64 {
	left := make([]int64, len(limits))
	for i, l := range limits {
		left[i] = s.limit(l).left(l)
	}
	return left
}

// refusal is the limit that has no room, and for how long.
type denial struct {
	limit policy.Limit
	wait  time.Duration
}

// admit charges amounts, one for each limit, if all limits have room; else it charges
// nothing and returns the limit that makes the caller wait longest.
func (s *state) admit(limits []policy.Limit, amounts []int64) (windowIDs []int64, denied *denial) {
	for i, l := range limits {
		if wait := s.limit(l).wait(l, amounts[i], s.time); wait > 0 && (denied == nil || wait > denied.wait) {
			denied = &denial{limit: l, wait: wait}
		}
	}
	if denied != nil {
		return nil, denied
	}
	return s.charge(limits, amounts), nil
}

// charge takes amounts, room or not, and says where they were charged.
func (s *state) charge(limits []policy.Limit, amounts []int64) (windowIDs []int64) {
	windowIDs = make([]int64, len(limits))
	for i, before := range s.limitStates(limits) {
		c := before.charge(limits[i], amounts[i])
		s.limits[limitKey(limits[i])], windowIDs[i] = c, c.windowID(limits[i])
	}
	return windowIDs
}

// same tells whether two charges were made in the same windows, and so that what is left
// of both may be kept as one; a bucket's must be young enough to be given back.
func (s *state) sameWindows(limits []policy.Limit, a, b []int64) bool {
	for i, l := range limits {
		switch {
		case isBucket(l):
			if s.time.UnixMilli()-min(a[i], b[i]) >= time.Minute.Milliseconds() {
				return false
			}
		case a[i] != b[i]:
			return false
		}
	}
	return true
}

// all returns the counters of limits as they are before any of them is changed: one that
// is new must not begin with what its soft or hard twin was charged just now.
func (s *state) limitStates(limits []policy.Limit) []limitState {
	list := make([]limitState, len(limits))
	for i, l := range limits {
		list[i] = s.limit(l)
	}
	return list
}

// adjust adds deltas, one for each limit: what is below zero goes back to where stamps
// says it was charged, what is above is charged now. It tells whether anything changed.
func (s *state) adjust(limits []policy.Limit, deltas, windowIDs []int64) (changed bool) {
	for i, before := range s.limitStates(limits) {
		l, after := limits[i], before
		switch {
		case deltas[i] > 0:
			after = before.charge(l, deltas[i])
		case deltas[i] < 0:
			after = before.refund(l, -deltas[i], windowIDs[i])
		}
		if after != before {
			s.limits[limitKey(l)], changed = after, true
		}
	}
	return changed
}

// wrote notes a write of that id.
func (s *state) recordWrite(id string) {
	s.writes++
	writer, _, _ := strings.Cut(id, ".")
	s.ids = slices.DeleteFunc(s.ids, func(old string) bool { return strings.HasPrefix(old, writer+".") })
	s.ids = append(s.ids, id)
	s.ids = s.ids[max(0, len(s.ids)-rememberedWriters):]
}

// remembersSince tells whether a write made after base would still be among the ids: none
// was dropped yet, or too few came, or one that is older is there.
func (s *state) remembersSince(base state) bool {
	since := s.writes - base.writes
	return since >= 1 && (len(s.ids) < rememberedWriters || since < rememberedWriters ||
		slices.ContainsFunc(base.ids, func(id string) bool { return slices.Contains(s.ids, id) }))
}

// prune drops slots that are over, and counters whose window is; those of limits we do not know are kept
// until then, for an instance with another policy may.
func (s *state) prune() {
	maps.DeleteFunc(s.limits, func(key string, c limitState) bool {
		parts := strings.Split(key, "/")
		if c.Window == 0 {
			return s.time.UnixMilli()-c.At > 2*time.Minute.Milliseconds()
		}
		end := windowEnd(policy.Period(parts[min(1, len(parts)-1)]), time.Unix(c.Window, 0).UTC())
		return !end.After(s.time)
	})
	maps.DeleteFunc(s.slots, func(_ string, held slot) bool { return held.until <= s.time.Unix() })
}

// props is the entity as it is stored; all of it can be read by a person.
func (s *state) props() (map[string]any, error) {
	counters, err := json.Marshal(s.limits)
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"time": s.time, "writes": s.writes, "ids": strings.Join(s.ids, " "), "counters": string(counters),
		"slots": formatSlots(s.slots),
	}, nil
}

func parseState(e table.Entity) (state, error) {
	at, ok1 := e.Props["time"].(time.Time)
	writes, ok2 := e.Props["writes"].(int64)
	ids, ok3 := e.Props["ids"].(string)
	counters, ok4 := e.Props["counters"].(string)
	if !ok1 || !ok2 || !ok3 || !ok4 {
		return state{}, fmt.Errorf("quota: entity %v was not written by this gateway", e.Key)
	}
	s := state{time: at, writes: writes, ids: strings.Fields(ids), limits: map[string]limitState{}}
	if err := json.Unmarshal([]byte(counters), &s.limits); err != nil {
		return state{}, fmt.Errorf("quota: entity %v: counters: %w", e.Key, err)
	}
	slots, _ := e.Props["slots"].(string) // absent before there were any
	var err error
	if s.slots, err = parseSlots(slots); err != nil {
		return state{}, fmt.Errorf("quota: entity %v: %w", e.Key, err)
	}
	return s, nil
}
