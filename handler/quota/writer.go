package quota

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"aoaigateway/handler/table"
)

const (
	callTimeout   = time.Second            // one store operation
	freshFor      = 2 * time.Second        // a reading older than this is read again before holds are made on it
	refusalMemory = 250 * time.Millisecond // a reading older than this refuses nobody
	failingFor    = time.Second            // soft holds do not wait for a store that failed this lately
	settleFor     = 30 * time.Second       // an adjustment is given up after this
)

// writer is the part of a scope that one goroutine owns at a time.
type writer struct {
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

// change is one compare-and-swap: frozen, so that it can be sent again as it is.
type change struct {
	base      *reading
	next      state
	id        string
	decisions []decision
	dirty     bool // next differs from base
	refuses   bool
}

type decision struct {
	op     *op
	stamps []int64
	no     *refusal
	left   []int64
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
	if s.pending == nil {
		s.resolve(func(o *op) bool { return o.pointless(s.limits) })
	}
	late := func(o *op) bool { return time.Since(o.since) > settleFor }
	if slices.ContainsFunc(s.queue, late) {
		s.limiter.log.Warn("quota settlement given up", "scope", s.key.Partition, "error", s.lastErr)
		s.resolve(late)
	}
	if len(s.queue) > 0 {
		return true
	}
	if s.pending != nil {
		s.pending, s.cached = nil, nil
	}
	s.running = false
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
	makes := slices.ContainsFunc(batch, func(o *op) bool { return o.final == nil })
	if s.cached == nil || makes && time.Since(s.cached.read) > freshFor {
		if !s.load() {
			return
		}
	}
	c := s.decide(batch)
	if c.refuses && time.Since(s.cached.read) > refusalMemory {
		s.load()
		return
	}
	if !c.dirty {
		s.finish(c)
		return
	}
	s.pending = c
	s.send()
}

// decide applies a batch to the newest reading.
func (s *scope) decide(batch []*op) *change {
	c := &change{base: s.cached, next: s.cached.clone()}
	c.next.advance(s.limiter.now())
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range batch {
		d := decision{op: o}
		switch {
		case o.final != nil:
			c.dirty = c.next.adjust(s.limits, o.deltas(s.limits), o.hold.stamps) || c.dirty
		case o.hold.over:
			continue
		default:
			d.stamps, d.no = c.next.admit(s.limits, o.hold.amounts)
			c.dirty = c.dirty || d.no == nil && slices.ContainsFunc(o.hold.amounts, func(n int64) bool { return n != 0 })
			c.refuses = c.refuses || d.no != nil
			for _, l := range s.limits {
				d.left = append(d.left, c.next.counter(l).left(l))
			}
		}
		c.decisions = append(c.decisions, d)
	}
	c.id = s.limiter.nextID()
	c.next.wrote(c.id)
	c.next.prune()
	return c
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
	s.cached, s.failures = r, 0
	return true
}

// reconcile finds out by reading what became of the pending change.
func (s *scope) reconcile() {
	if !s.load() {
		return
	}
	c, now := s.pending, s.cached
	since := now.writes - c.base.writes
	switch {
	case slices.Contains(now.ids, c.id):
		s.finish(c)
	case now.exists == c.base.exists && now.rev == c.base.rev:
		// Not applied, but it may still be under way: only the same bytes may be sent.
		s.pause(&s.losses, 4*time.Millisecond, 32*time.Millisecond)
		s.send()
	case since >= 1 && since <= remembered:
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
}

// finish tells everybody what a change that is now certain did for them.
func (s *scope) finish(c *change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending, s.losses, s.failingUntil = nil, 0, time.Time{}
	for _, d := range c.decisions {
		o := d.op
		o.gone = true
		switch {
		case o.final != nil:
			o.say(granted{})
		case d.no != nil:
			o.say(granted{err: refused(*d.no)})
		default:
			o.hold.charged, o.hold.stamps = true, d.stamps
			o.say(granted{left: d.left})
		}
	}
	s.queue = slices.DeleteFunc(s.queue, func(o *op) bool { return o.gone })
}

// contended lets go, after a lost race, of those who waited long enough, and pauses.
func (s *scope) contended() {
	s.mu.Lock()
	s.resolve(func(o *op) bool {
		if o.final != nil || time.Since(o.since) < softWait {
			return false
		}
		if s.hard {
			o.say(granted{err: contended(s.firstHard())})
		} else {
			o.say(granted{unsure: true})
		}
		return true
	})
	s.mu.Unlock()
	s.pause(&s.losses, 4*time.Millisecond, 32*time.Millisecond)
}

// failed notes that the store is away, lets soft holds go on without it, and pauses.
func (s *scope) failed(err error) {
	s.mu.Lock()
	if s.failures == 0 {
		s.limiter.log.Warn("quota store failed", "scope", s.key.Partition, "error", err)
	}
	s.lastErr = err
	s.failingUntil = time.Now().Add(failingFor)
	if !s.hard {
		for _, o := range s.queue {
			if o.final == nil {
				o.say(granted{unsure: true})
				o.gone = !s.isPending(o)
			}
		}
		s.queue = slices.DeleteFunc(s.queue, func(o *op) bool { return o.gone })
	}
	s.mu.Unlock()
	s.pause(&s.failures, 20*time.Millisecond, 500*time.Millisecond)
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
