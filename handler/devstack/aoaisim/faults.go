package aoaisim

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// Do says what a fault does.
type Do string

// The faults. Those marked (modifier) join with others on one request.
const (
	DoStatus     Do = "status"      // answer Status with Headers and Body
	DoHang       Do = "hang"        // accept the request, send nothing until Millis passed (0 = until cleared)
	DoHangEvent  Do = "hang-event"  // send the headers, then as DoHang, before the first event
	DoReset      Do = "reset"       // TCP reset before any header
	DoResetEvent Do = "reset-event" // headers, then TCP reset before the first event or body byte
	DoResetBody  Do = "reset-body"  // TCP reset half way through a JSON body
	DoCutReset   Do = "cut-reset"   // TCP reset after After events
	DoCutFin     Do = "cut-fin"     // the connection closed after After events, the body left unfinished
	DoCutEnd     Do = "cut-end"     // a well-formed end of the body after After events, without the terminal event
	DoMalformed  Do = "malformed"   // event number After is broken JSON
	DoError      Do = "error-event" // event number After is an error, and the last
	DoRefuse     Do = "refuse"      // no connection is accepted for Millis (0 = until cleared); ignores Times and Deployment
	DoSlow       Do = "slow"        // (modifier) Millis before each event, or once before a JSON body
	DoSplit      Do = "split"       // (modifier) the body in pieces of at most Bytes bytes
	DoStep       Do = "step"        // (modifier) each event waits for a step
)

// Fault is one order to misbehave.
type Fault struct {
	ID          int               `json:"id"` // given by the region
	Do          Do                `json:"do"`
	Times       int               `json:"times,omitempty"`       // requests it still strikes; 0 = until cleared
	Probability float64           `json:"probability,omitempty"` // 0 = always
	Deployment  string            `json:"deployment,omitempty"`  // empty = all
	Status      int               `json:"status,omitempty"`
	Headers     map[string]string `json:"headers,omitempty"`
	Body        string            `json:"body,omitempty"` // empty = the service's words for Status
	After       int               `json:"after,omitempty"`
	Millis      int               `json:"millis,omitempty"`
	Bytes       int               `json:"bytes,omitempty"`
}

func (f Fault) wait() time.Duration { return time.Duration(f.Millis) * time.Millisecond }

// plan is what the faults in force add up to for one request.
type plan struct {
	status     *Fault
	hang       *Fault
	hangEvent  *Fault
	reset      bool
	earlyReset bool
	bodyCut    bool
	cut        Do // empty = none
	cutAfter   int
	malformed  int // event number, -1 = none
	failing    int // event number, -1 = none
	slow       time.Duration
	split      int
	step       bool
	released   <-chan struct{} // closed when the faults are cleared
	steps      <-chan struct{}
}

func (p *plan) add(f *Fault) {
	switch f.Do {
	case DoStatus:
		p.status = f
	case DoHang:
		p.hang = f
	case DoHangEvent:
		p.hangEvent = f
	case DoReset:
		p.reset = true
	case DoResetEvent:
		p.earlyReset = true
	case DoResetBody:
		p.bodyCut = true
	case DoCutReset, DoCutFin, DoCutEnd:
		p.cut, p.cutAfter = f.Do, f.After
	case DoMalformed:
		p.malformed = f.After
	case DoError:
		p.failing = f.After
	case DoSlow:
		p.slow = f.wait()
	case DoSplit:
		p.split = max(1, f.Bytes)
	case DoStep:
		p.step = true
	case DoRefuse: // strikes the listener, not a request
	}
}

// known are the faults that can be asked for.
var known = []Do{
	DoStatus, DoHang, DoHangEvent, DoReset, DoResetEvent, DoResetBody, DoCutReset, DoCutFin, DoCutEnd,
	DoMalformed, DoError, DoRefuse, DoSlow, DoSplit, DoStep,
}

type faultSet struct {
	mu       sync.Mutex
	next     int
	faults   map[int]*Fault
	released chan struct{}
	steps    chan struct{}
}

const maxSteps = 1 << 16

func (s *faultSet) init() {
	s.faults = map[int]*Fault{}
	s.released = make(chan struct{})
	s.steps = make(chan struct{}, maxSteps)
}

func (s *faultSet) add(f Fault) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	f.ID = s.next
	s.faults[f.ID] = &f
	return f
}

func (s *faultSet) list() []Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []Fault{}
	for _, id := range slices.Sorted(maps.Keys(s.faults)) {
		out = append(out, *s.faults[id])
	}
	return out
}

// clear removes one fault, or all with id 0, and releases whoever hangs or waits for a step.
func (s *faultSet) clear(id int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id == 0 {
		clear(s.faults)
	}
	delete(s.faults, id)
	close(s.released)
	s.released = make(chan struct{})
	s.steps = make(chan struct{}, maxSteps)
}

func (s *faultSet) refusing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.faults {
		if f.Do == DoRefuse {
			return true
		}
	}
	return false
}

func (s *faultSet) step(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range min(n, maxSteps) {
		select {
		case s.steps <- struct{}{}:
		default:
		}
	}
}

// plan uses up one strike of each fault that applies.
func (s *faultSet) plan(deployment string, chance func(float64) bool) plan {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := plan{malformed: -1, failing: -1, released: s.released, steps: s.steps}
	for _, id := range slices.Sorted(maps.Keys(s.faults)) {
		f := s.faults[id]
		if f.Do == DoRefuse || f.Deployment != "" && f.Deployment != deployment || f.Probability > 0 && !chance(f.Probability) {
			continue
		}
		struck := *f
		p.add(&struck)
		if f.Times--; f.Times == 0 {
			delete(s.faults, id)
		} else if f.Times < 0 {
			f.Times = 0
		}
	}
	return p
}

// The unasked unkindness of a region that is not Kind.
const (
	throttleChance = 0.03
	resetChance    = 0.01
	cutChance      = 0.005
)

func (r *Region) unkind(p *plan) {
	switch {
	case r.chance(throttleChance):
		p.status = &Fault{Status: 429, Headers: map[string]string{"Retry-After": "1", "retry-after-ms": "500"}}
	case r.chance(resetChance):
		p.earlyReset = true
	case p.cut == "" && r.chance(cutChance):
		p.cut, p.cutAfter = DoCutReset, 5
	}
}
