package loganalytics

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// Do says what a fault does.
type Do string

// The faults.
const (
	DoStatus Do = "status" // answer Status
	DoClose  Do = "close"  // break the connection off before anything is stored
	DoLost   Do = "lost"   // store the rows, then break off without an answer
	DoHang   Do = "hang"   // nothing for Millis, then break off
)

// Fault is one order to misbehave.
type Fault struct {
	Do          Do      `json:"do"`
	Match       string  `json:"match,omitempty"`       // strikes only calls with this text in their rows
	Times       int     `json:"times,omitempty"`       // calls it still strikes; 0 = until cleared
	Probability float64 `json:"probability,omitempty"` // 0 = always
	Status      int     `json:"status,omitempty"`
	RetryAfter  int     `json:"retryAfter,omitempty"` // seconds
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

// Fault puts f in force.
func (s *Sink) Fault(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &f)
}

// ClearFaults makes the sink kind again.
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

// strike uses up one call of the first fault that applies to these rows.
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

// before does what a fault does before the rows are looked at, and says whether that was all.
func (f *Fault) before(w http.ResponseWriter, r *http.Request) bool {
	switch f.Do {
	case DoStatus:
		if f.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(f.RetryAfter))
		}
		reply(w, f.Status, failure("Fault", http.StatusText(f.Status)))
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

// abort breaks the connection off.
func abort(w http.ResponseWriter) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = conn.Close()
	}
}
