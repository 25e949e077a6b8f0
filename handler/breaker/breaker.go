// Package breaker keeps a backend that refuses or fails out of the way for a while.
//
//	Closed ──trip──► Open(until) ──time──► HalfOpen, one probe ──success──► Closed
//	                     ▲                        └──failure──► Open
//
// It trips at once when it is told to; else after some failures within a window, if they
// came in a row or are a large share of the calls. Results that belong to an older state change nothing:
// a slow success from before the trip must not close the breaker.
package breaker

import (
	"sync"
	"time"
)

// State is where a breaker stands.
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

// MaxOpen caps how long anyone, a hostile Retry-After included, can keep a breaker open.
const MaxOpen = 5 * time.Minute

// Options tune a Breaker; the zero value means the defaults.
type Options struct {
	Failures int           // how many within Window it takes to trip; default 3
	Rate     float64       // share of the calls within Window that trips, if they came not in a row; default 0.5
	Window   time.Duration // default 10 s
	Cooldown time.Duration // how long it stays open when nobody named a time; default 10 s
}

func (o Options) withDefaults() Options {
	if o.Failures == 0 {
		o.Failures = 3
	}
	if o.Rate == 0 {
		o.Rate = 0.5
	}
	if o.Window == 0 {
		o.Window = 10 * time.Second
	}
	if o.Cooldown == 0 {
		o.Cooldown = 10 * time.Second
	}
	return o
}

// Breaker guards one backend. Safe for concurrent use.
type Breaker struct {
	options Options

	mu        sync.Mutex
	state     State
	until     time.Time
	throttled bool   // the last trip was a refusal for load, not a failure
	epoch     uint64 // counts state changes
	window    rollingWindow
	probing   bool
}

// New returns a closed breaker.
func New(o Options) *Breaker { return &Breaker{options: o.withDefaults()} }

// Change is what a word to a breaker did to its state; most words change nothing.
type Change struct{ From, To State }

// Happened tells whether the state is another one.
func (c Change) Happened() bool { return c.From != c.To }

// Pass is the leave to make one attempt. Exactly one of its methods is called once.
type Pass struct {
	Change // brought about by giving leave: the first probe makes an open breaker half-open

	b     *Breaker
	epoch uint64
}

// Allow gives leave for one attempt; while half-open, to one attempt at a time.
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

// Ready says whether Allow would give leave now, and takes nothing.
func (b *Breaker) Ready() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state == Closed || !time.Now().Before(b.until) && !b.probing
}

// Status tells the state, how long it stays open, and whether load tripped it.
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

// Learn opens the breaker for as long as others found out that it should be; it never
// shortens what this process knows itself.
func (b *Breaker) Learn(wait time.Duration, throttled bool) Change {
	return b.update(func() { b.learn(wait, throttled) })
}

// told takes one word in and says what it changed.
func (b *Breaker) update(word func()) Change {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.state
	word()
	return Change{before, b.state}
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

// Success reports an attempt that the backend answered.
func (p Pass) Success() Change { return p.b.update(p.success) }

func (p Pass) success() {
	b := p.b
	switch {
	case p.epoch != b.epoch:
	case b.state == HalfOpen:
		b.enter(Closed)
	default:
		b.window.add(time.Now(), b.options.Window, false)
	}
}

// Forget reports an attempt that says nothing about the backend: the client left.
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
	b.window.add(time.Now(), b.options.Window, true)
	calls, failures := b.window.sum()
	if b.window.consecutive >= b.options.Failures || failures >= b.options.Failures && float64(failures) >= b.options.Rate*float64(calls) {
		b.trip(b.options.Cooldown, false)
	}
}

// Trip opens the breaker at once: for wait, or the cooldown when wait is 0. throttled
// says that load was the reason. A trip of an older state only extends an open one.
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
	if until := time.Now().Add(min(wait, MaxOpen)); until.After(b.until) {
		b.until = until
	}
}

func (b *Breaker) enter(s State) {
	b.state = s
	b.epoch++
	b.probing = false
	b.window = rollingWindow{}
}
