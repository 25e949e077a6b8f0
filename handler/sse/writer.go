package sse

import (
	"net/http"
	"sync"
	"time"
)

// Writer sends a stream to a client. If nothing was sent for a heartbeat's time, a
// goroutine sends a comment. Comments can stand only between events, because every Write
// has one or more whole events.
type Writer struct {
	w         http.ResponseWriter
	control   *http.ResponseController
	heartbeat time.Duration

	mu      sync.Mutex
	started bool
	stopped bool // no more comments are sent
	err     error
	beat    *time.Timer
}

var comment = []byte(": keep-alive\n\n")

// NewWriter returns a Writer that has not sent anything yet.
func NewWriter(w http.ResponseWriter, heartbeat time.Duration) *Writer {
	return &Writer{w: w, control: http.NewResponseController(w), heartbeat: heartbeat}
}

// BeginAfter begins the stream with a comment if nothing was sent within wait, so that no
// proxy on the way closes the connection. It calls ready first, and does not begin the
// stream if ready returns false.
func (s *Writer) BeginAfter(wait time.Duration, ready func() bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beat = time.AfterFunc(wait, func() {
		if !ready() {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.stopped {
			s.begin(http.StatusOK, func(h http.Header) {
				h.Set("Content-Type", "text/event-stream; charset=utf-8")
				h.Set("Cache-Control", "no-cache")
			})
			s.write(comment)
		}
	})
}

// Begin sends the status and the headers that fill sets. It does nothing if the stream has
// begun already.
func (s *Writer) Begin(status int, fill func(http.Header)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begin(status, fill)
}

// Write sends b at once and restarts the heartbeat. An error means that the client receives
// no more.
func (s *Writer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.write(b); s.err != nil {
		return 0, s.err
	}
	return len(b), nil
}

// Stop ends the heartbeats permanently. It reports whether the stream has begun.
func (s *Writer) Stop() (started bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	if s.beat != nil {
		s.beat.Stop()
	}
	return s.started
}

// The methods below require that the caller has locked mu.

func (s *Writer) begin(status int, fill func(http.Header)) {
	if s.started {
		return
	}
	s.started = true
	fill(s.w.Header())
	s.w.Header().Set("X-Accel-Buffering", "no")
	s.w.WriteHeader(status)
}

func (s *Writer) write(b []byte) {
	if _, err := s.w.Write(b); err != nil {
		s.err = err
		return
	}
	if err := s.control.Flush(); err != nil {
		s.err = err
		return
	}
	s.schedule()
}

func (s *Writer) schedule() {
	if s.stopped {
		return
	}
	if s.beat != nil {
		s.beat.Reset(s.heartbeat)
		return
	}
	s.beat = time.AfterFunc(s.heartbeat, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.stopped && s.err == nil {
			s.write(comment)
		}
	})
}
