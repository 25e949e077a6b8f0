// Package state is the content of a counter: what each limit has charged, the slots, and
// the ids of the last writes. It computes new states from (state, time, amounts), and
// converts them from and to table entities. It does no I/O and reads no clock.
package state

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

// rememberedWriters is how many writers an entity keeps the last write id of. A writer has
// one write in flight at a time, so its last id shows whether that write was applied,
// however often others have written since.
const rememberedWriters = 64

// Counter is the content of a counter's entity. Its methods change only the receiver.
type Counter struct {
	Time   time.Time // time of the latest decision; later decisions are made at this time or later
	Writes int64
	ids    []string // the last write id ("writer.number") of each of the last writers, oldest first
	limits map[string]limitState
	slots  map[string]slot // by writer; nil = none
}

// limitKey is the key of a limit's state. It consists of what the limit counts, without its
// name and amount: a limit that is renamed or resized keeps its state.
func limitKey(l policy.Limit) string {
	key := string(l.Unit) + "/" + string(l.Per)
	if l.Hard {
		key += "/hard"
	}
	return key
}

// Clone returns a copy that shares nothing with s.
func (s *Counter) Clone() Counter {
	return Counter{Time: s.Time, Writes: s.Writes, ids: slices.Clone(s.ids), limits: maps.Clone(s.limits), slots: maps.Clone(s.slots)}
}

// New returns the content of a counter that was never written.
func New() Counter { return Counter{limits: map[string]limitState{}} }

// Advance moves the state to the time now. It does nothing if the state is at a later time.
func (s *Counter) Advance(now time.Time) {
	if now = now.UTC().Truncate(time.Millisecond); now.After(s.Time) {
		s.Time = now
	}
}

// limit returns a limit's state at the entity's time. If the policy made a hard limit soft
// or the reverse, the charges of the current window still count.
func (s *Counter) limit(l policy.Limit) limitState {
	if c, ok := s.limits[limitKey(l)]; ok {
		return c.roll(l, s.Time)
	}
	other := l
	other.Hard = !l.Hard
	if c, ok := s.limits[limitKey(other)]; ok && !isBucket(l) && !isBucket(other) {
		return c.roll(l, s.Time)
	}
	return newLimitState(l, s.Time)
}

// Left returns what each limit has left.
func (s *Counter) Left(limits []policy.Limit) []int64 {
	left := make([]int64, len(limits))
	for i, l := range limits {
		left[i] = s.limit(l).left(l)
	}
	return left
}

// WindowIDs returns the ids of the windows that a charge made now would have.
func (s *Counter) WindowIDs(limits []policy.Limit) []int64 {
	ids := make([]int64, len(limits))
	for i, l := range limits {
		ids[i] = s.limit(l).windowID(l)
	}
	return ids
}

// Denial says which limit refuses, and for how long.
type Denial struct {
	Limit policy.Limit
	Wait  time.Duration
}

// Admit charges amounts, one for each limit, if all limits allow it. Otherwise it charges
// nothing and returns the limit with the longest wait.
func (s *Counter) Admit(limits []policy.Limit, amounts []int64) (windowIDs []int64, denied *Denial) {
	for i, l := range limits {
		if wait := s.limit(l).wait(l, amounts[i], s.Time); wait > 0 && (denied == nil || wait > denied.Wait) {
			denied = &Denial{Limit: l, Wait: wait}
		}
	}
	if denied != nil {
		return nil, denied
	}
	return s.Charge(limits, amounts), nil
}

// Charge charges amounts, even beyond the limits, and returns the ids of their windows.
func (s *Counter) Charge(limits []policy.Limit, amounts []int64) (windowIDs []int64) {
	windowIDs = make([]int64, len(limits))
	for i, before := range s.limitStates(limits) {
		c := before.charge(limits[i], amounts[i])
		s.limits[limitKey(limits[i])], windowIDs[i] = c, c.windowID(limits[i])
	}
	return windowIDs
}

// SameWindows reports whether the charges a and b were made in the same windows, so that
// one refund can give both back. In a token bucket both charges must also be recent enough
// for a refund.
func SameWindows(now time.Time, limits []policy.Limit, a, b []int64) bool {
	for i, l := range limits {
		switch {
		case isBucket(l):
			if now.UnixMilli()-min(a[i], b[i]) >= time.Minute.Milliseconds() {
				return false
			}
		case a[i] != b[i]:
			return false
		}
	}
	return true
}

