package sse

import (
	"net/http"
	"sync"
	"time"
)

// Writer sends a stream to a client. After each heartbeat of silence it sends a comment
// from a goroutine of its own. Comments stand only between events, because every Write is
// one or more whole events.
type Writer struct {
	w         http.ResponseWriter
	control   *http.ResponseController
	heartbeat time.Duration

	mu      sync.Mutex
	started bool
	stopped bool // no more heartbeats
	err     error
	beat    *time.Timer
}

var comment = []byte(": keep-alive\n\n")

// NewWriter returns a Writer that has sent nothing yet.
func NewWriter(w http.ResponseWriter, heartbeat time.Duration) *Writer {
	return &Writer{w: w, control: http.NewResponseController(w), heartbeat: heartbeat}
}

// BeginAfter begins the stream with a comment if nothing has started it by then, so that no
// proxy on the way gives the connection up. ready is called first and may forbid it.
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

// Begin sends the status and the headers that fill sets, unless the stream has started.
func (s *Writer) Begin(status int, fill func(http.Header)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begin(status, fill)
}

// Write sends b at once and sets the next heartbeat. After an error the client takes no more.
func (s *Writer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.write(b); s.err != nil {
		return 0, s.err
	}
	return len(b), nil
}

// Stop ends the heartbeats for good and reports whether the stream has started.
func (s *Writer) Stop() (started bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	if s.beat != nil {
		s.beat.Stop()
	}
	return s.started
}

// The methods below are called with mu held.

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
