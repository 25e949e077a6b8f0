package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"aoaigateway/handler/backend"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/openai"
)

// stream writes to the client. The heartbeat writes from its own goroutine, so that
// everything below is guarded by mu; comments only ever stand between events.
type stream struct {
	s       *session
	control *http.ResponseController

	mu      sync.Mutex
	started bool
	ended   bool // no more heartbeats
	failed  bool // the client takes no more
	beat    *time.Timer
}

var (
	comment     = []byte(": keep-alive\n\n")
	eventStream = http.Header{"Content-Type": {"text/event-stream; charset=utf-8"}, "Cache-Control": {"no-cache"}}
)

func newStream(s *session) *stream {
	return &stream{s: s, control: http.NewResponseController(s.W)}
}

// beginAt begins the answer with a comment when the region has not by then, so that
// nobody on the way gives the connection up. Its begin record must be durable first.
func (o *stream) beginAt(ctx context.Context, after time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.beat = time.AfterFunc(after, func() {
		if o.s.Audit.BeginDurable(ctx) != nil {
			return
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		if !o.ended {
			o.start(http.StatusOK, eventStream)
			o.put(comment)
		}
	})
}

// start sends the status and headers, once; the caller holds mu.
func (o *stream) start(status int, h http.Header) {
	if o.started {
		return
	}
	o.started = true
	copyDownstream(o.s.W.Header(), h, o.s.R)
	o.s.W.Header().Set("X-Accel-Buffering", "no")
	o.s.W.WriteHeader(status)
}

// put writes and flushes and sets the next heartbeat; the caller holds mu.
func (o *stream) put(b []byte) {
	if _, err := o.s.W.Write(b); err != nil {
		o.failed = true
		return
	}
	if err := o.control.Flush(); err != nil {
		o.failed = true
		return
	}
	o.rest()
}

func (o *stream) rest() {
	if o.ended {
		return
	}
	if o.beat != nil {
		o.beat.Reset(o.s.options.Heartbeat)
		return
	}
	o.beat = time.AfterFunc(o.s.options.Heartbeat, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		if !o.ended && !o.failed {
			o.put(comment)
		}
	})
}

func (o *stream) write(b []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.put(b); o.failed {
		return errClientWrite
	}
	return nil
}

// stop ends the heartbeat for good and tells whether anything was sent.
func (o *stream) stop() (begun bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	if o.beat != nil {
		o.beat.Stop()
	}
	return o.started
}

func (s *session) runStream(ctx, client context.Context) error {
	out := newStream(s)
	defer out.stop()
	out.beginAt(client, s.options.StreamBeginAfter)
	answer, err := s.options.Pool.Do(ctx, &s.call)
	s.Record.Attempts = s.call.Attempts
	if err != nil {
		return s.streamRefused(client, out, s.orTimeout(ctx, err))
	}
	defer answer.Close()
	s.noteAnswer(answer)
	switch {
	case answer.Events != nil:
		return s.deliverStream(client, out, answer)
	case out.stop():
		return s.notAStream(client, out, answer)
	case answer.Rest != nil:
		return s.deliverLong(client, answer)
	default:
		return s.deliverWhole(client, answer)
	}
}

// streamRefused ends a stream that no region answered: as an ordinary error when nothing
// has left yet, else in band.
func (s *session) streamRefused(client context.Context, out *stream, err error) error {
	if !out.stop() {
		return err
	}
	s.Record.Status = http.StatusOK
	s.sendFailure(out, err)
	return s.abandon(client, err, false)
}

// notAStream ends a stream that had been begun when the region answered otherwise: with
// an error, as a rule, whose words the error event repeats.
func (s *session) notAStream(client context.Context, out *stream, a *backend.Answer) error {
	capture := s.Audit.Response(a.Header.Get("Content-Type"))
	_, _ = capture.Write(a.Whole) // never fails: it is small enough to stand in the record
	s.measure(a)
	s.Record.Status = http.StatusOK
	err := gateway.UpstreamError.Because(nil)
	if code, message := openai.ParseError(a.Whole); a.Status >= 300 && message != "" {
		err.Code, err.Message = code, message
	}
	s.sendFailure(out, err)
	return s.abandon(client, err, a.Status < 300)
}

// deliverStream passes events on as they come, unchanged, and holds the terminal one.
func (s *session) deliverStream(client context.Context, out *stream, a *backend.Answer) error {
	if err := s.Audit.BeginDurable(client); err != nil {
		s.unread(a)
		return err
	}
	t := newTap(client, s, a)
	out.mu.Lock()
	out.start(a.Status, a.Header)
	out.mu.Unlock()
	held, err := s.pass(out, t, a)
	switch {
	case held != nil:
		return s.completeDraining(client, out, t, a, held)
	case errors.Is(err, io.EOF) && !s.kind.Metered():
		return s.complete(client, out, t, nil)
	case s.regionsFault(client, err):
		a.Broke()
	}
	return s.broken(client, out, t, err)
}

// pass hands events on up to the terminal one, which it returns, or to an error.
func (s *session) pass(out *stream, t *tap, a *backend.Answer) (held []byte, err error) {
	if len(a.Lead) > 0 {
		if err := t.keep(a.Lead); err != nil {
			return nil, err
		}
		err = out.write(a.Lead)
	}
	for event := a.First; err == nil; event, err = a.Events.Next() {
		if event.Half && s.kind.Metered() && !openai.IsDone(event.Data) {
			return nil, io.ErrUnexpectedEOF
		}
		kind, err := t.see(event)
		if err != nil {
			return nil, err
		}
		if kind == openai.Terminal {
			return bytes.Clone(event.Raw), nil
		}
		if kind == openai.UsageOnly && a.UsageAsked {
			continue
		}
		if err := out.write(event.Raw); err != nil {
			return nil, err
		}
	}
	return nil, err
}

// completeDraining reads the region's connection empty while the end record is written.
func (s *session) completeDraining(client context.Context, out *stream, t *tap, a *backend.Answer, held []byte) error {
	var drained sync.WaitGroup
	drained.Go(a.Drain)
	err := s.complete(client, out, t, held)
	a.Close()
	drained.Wait()
	return err
}

// complete lets the terminal event go once the end record is durable.
func (s *session) complete(client context.Context, out *stream, t *tap, held []byte) error {
	t.done()
	s.Record.Outcome = gateway.Complete
	if err := s.finish(client, true); err != nil {
		out.stop()
		s.sendFailure(out, err)
		return ErrAborted
	}
	out.stop()
	if held != nil {
		if err := out.write(held); err != nil {
			return ErrAborted
		}
	}
	return nil
}

// broken ends a stream that will not be completed. The region's own error event, if it
// sent one, was passed on and is not repeated.
func (s *session) broken(client context.Context, out *stream, t *tap, err error) error {
	out.stop()
	switch {
	case errors.Is(err, errNotRecorded):
		s.sendFailure(out, err)
	case client.Err() == nil && s.hold.Err() != nil:
		s.sendFailure(out, s.hold.Err())
	case s.regionsFault(client, err) && !t.failed:
		s.sendFailure(out, gateway.UpstreamBrokeOff.Because(nil))
	}
	t.done()
	return s.abandon(client, err, true)
}

// sendFailure writes one error event in the stream's own dialect.
func (s *session) sendFailure(out *stream, err error) {
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
	_ = out.write(append(append(event, body...), "\n\n"...))
}
