// Package breaker keeps a backend that refuses or fails out of the way for a while.
//
//	Closed ──trip──► Open(until) ──time──► HalfOpen, one probe ──success──► Closed
//	                     ▲                        └──failure──► Open
//
// It trips at once where the caller says so. Otherwise it trips after some failures within
// a window, if they came in a row or are a large share of the calls. Results that belong to
// an older state change nothing: a slow success from before the trip must not close the
// breaker.
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

// maxOpen caps how long one report, such as a hostile Retry-After, keeps a breaker open.
const maxOpen = 5 * time.Minute

// Options tune a Breaker; the zero value means the defaults.
type Options struct {
	Failures int           // how many within Window trip it; default 3
	Rate     float64       // share of the calls within Window that trips it, if they did not come in a row; default 0.5
	Window   time.Duration // default 10 s
	Cooldown time.Duration // how long it stays open when no time was named; default 10 s
}

func (o Options) withDefaults() Options {
	o.Failures = cmp.Or(o.Failures, 3)
	o.Rate = cmp.Or(o.Rate, 0.5)
	o.Window = cmp.Or(o.Window, 10*time.Second)
	o.Cooldown = cmp.Or(o.Cooldown, 10*time.Second)
	return o
}

// Breaker guards one backend. Safe for concurrent use.
type Breaker struct {
	options Options

	mu        sync.Mutex
	state     State
	until     time.Time
	throttled bool   // the last trip was because of throttling, not of a failure
	epoch     uint64 // counts state changes
	window    rollingWindow
	probing   bool
}

// New returns a closed breaker.
func New(o Options) *Breaker { return &Breaker{options: o.withDefaults()} }

// Change is the state transition that a report caused. From and To are equal if there was none.
type Change struct{ From, To State }

// Happened reports whether the state changed.
func (c Change) Happened() bool { return c.From != c.To }

// Pass is the permission for one attempt. Exactly one of its methods must be called, once.
type Pass struct {
	Change // caused by the permission: the first probe makes an open breaker half-open

	b     *Breaker
	epoch uint64
}

// Allow permits one attempt. While the breaker is half-open it permits one at a time.
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

// Ready reports whether Allow would permit an attempt now. It takes nothing.
func (b *Breaker) Ready() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state == Closed || !time.Now().Before(b.until) && !b.probing
}

// Status returns the state, how long the breaker stays open, and whether throttling tripped it.
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

// update applies a report and returns what it changed.
func (b *Breaker) update(report func()) Change {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.state
	report()
	return Change{before, b.state}
}

// Learn opens the breaker for as long as another process found that it should be open. It
// never shortens the time that this process knows.
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

// Success reports that the backend answered.
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

// Forget reports an attempt that says nothing about the backend, such as one whose client left.
func (p Pass) Forget() {
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	if p.epoch == p.b.epoch {
		p.b.probing = false
	}
}

// Fail reports a failure; enough of them trip the breaker.
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
// says that throttling was the reason. A trip of an older state only extends an open breaker.
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
