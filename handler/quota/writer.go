package quota

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"aoaigateway/handler/table"
)

const (
	callTimeout   = time.Second            // one store operation
	refusalMemory = 250 * time.Millisecond // a reading older than this refuses nobody
	failingFor    = time.Second            // soft holds do not wait for a store that failed this lately
	settleFor     = 30 * time.Second       // an adjustment is given up after this
)

// writer is the part of a scope that one goroutine owns at a time.
type writer struct {
	name     string
	sent     int64
	cached   *reading // newest reading or write; nil = none to rely on
	pending  *change  // sent, and its fate not known yet
	failures int      // of the store, in a row
	losses   int      // of races, in a row
}

// reading is an entity as it was at some moment.
type reading struct {
	state
	rev    table.Rev
	exists bool
	read   time.Time
}

// run is the scope's only writer; it ends when nothing is queued.
func (s *scope) run() {
	defer s.limiter.writers.ended()
	for s.more() {
		s.round()
	}
}

// more drops what is out of date and tells whether anything is left to do.
func (s *scope) more() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.cutLate(now)
	if s.pending == nil {
		s.resolve(func(o *op) bool { return o.pointless(s.limits) })
	}
	late := func(o *op) bool { return now.Sub(o.since) > settleFor }
	lost := !s.hand.empty() && now.Sub(s.hand.until) > settleFor
	if lost || slices.ContainsFunc(s.queue, late) {
		s.limiter.log.Warn("quota settlement given up", "scope", s.key.Partition, "error", s.lastErr)
		s.resolve(late)
	}
	if lost {
		s.hand = lease{}
	}
	if len(s.queue) > 0 || s.due(now) {
		return true
	}
	if s.pending != nil {
		s.pending, s.cached = nil, nil
		if len(s.concurrent) > 0 {
			s.slots.told = -1
			return true
		}
	}
	s.running = false
	s.arm()
	return false
}

// resolve takes the ops that match out of the queue. Called with mu held.
func (s *scope) resolve(match func(*op) bool) {
	s.queue = slices.DeleteFunc(s.queue, func(o *op) bool {
		if match(o) {
			o.gone = true
			o.say(granted{})
		}
		return o.gone
	})
}

// round does one step: find out what became of the last write, or make the next.
func (s *scope) round() {
	if s.pending != nil {
		s.reconcile()
		return
	}
	s.mu.Lock()
	batch := slices.Clone(s.queue)
	s.mu.Unlock()
	if s.cached == nil || !s.demand.current(time.Since(s.cached.read)) {
		if !s.load() {
			return
		}
	}
	c := s.decide(batch)
	switch {
	case c.stale:
		s.load()
	case c.dirty:
		s.pending = c
		s.send()
	default:
		s.finish(c)
	}
}

// nextID is that of a new change.
func (w *writer) nextID() string {
	w.sent++
	return w.name + "." + strconv.FormatInt(w.sent, base36)
}

// send writes the pending change and finishes it if the answer is clear.
func (s *scope) send() {
	c := s.pending
	props, err := c.next.props()
	e := table.Entity{Key: s.key, Rev: c.base.rev, Props: props}
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
		defer cancel()
		if c.base.exists {
			e, err = s.limiter.store.Replace(ctx, e)
		} else {
			e, err = s.limiter.store.Insert(ctx, e)
		}
	}
	switch {
	case err == nil:
		s.failures = 0
		s.cached = &reading{state: c.next, rev: e.Rev, exists: true, read: time.Now()}
		s.finish(c)
	case errors.Is(err, table.ErrConflict), errors.Is(err, table.ErrExists), errors.Is(err, table.ErrNotFound):
		// Even these may be the echo of our own write, repeated on the way: read.
	default:
		s.failed(err)
	}
}

// load reads the entity.
func (s *scope) load() bool {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	e, err := s.limiter.store.Get(ctx, s.key)
	r := &reading{state: state{counters: map[string]counter{}}, read: time.Now()}
	if err == nil {
		r.rev, r.exists = e.Rev, true
		r.state, err = stateOf(e)
	}
	if err != nil && !errors.Is(err, table.ErrNotFound) {
		s.failed(err)
		return false
	}
	s.meet(r)
	s.cached, s.failures = r, 0
	return true
}

// meet notes what others wrote since the last reading.
func (s *scope) meet(r *reading) {
	if s.cached == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.demand.noteOthers(max(r.writes-s.cached.writes, 0), r.read.Sub(s.cached.read))
}

