package aoaisim

import (
	_ "embed"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"time"
)

// Do is what a fault does.
type Do string

// The values of Do. Faults marked (modifier) can be combined with others on one request.
const (
	DoStatus     Do = "status"      // answer Status with Headers and Body
	DoHang       Do = "hang"        // accept the request and send nothing for Millis (0 = until cleared)
	DoHangEvent  Do = "hang-event"  // send the headers, then send nothing for Millis (0 = until cleared), then the events
	DoReset      Do = "reset"       // TCP reset before the headers
	DoResetEvent Do = "reset-event" // send the headers, then TCP reset before the first event or byte of the body
	DoResetBody  Do = "reset-body"  // TCP reset after half of a JSON body
	DoCutReset   Do = "cut-reset"   // TCP reset after After events
	DoCutFin     Do = "cut-fin"     // close the connection after After events without the end of the body
	DoCutEnd     Do = "cut-end"     // end the body correctly after After events, but without the terminal event
	DoMalformed  Do = "malformed"   // event number After is invalid JSON
	DoError      Do = "error-event" // event number After is an error, and the last event
	DoRefuse     Do = "refuse"      // accept no connection for Millis (0 = until cleared); ignores Times and Deployment
	DoSlow       Do = "slow"        // (modifier) wait for Millis before each event, or once before a JSON body
	DoSplit      Do = "split"       // (modifier) send the body in pieces of at most Bytes bytes
	DoScenario   Do = "scenario"    // answer as Scenario says; requests of APIs that it has no file for are answered as usual
	DoStep       Do = "step"        // (modifier) before each event wait for a call of /control/step
)

// Fault makes a region fail in one way.
type Fault struct {
	ID          int               `json:"id"` // set by the region
	Do          Do                `json:"do"`
	Times       int               `json:"times,omitempty"`       // number of further requests it applies to; 0 = all until cleared
	Probability float64           `json:"probability,omitempty"` // of applying to a request; 0 = always
	Deployment  string            `json:"deployment,omitempty"`  // empty = all deployments
	Status      int               `json:"status,omitempty"`
	Headers     map[string]string `json:"headers,omitempty"`
	Body        string            `json:"body,omitempty"` // empty = the text of the real service for Status
	Scenario    string            `json:"scenario,omitempty"`
	After       int               `json:"after,omitempty"`
	Millis      int               `json:"millis,omitempty"`
	Bytes       int               `json:"bytes,omitempty"`
}

func (f Fault) wait() time.Duration { return time.Duration(f.Millis) * time.Millisecond }

// plan is the combined effect of all active faults on one request.
type plan struct {
	scenario   string
	status     *Fault
	hang       *Fault
	hangEvent  *Fault
	reset      bool
	earlyReset bool
	bodyCut    bool
	cut        Do // empty = the answer is not cut off
	cutAfter   int
	malformed  int // number of the event, -1 = none
	failing    int // number of the event, -1 = none
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
	case DoScenario:
		p.scenario = f.Scenario
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
	case DoRefuse: // applies to the listener, not to single requests
	}
}

// known are the possible values of Do.
var known = []Do{
	DoStatus, DoHang, DoHangEvent, DoReset, DoResetEvent, DoResetBody, DoCutReset, DoCutFin, DoCutEnd,
	DoMalformed, DoError, DoRefuse, DoSlow, DoSplit, DoScenario, DoStep,
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

// clear removes the fault with this id, or all faults if id is 0. It releases all requests
// that hang or wait for a step.
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

// plan returns the plan for a request. It counts the request as one use of each fault that
// applies.
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

// random has the faults of Options.Random. At most one of them strikes a request.
//
//go:embed random.json
var random []byte

var randomFaults = sync.OnceValue(func() (list []Fault) {
	if err := json.Unmarshal(random, &list); err != nil {
		panic(err) // the file is a part of the program
	}
	return list
})

func (r *Region) unkind(p *plan) {
	for _, f := range randomFaults() {
		if r.chance(f.Probability) {
			p.add(&f)
			return
		}
	}
}
