package quota

import (
	"slices"
	"sync"
	"time"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/policy"
	"aoaigateway/handler/table"
)

// scope is one entity as this instance sees it.
type scope struct {
	limiter    *Limiter
	key        table.Key
	limits     []policy.Limit // that count in windows
	concurrent []policy.Limit
	hard       bool // one of all these is

	mu           sync.Mutex
	queue        []*op // in the order they came; the writer removes what is resolved
	running      bool  // a writer runs
	used         time.Time
	failingUntil time.Time // the store failed lately: soft holds do not wait for it
	lastErr      error

	demand   demand
	hand     lease   // what may be held without asking the store
	left     []int64 // in the entity, beside the lease, when it was last known
	renew    bool    // the lease is to be renewed before its end
	flush    bool    // the lease is to go back
	returned time.Time
	pace     pace
	slots    holders
	timer    *time.Timer
	wakes    time.Time // when timer fires; zero = it does not

	writer // owned by run, of which there is never more than one
}

func newScope(l *Limiter, p *scopePlan, value string) *scope {
	return &scope{
		limiter: l, key: keyOf(p.product, p.by, value), limits: p.limits, concurrent: p.concurrent, hard: p.hard(), used: time.Now(),
		writer: writer{name: l.writerName()},
	}
}

// firstHard is the limit to name when the scope as a whole refuses.
func (s *scope) firstHard() policy.Limit {
	for _, limits := range [][]policy.Limit{s.limits, s.concurrent} {
		if i := slices.IndexFunc(limits, func(l policy.Limit) bool { return l.Hard }); i >= 0 {
			return limits[i]
		}
	}
	return policy.Limit{}
}

// idle tells whether nothing would be lost but a reading if the scope were forgotten.
func (s *scope) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.running && s.hand.empty() && s.slots.n == 0
}

// start is called with mu held, when there is something for the writer to do.
func (s *scope) start() {
	if !s.running {
		s.running = true
		s.limiter.writers.started()
		go s.run()
	}
}

// due, dueAt and arm are called with mu held.

// due tells whether the lease or the slots need a write that nobody asked for.
func (s *scope) due(now time.Time) bool {
	if !s.hand.empty() && (s.renew || s.flush) || s.slots.told != s.slots.n+s.hand.slots {
		return true
	}
	at := s.dueAt()
	return !at.IsZero() && !now.Before(at)
}

// dueAt is when the lease ends or the slots are to be renewed; zero = never.
func (s *scope) dueAt() (at time.Time) {
	if !s.hand.empty() {
		at = s.hand.until
	}
	if s.slots.n+s.hand.slots > 0 {
		if r := s.slots.renewed.Add(slotRenew); at.IsZero() || r.Before(at) {
			at = r
		}
	}
	return at
}

// arm sees to it that the writer is woken when something becomes due. A timer that is not
// needed is stopped: it would keep a forgotten scope in memory.
func (s *scope) arm() {
	at := s.dueAt()
	switch {
	case at.IsZero():
		if !s.wakes.IsZero() {
			s.timer.Stop()
		}
	case !s.wakes.IsZero() && !at.Before(s.wakes):
		return
	case s.timer == nil:
		s.timer = time.AfterFunc(time.Until(at), s.wake)
	default:
		s.timer.Reset(time.Until(at))
	}
	s.wakes = at
}

func (s *scope) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wakes = time.Time{}
	if s.due(time.Now()) {
		s.start()
	} else {
		s.arm()
	}
}

// flushNow has the lease go back, whatever its end.
func (s *scope) flushNow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.hand.empty() {
		s.flush = true
		s.start()
	}
}

// holders are the requests that have a slot in a scope. Its fields belong to the scope's mu.
type holders struct {
	n       int64            // of them
	peak    int64            // the most at a time, since the lease was last renewed
	room    int64            // more slots that all processes together could have, when last known
	cut     map[*hold]func() // says that a slot was lost; only under hard limits
	told    int64            // what the entity counts, as far as we know; -1 = not known
	renewed time.Time        // the last certain write was decided then
}

// enter and leave are called with mu held.
func (s *scope) enter(h *hold) {
	if !h.slot || h.inside {
		return
	}
	h.inside = true
	s.slots.n++
	s.slots.peak = max(s.slots.peak, s.slots.n)
	if h.lost != nil {
		if s.slots.cut == nil {
			s.slots.cut = map[*hold]func(){}
		}
		s.slots.cut[h] = h.lost
	}
}

func (s *scope) leave(h *hold) {
	if h.inside {
		h.inside = false
		s.slots.n--
		delete(s.slots.cut, h)
	}
}

// cutLate gives up slots that could not be renewed: before others may take them, the
// requests that had them are told. Called with mu held.
func (s *scope) cutLate(now time.Time) {
	if s.slots.n+s.hand.slots == 0 && now.Sub(s.slots.renewed) > slotLife {
		s.slots.told = 0 // nobody believes it any more
	}
	if len(s.slots.cut) == 0 || now.Sub(s.slots.renewed) < slotCut {
		return
	}
	s.limiter.log.Warn("quota slots lost", "scope", s.key.Partition, "requests", len(s.slots.cut), "error", s.lastErr)
	for h, lost := range s.slots.cut {
		s.leave(h)
		lost()
	}
	s.hand.slots = 0
}

// slotsLost is what a request hears whose slot could not be renewed.
func slotsLost(l policy.Limit) *gateway.Error {
	return gateway.ConcurrencySlotLost.
		New("The gateway could not renew this request's slot in the limit %s, so it ended the request. Try again in 1 second.", l.Name).
		WithLimit(l.Name).WithRetry(time.Second)
}
