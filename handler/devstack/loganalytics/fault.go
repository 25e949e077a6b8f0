package loganalytics

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// Do is what a fault does.
type Do string

// The values of Do.
const (
	DoStatus Do = "status" // answer with Status
	DoClose  Do = "close"  // close the connection before rows are stored
	DoLost   Do = "lost"   // store the rows, then close the connection without an answer
	DoHang   Do = "hang"   // wait for Millis, then close the connection
)

// Fault makes the stand-in fail in one way.
type Fault struct {
	Do          Do      `json:"do"`
	Match       string  `json:"match,omitempty"`       // applies only to calls whose rows contain this text
	Times       int     `json:"times,omitempty"`       // number of further calls it applies to; 0 = all until cleared
	Probability float64 `json:"probability,omitempty"` // of applying to a call; 0 = always
	Status      int     `json:"status,omitempty"`
	Code        string  `json:"code,omitempty"`       // error code of the answer; default "Fault"
	RetryAfter  int     `json:"retryAfter,omitempty"` // seconds in the header Retry-After
	Millis      int     `json:"millis,omitempty"`
}

func (f Fault) check() error {
	switch {
	case f.Do == DoStatus && (f.Status < 400 || f.Status > 599):
		return fmt.Errorf("status: %d is not between 400 and 599", f.Status)
	case !slices.Contains([]Do{DoStatus, DoClose, DoLost, DoHang}, f.Do):
		return errNoFault
	}
	return nil
}

// Fault activates f.
func (s *Sink) Fault(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &f)
}

// ClearFaults removes all faults.
func (s *Sink) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

func (s *Sink) inForce() []Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []Fault{}
	for _, f := range s.faults {
		list = append(list, *f)
	}
	return list
}

// strike returns the first fault that applies to these rows, or nil. It counts the call as
// one use of the fault.
func (s *Sink) strike(rows []byte) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range s.faults {
		if f.Probability > 0 && rand.Float64() >= f.Probability || !bytes.Contains(rows, []byte(f.Match)) {
			continue
		}
		struck := *f
		if f.Times == 1 {
			s.faults = slices.Delete(s.faults, i, i+1)
		} else if f.Times > 1 {
			f.Times--
		}
		return &struck
	}
	return nil
}

// before applies the part of a fault that comes before the rows are read. It returns true
// if the call needs no further answer.
func (f *Fault) before(w http.ResponseWriter, r *http.Request) bool {
	switch f.Do {
	case DoStatus:
		if f.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(f.RetryAfter))
		}
		reply(w, f.Status, failure(cmp.Or(f.Code, "Fault"), http.StatusText(f.Status)))
	case DoHang:
		select {
		case <-time.After(time.Duration(f.Millis) * time.Millisecond):
		case <-r.Context().Done():
		}
		abort(w)
	case DoClose:
		abort(w)
	case DoLost:
		return false
	}
	return true
}

// abort closes the connection without an answer.
func abort(w http.ResponseWriter) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = conn.Close()
	}
}
