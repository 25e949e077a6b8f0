package quota

import "time"

const (
	renewBefore = leaseLife / 4          // a lease in use is renewed that long before its end
	spareLife   = 250 * time.Millisecond // of free slots that others may be waiting for
)

// lease is an amount that was charged ahead, and belongs to this instance alone: the
// entity knows no owners, and nobody takes it back. Its fields belong to the scope's mu.
type lease struct {
	amounts []int64   // one for each limit; nil = none
	stamps  []int64   // where they were charged; shared with holds, never changed
	slots   int64     // free ones that the entity counts as ours
	until   time.Time // from then on it goes back
	renewAt time.Time // zero = not before its end
}

func (l *lease) empty() bool {
	return l.slots == 0 && !some(l.amounts)
}

// All below are called with mu held.

// spend makes a hold out of the lease, if that covers it.
func (s *scope) spend(now time.Time, h *hold) (left []int64, ok bool) {
	l := &s.hand
	takesSlot := h.slot && !h.inside
	if !now.Before(l.until) || takesSlot && l.slots == 0 {
		return nil, false
	}
	for i, n := range h.amounts {
		if n > l.amounts[i] {
			return nil, false
		}
	}
	left = make([]int64, len(h.amounts))
	for i, n := range h.amounts {
		l.amounts[i] -= n
		left[i] = s.left[i] + l.amounts[i]
	}
	if takesSlot {
		l.slots--
		s.enter(h)
	}
	h.charged, h.stamps = true, l.stamps
	if !l.renewAt.IsZero() && now.After(l.renewAt) && !s.renew {
		s.renew = true
		s.start()
	}
	return left, true
}

// absorb settles a hold with the lease alone: what is over goes into it, what is missing
// comes out of it. It does nothing if that would not be the same as settling in the entity.
func (s *scope) absorb(now time.Time, h *hold, final []int64) bool {
	if !h.charged || !s.demand.busy(now) || s.flush {
		return false
	}
	open := now.Before(s.hand.until)
	if s.hand.empty() {
		until := now.Add(s.lifetime(h.stamps, s.limiter.now()))
		if !now.Before(until) {
			return false
		}
		s.hand, open = lease{amounts: make([]int64, len(s.limits)), stamps: h.stamps, until: until}, true
	}
	here := state{time: s.limiter.now()}
	if !here.same(s.limits, h.stamps, s.hand.stamps) {
		return false
	}
	for i, n := range final {
		if more := n - h.amounts[i]; more > 0 && (!open || more > s.hand.amounts[i]) {
			return false
		}
	}
	for i, n := range final {
		s.hand.amounts[i] += h.amounts[i] - n
	}
	if h.inside {
		s.leave(h)
		s.hand.slots++
		if s.hand.slots > s.slots.room/portion {
			s.hand.until = earlier(s.hand.until, now.Add(spareLife))
		}
	}
	h.amounts = final
	s.arm()
	return true
}

// lifetime is how long a lease may live that was charged at stamps: never past a window.
func (s *scope) lifetime(stamps []int64, now time.Time) time.Duration {
	life := leaseLife
	for i, l := range s.limits {
		if !isBucket(l) {
			life = min(life, windowEnd(l.Per, time.Unix(stamps[i], 0).UTC()).Sub(now))
		}
	}
	return life
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