// reconcile finds out by reading what became of the pending change.
func (s *scope) reconcile() {
	if !s.load() {
		return
	}
	c, now := s.pending, s.cached
	switch {
	case slices.Contains(now.ids, c.id):
		s.finish(c)
	case now.exists == c.base.exists && now.rev == c.base.rev:
		// Not applied, but it may still be under way: only the same bytes may be sent.
		s.pause(&s.losses, 4*time.Millisecond, 128*time.Millisecond)
		s.send()
	case now.remembersSince(c.base.state):
		s.pending = nil
		s.contended()
	default:
		s.pending = nil
		s.unknown(c)
		s.contended()
	}
}

// unknown says of a change of which nothing can be known any more what grants less:
// holds and charges are made again, refunds are not.
func (s *scope) unknown(c *change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range c.decisions {
		d.op.redone = true
	}
	if len(s.concurrent) > 0 {
		s.slots.told = -1
	}
}

// finish tells everybody what a change that is now certain did for them.
func (s *scope) finish(c *change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending, s.losses, s.failingUntil, s.pace.level = nil, 0, time.Time{}, nil
	for _, d := range c.decisions {
		s.conclude(d)
	}
	if c.left != nil {
		s.left, s.slots.peak = c.left, s.slots.n
		s.slots.told, s.slots.room = c.slots, c.room
	}
	if some(c.took) {
		s.pace.last = c.took
	}
	if c.dirty {
		s.slots.renewed = c.at
	}
	s.receive(c)
	s.serve()
	s.queue = slices.DeleteFunc(s.queue, func(o *op) bool { return o.gone })
}

func (s *scope) conclude(d decision) {
	o := d.op
	o.gone = true
	switch {
	case o.final != nil:
		o.say(granted{})
	case d.no != nil:
		s.pace.know(time.Now(), d.no)
		o.say(granted{err: refused(*d.no)})
	default:
		s.pace.know(time.Now(), nil)
		o.hold.charged, o.hold.stamps = true, d.stamps
		if !o.hold.over {
			s.enter(o.hold)
		}
		o.say(granted{left: d.left})
	}
}

// serve makes holds for those who came meanwhile out of the new lease.
func (s *scope) serve() {
	now := time.Now()
	for _, o := range s.queue {
		if o.gone || o.final != nil || o.hold.over {
			continue
		}
		if left, ok := s.spend(now, o.hold); ok {
			o.gone = true
			o.say(granted{left: left})
		}
	}
}

// contended lets go, after a lost race, of those who waited long enough, and pauses.
func (s *scope) contended() {
	s.release(func(o *op) bool { return time.Since(o.since) >= softWait }, contended(s.firstHard()))
	s.pause(&s.losses, 4*time.Millisecond, 128*time.Millisecond)
}

// failed notes that the store is away, lets soft holds go on without it, and pauses.
func (s *scope) failed(err error) {
	s.mu.Lock()
	if s.failures == 0 {
		s.limiter.log.Warn("quota store failed", "scope", s.key.Partition, "error", err)
	}
	s.lastErr = err
	s.failingUntil = time.Now().Add(failingFor)
	s.mu.Unlock()
	if !s.hard {
		s.release(func(*op) bool { return true }, nil)
	}
	s.pause(&s.failures, 20*time.Millisecond, 500*time.Millisecond)
}

// release ends the wait of those who match: hard ones hear hard, soft ones go on without
// the store. What is on its way to the entity stays queued.
func (s *scope) release(match func(*op) bool, hard error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range slices.Clone(s.queue) {
		switch {
		case o.final != nil || o.said || !match(o):
			continue
		case s.hard:
			s.refuse(o, hard)
		default:
			s.goAlone(o)
		}
		o.gone = !s.isPending(o)
	}
	s.queue = slices.DeleteFunc(s.queue, func(o *op) bool { return o.gone })
}

func (s *scope) isPending(o *op) bool {
	return s.pending != nil && slices.ContainsFunc(s.pending.decisions, func(d decision) bool { return d.op == o })
}

// pause waits a random time that doubles in the mean with each in a row, so that
// instances do not meet again.
func (s *scope) pause(row *int, first, most time.Duration) {
	mean := min(first<<min(*row, 10), most)
	*row++
	time.Sleep(mean/2 + rand.N(mean)) //nolint:gosec // a pause needs no secrecy
}
