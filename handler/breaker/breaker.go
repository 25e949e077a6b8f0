// Package breaker keeps requests away from a backend that refuses them or fails. A breaker
// is closed while requests pass, open while none passes, and half-open while one probe is
// tried:
//
//	Closed ──trip──► Open(until) ──time──► HalfOpen, one probe ──success──► Closed
//	                     ▲                        └──failure──► Open
//
// The caller can trip a breaker at once. Otherwise it trips after several failures within a
// window, if they came in a row or are a large share of the calls. A result of an attempt
// that began in an earlier state changes nothing: a slow success from before the trip must
// not close the breaker.
package breaker

import (
	"cmp"
	"sync"
	"time"
)

// State is the state of a breaker.
type State int

// The states.
const (
	Closed State = iota
	Open
	HalfOpen
)

func (s State) String() string {
	return [...]string{"closed", "open", "half-open"}[s]
}

// maxOpen limits how long one report keeps a breaker open, so that an extreme Retry-After
// does no harm.
const maxOpen = 5 * time.Minute

// Options tune a Breaker. A zero value means the default.
type Options struct {
	Failures int           // failures within Window that trip it; default 3
	Rate     float64       // share of failed calls within Window that trips it, if the failures did not come in a row; default 0.5
	Window   time.Duration // default 10 s
	Cooldown time.Duration // how long it stays open when the caller names no time; default 10 s
}

func (o Options) withDefaults() Options {
	o.Failures = cmp.Or(o.Failures, 3)
	o.Rate = cmp.Or(o.Rate, 0.5)
	o.Window = cmp.Or(o.Window, 10*time.Second)
	o.Cooldown = cmp.Or(o.Cooldown, 10*time.Second)
	return o
}

// Breaker guards one backend: it says whether a request may be sent there. Safe for
// concurrent use.
type Breaker struct {
	options Options

	mu        sync.Mutex
	state     State
	until     time.Time
	throttled bool   // true = throttling caused the last trip, false = a failure
	epoch     uint64 // number of state changes so far
	window    rollingWindow
	probing   bool
}

// New returns a closed breaker.
func New(o Options) *Breaker { return &Breaker{options: o.withDefaults()} }

// Change is the state change that a report caused. From and To are equal if it caused none.
type Change struct{ From, To State }

// Happened reports whether the state changed.
func (c Change) Happened() bool { return c.From != c.To }

// Pass is the permission to make one attempt. Its owner must report the result with exactly
// one call of one of its methods.
type Pass struct {
	Change // the change that Allow caused: the first probe makes an open breaker half-open

	b     *Breaker
	epoch uint64
}

// Allow gives permission for one attempt, or returns false. While the breaker is half-open
// it permits one attempt at a time.
func (b *Breaker) Allow() (Pass, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.state
	if b.state == Open && !time.Now().Before(b.until) {
		b.enter(HalfOpen)
	}
	if b.state == Open || b.state == HalfOpen && b.probing {
		return Pass{}, false
	}
	b.probing = b.state == HalfOpen
	return Pass{Change{before, b.state}, b, b.epoch}, true
}

// Ready reports whether Allow would give permission now. It does not change the breaker.
func (b *Breaker) Ready() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state == Closed || !time.Now().Before(b.until) && !b.probing
}

// Status returns the state, how long the breaker will stay open, and whether throttling
// caused the last trip.
func (b *Breaker) Status() (state State, wait time.Duration, throttled bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	state = b.state
	if wait = time.Until(b.until); state != Open || wait < 0 {
		wait = 0
	}
	if state == Open && wait == 0 {
		state = HalfOpen
	}
	return state, wait, b.throttled
}

// update applies a report and returns the change that it caused.
func (b *Breaker) update(report func()) Change {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.state
	report()
	return Change{before, b.state}
}

// Learn opens the breaker for wait, because another process found it should be open. It
// never shortens the time for which the breaker is open already.
func (b *Breaker) Learn(wait time.Duration, throttled bool) Change {
	return b.update(func() { b.learn(wait, throttled) })
}

func (b *Breaker) learn(wait time.Duration, throttled bool) {
	switch {
	case wait <= 0:
	case b.state == Open && time.Now().Before(b.until):
		b.extend(wait)
	default:
		b.trip(wait, throttled)
	}
}

// Success reports that the backend answered the attempt.
func (p Pass) Success() Change { return p.b.update(p.success) }

func (p Pass) success() {
	b := p.b
	switch {
	case p.epoch != b.epoch:
	case b.state == HalfOpen:
		b.enter(Closed)
	default:
		b.window.success(time.Now(), b.options.Window)
	}
}

// Forget reports that the attempt says nothing about the backend, for example because the
// client left.
func (p Pass) Forget() {
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	if p.epoch == p.b.epoch {
		p.b.probing = false
	}
}

// Fail reports that the attempt failed. Several failures trip the breaker.
func (p Pass) Fail() Change { return p.b.update(p.fail) }

func (p Pass) fail() {
	b := p.b
	if p.epoch != b.epoch {
		return
	}
	if b.state == HalfOpen {
		b.trip(b.options.Cooldown, false)
		return
	}
	b.window.failure(time.Now(), b.options.Window)
	calls, failures := b.window.sum()
	if b.window.consecutive >= b.options.Failures || failures >= b.options.Failures && float64(failures) >= b.options.Rate*float64(calls) {
		b.trip(b.options.Cooldown, false)
	}
}

// Trip opens the breaker at once: for wait, or for the cooldown if wait is 0. throttled
// says whether throttling was the reason. If the attempt began in an earlier state, Trip
// can only extend the time of an open breaker.
func (p Pass) Trip(wait time.Duration, throttled bool) Change {
	return p.b.update(func() { p.trip(wait, throttled) })
}

func (p Pass) trip(wait time.Duration, throttled bool) {
	b := p.b
	if wait <= 0 {
		wait = b.options.Cooldown
	}
	switch {
	case p.epoch == b.epoch:
		b.trip(wait, throttled)
	case b.state == Open:
		b.extend(wait)
	}
}

func (b *Breaker) trip(wait time.Duration, throttled bool) {
	b.enter(Open)
	b.throttled = throttled
	b.until = time.Time{}
	b.extend(wait)
}

func (b *Breaker) extend(wait time.Duration) {
	if until := time.Now().Add(min(wait, maxOpen)); until.After(b.until) {
		b.until = until
	}
}

func (b *Breaker) enter(s State) {
	b.state = s
	b.epoch++
	b.probing = false
	b.window = rollingWindow{}
}