// limitStates reads all states before any of them changes. The reason: a limit that has no
// state begins with the state of its hard or soft counterpart, and must not inherit a
// charge that the same call makes there.
func (s *Counter) limitStates(limits []policy.Limit) []limitState {
	list := make([]limitState, len(limits))
	for i, l := range limits {
		list[i] = s.limit(l)
	}
	return list
}

// Adjust adds deltas, one for each limit. A negative delta is a refund to the window of the
// charge; a positive delta is charged now. Adjust reports whether it changed anything.
func (s *Counter) Adjust(limits []policy.Limit, deltas, windowIDs []int64) (changed bool) {
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

// RecordWrite adds the id of a write, and removes the writer's previous id.
func (s *Counter) RecordWrite(id string) {
	s.Writes++
	writer, _, _ := strings.Cut(id, ".")
	s.ids = slices.DeleteFunc(s.ids, func(old string) bool { return strings.HasPrefix(old, writer+".") })
	s.ids = append(s.ids, id)
	s.ids = s.ids[max(0, len(s.ids)-rememberedWriters):]
}

// HasWrite reports whether the entity contains the id of a write.
func (s *Counter) HasWrite(id string) bool { return slices.Contains(s.ids, id) }

// RemembersSince reports whether the id of a write made after base would certainly still be
// in the entity: no id was removed yet, or too few writes followed, or an older id is still
// there.
func (s *Counter) RemembersSince(base Counter) bool {
	since := s.Writes - base.Writes
	return since >= 1 && (len(s.ids) < rememberedWriters || since < rememberedWriters ||
		slices.ContainsFunc(base.ids, func(id string) bool { return slices.Contains(s.ids, id) }))
}

// Prune removes slots and limits whose time is over. It keeps limits that this policy does
// not have until then, because another instance may have another policy.
func (s *Counter) Prune() {
	maps.DeleteFunc(s.limits, func(key string, c limitState) bool {
		parts := strings.Split(key, "/")
		if c.Window == 0 {
			return s.Time.UnixMilli()-c.At > 2*time.Minute.Milliseconds()
		}
		end := windowEnd(policy.Period(parts[min(1, len(parts)-1)]), time.Unix(c.Window, 0).UTC())
		return !end.After(s.Time)
	})
	maps.DeleteFunc(s.slots, func(_ string, held slot) bool { return held.until <= s.Time.Unix() })
}

// formatVersion is the version of the entity's format.
const formatVersion = 1

// Props returns the properties of the entity, in a readable form.
func (s *Counter) Props() (map[string]any, error) {
	limits, err := json.Marshal(s.limits)
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"v": int64(formatVersion), "time": s.Time, "writes": s.Writes, "ids": strings.Join(s.ids, " "),
		"limits": string(limits), "slots": formatSlots(s.slots),
	}, nil
}

// Parse returns the content of an entity that was written with Props. It fails if the
// entity has another format version or lacks a property.
func Parse(e table.Entity) (Counter, error) {
	version, ok := e.Props["v"].(int64)
	if ok && version != formatVersion {
		return Counter{}, fmt.Errorf("quota: entity %s has format version %d; this gateway reads version %d", e.Key, version, formatVersion)
	}
	at, ok1 := e.Props["time"].(time.Time)
	writes, ok2 := e.Props["writes"].(int64)
	ids, ok3 := e.Props["ids"].(string)
	limits, ok4 := e.Props["limits"].(string)
	slots, ok5 := e.Props["slots"].(string)
	if !ok || !ok1 || !ok2 || !ok3 || !ok4 || !ok5 {
		return Counter{}, fmt.Errorf("quota: entity %s lacks one of the properties v, time, writes, ids, limits and slots, or it has another "+
			"type", e.Key)
	}
	s := Counter{Time: at, Writes: writes, ids: strings.Fields(ids), limits: map[string]limitState{}}
	if err := json.Unmarshal([]byte(limits), &s.limits); err != nil {
		return Counter{}, fmt.Errorf("quota: entity %s: the property limits cannot be parsed: %w", e.Key, err)
	}
	var err error
	if s.slots, err = parseSlots(slots); err != nil {
		return Counter{}, fmt.Errorf("quota: entity %s: %w", e.Key, err)
	}
	return s, nil
}
