package proxy

import (
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/openai"
)

// eventStream writes events to the client. After each heartbeat of silence it writes a
// comment from a goroutine of its own, so mu guards everything below it. Comments stand
// only between events.
type eventStream struct {
	w         http.ResponseWriter
	r         *http.Request
	control   *http.ResponseController
	kind      openai.Kind
	heartbeat time.Duration

	mu      sync.Mutex
	started bool
	stopped bool // no more heartbeats
	failed  bool // the client takes no more
	beat    *time.Timer
}

var (
	comment           = []byte(": keep-alive\n\n")
	eventStreamHeader = http.Header{"Content-Type": {"text/event-stream; charset=utf-8"}, "Cache-Control": {"no-cache"}}
)

func newEventStream(w http.ResponseWriter, r *http.Request, kind openai.Kind, heartbeat time.Duration) *eventStream {
	return &eventStream{w: w, r: r, control: http.NewResponseController(w), kind: kind, heartbeat: heartbeat}
}

// beginAfter begins the stream with a comment if nothing has begun it by then, so that no
// proxy on the way gives the connection up. ready is called first and may forbid it.
func (s *eventStream) beginAfter(wait time.Duration, ready func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beat = time.AfterFunc(wait, func() {
		if ready() != nil {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.stopped {
			s.startLocked(http.StatusOK, eventStreamHeader)
			s.writeLocked(comment)
		}
	})
}

// start sends the status and the headers, unless the stream has begun.
func (s *eventStream) start(status int, h http.Header) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.startLocked(status, h)
}

func (s *eventStream) startLocked(status int, h http.Header) {
	if s.started {
		return
	}
	s.started = true
	copyDownstream(s.w.Header(), h, s.r)
	s.w.Header().Set("X-Accel-Buffering", "no")
	s.w.WriteHeader(status)
}

// write sends b at once and sets the next heartbeat.
func (s *eventStream) write(b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writeLocked(b)
	if s.failed {
		return errClientWrite
	}
	return nil
}

func (s *eventStream) writeLocked(b []byte) {
	if _, err := s.w.Write(b); err != nil {
		s.failed = true
		return
	}
	if err := s.control.Flush(); err != nil {
		s.failed = true
		return
	}
	s.scheduleLocked()
}

func (s *eventStream) scheduleLocked() {
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
		if !s.stopped && !s.failed {
			s.writeLocked(comment)
		}
	})
}

// stop ends the heartbeats for good and reports whether the stream has begun.
func (s *eventStream) stop() (begun bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	if s.beat != nil {
		s.beat.Stop()
	}
	return s.started
}

// fail writes one error event in the form that the operation's clients know.
func (s *eventStream) fail(err error) {
	code, message := "server_error", "The answer could not be completed."
	if e, ok := errors.AsType[*gateway.Error](err); ok {
		code, message = e.Code, e.Message
	}
	event := []byte("data: ")
	body, _ := json.Marshal(map[string]any{"error": map[string]any{"code": code, "type": "server_error", "param": nil, "message": message}})
	if s.kind == openai.Responses {
		event = []byte("event: error\ndata: ")
		body, _ = json.Marshal(map[string]any{"type": "error", "code": code, "param": nil, "message": message})
	}
	_ = s.write(append(append(event, body...), "\n\n"...))
}
