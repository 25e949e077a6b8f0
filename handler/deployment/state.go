// Package deployment decides whether requests may go to a deployment in a region. It is a
// pure state machine: every method gets the time, and none waits.
//
// A deployment is throttled after the region refused a request because of its limits. A
// refusal says only that a request of that size did not fit, so smaller requests go on. It
// is unavailable when several requests could not be answered, and neither one request nor
// one caller explains that.
//
// No state ends with a probe that others wait for. When the time of a closing is over, a
// growing number of requests is let through; requests beyond it go elsewhere if they can.
package deployment

import (
	"slices"
	"time"
)

// Access says whether a request may go to a deployment, from best to worst.
type Access int

// The values of Access. Only Refused forbids a request; the others between Open and Refused
// say that any other region is better.
const (
	Open        Access = iota
	Recovering         // was closed until a short time ago, and has enough requests to show whether it works
	Unavailable        // does not answer
	Throttled          // refuses requests of this size, for a time that the region did not state
	Refused            // refuses requests of this size until a time that the region stated
)

// The reasons of a Closing.
const (
	WhyThrottled   = "throttled"
	WhyUnavailable = "unavailable"
)

// Sent describes one request that was sent to the deployment.
type Sent struct {
	At   time.Time
	Size int64 // tokens that the region deducts from its limit when the request arrives; 0 = unknown
}

// Closing is what instances tell each other: requests of at least Size should not be sent
// before Until.
type Closing struct {
	Why   string    `json:"why"`
	Size  int64     `json:"size,omitempty"`
	Until time.Time `json:"until"`
}

// State is what an instance knows about a deployment. The zero value is open. It is not
// safe for concurrent use.
type State struct {
	throttles []*closing // sorted by size; a larger size is closed longer
	outage    *closing   // nil = available
	failures  failures
	announced Access // what the last Change said: Open, Unavailable or Throttled
}

// Access says whether a request of this size may be sent now.
func (s *State) Access(now time.Time, size int64) Access {
	access := Open
	for _, c := range s.throttles {
		if c.size > size {
			break
		}
		access = max(access, c.access(now, Throttled))
	}
	if s.outage != nil {
		access = max(access, s.outage.access(now, Unavailable))
	}
	return access
}

// Admit counts a request that is about to be sent.
func (s *State) Admit(now time.Time, size int64) {
	for _, c := range s.throttles {
		if c.size <= size && !now.Before(c.until) {
			c.admitted++
		}
	}
	if s.outage != nil && !now.Before(s.outage.until) {
		s.outage.admitted++
	}
}

// Answered says that the region answered a request, which is a sign that requests of that
// size are served. A response header is enough; nobody waits for the rest.
func (s *State) Answered(now time.Time, sent Sent) Change {
	s.failures.success(now)
	s.throttles = slices.DeleteFunc(s.throttles, func(c *closing) bool { return c.size <= sent.Size && c.sign(now, sent) })
	if s.outage != nil && s.outage.sign(now, sent) {
		s.outage = nil
	}
	return s.change(now, "it answers")
}

// Learn adds what another instance found.
func (s *State) Learn(now time.Time, c Closing) Change {
	until := minTime(c.Until, now.Add(maxWait))
	switch {
	case !until.After(now):
	case c.Why == WhyThrottled:
		s.throttle(&closing{size: c.Size, since: now, until: until, stated: until})
	case c.Why == WhyUnavailable && (s.outage == nil || s.outage.until.Before(until)):
		s.outage = &closing{outage: true, since: now, until: until}
	}
	return s.change(now, "reported by another instance")
}

// Status describes the state, for operators.
type Status struct {
	Access Access // Open, Unavailable or Throttled
	Size   int64  // throttled: the smallest size that is refused; 0 = all sizes
	Since  time.Time
	Until  time.Time
}

// Status returns the present state. Throttling is named before an outage.
func (s *State) Status(now time.Time) Status {
	for _, c := range s.throttles {
		if now.Before(c.until) {
			return Status{Throttled, c.size, c.since, c.until}
		}
	}
	if s.outage != nil && now.Before(s.outage.until) {
		return Status{Unavailable, 0, s.outage.since, s.outage.until}
	}
	return Status{}
}

// Until returns when requests of this size may be sent again. It is not after now if they
// may be sent now.
func (s *State) Until(now time.Time, size int64) time.Time {
	until := now
	for _, c := range s.throttles {
		if c.size <= size && c.until.After(until) {
			until = c.until
		}
	}
	if s.outage != nil && s.outage.until.After(until) {
		until = s.outage.until
	}
	return until
}

// Change is the change of state that an event caused. From and To are equal if it caused
// none.
type Change struct {
	From, To Access
	Status   Status
	Evidence string
}

// Happened reports whether the state changed.
func (c Change) Happened() bool { return c.From != c.To }

// change compares the state with the one that was announced last.
func (s *State) change(now time.Time, evidence string) Change {
	status := s.Status(now)
	c := Change{From: s.announced, To: status.Access, Status: status, Evidence: evidence}
	s.announced = status.Access
	return c
}

func (a Access) String() string {
	return [...]string{"open", "recovering", "unavailable", "throttled", "throttled"}[a]
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
