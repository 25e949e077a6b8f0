package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"aoaigateway/handler/audit"
	"aoaigateway/handler/backend"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/openai"
	"aoaigateway/handler/quota"
)

var (
	errAnswerTimeout = errors.New("no answer in time")
	errTotalTimeout  = errors.New("request over its total time")
	errClientWrite   = errors.New("client does not take the answer")
	errNotRecorded   = errors.New("answer cannot be recorded")
)

// run asks the pool and passes its answer on.
func (s *session) run(client context.Context) error {
	ctx, cancel := context.WithTimeoutCause(client, s.options.TotalTimeout, errTotalTimeout)
	defer cancel()
	ctx, cut := context.WithCancelCause(ctx)
	defer cut(nil)
	if lost := s.hold.Done(); lost != nil { // a place among those at work, which others may take
		go func() {
			select {
			case <-lost:
				cut(s.hold.Err())
			case <-ctx.Done():
			}
		}()
	}
	if s.req.Stream {
		return s.runStream(ctx, client)
	}
	answer, err := s.ask(ctx)
	if err != nil {
		return err
	}
	defer answer.Close()
	switch {
	case answer.Events != nil:
		out := newStream(s)
		defer out.stop()
		return s.deliverStream(client, out, answer)
	case answer.Rest != nil:
		return s.deliverLong(client, answer)
	default:
		return s.deliverWhole(client, answer)
	}
}

// ask gets a whole answer's beginning within the answer time-out.
func (s *session) ask(ctx context.Context) (*backend.Answer, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	limit := time.AfterFunc(s.options.AnswerTimeout, func() { cancel(errAnswerTimeout) })
	answer, err := s.options.Pool.Do(ctx, &s.call)
	limit.Stop()
	s.Record.Attempts = s.call.Attempts
	if err != nil {
		return nil, s.orTimeout(ctx, err)
	}
	s.noteAnswer(answer)
	return answer, nil
}

// orTimeout tells our own time-outs from a client that left: both end the context.
func (s *session) orTimeout(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if e, ok := errors.AsType[*gateway.Error](cause); ok {
		return e
	}
	switch {
	case errors.Is(cause, errAnswerTimeout):
		return gateway.Timeout.New("No answer within %v. Ask for a stream (\"stream\": true) to get long answers as they are written.", s.options.AnswerTimeout).WithCause(cause)
	case errors.Is(cause, errTotalTimeout):
		return gateway.Timeout.New("No answer within %v, the most this gateway waits.", s.options.TotalTimeout).WithCause(cause)
	}
	return err
}

func (s *session) noteAnswer(a *backend.Answer) {
	r := s.Record
	r.Attempts = s.call.Attempts
	r.Region, r.Deployment, r.BackendAPIVersion = a.Region, a.Deployment, a.APIVersion
	r.BackendStatus, r.Status = a.Status, a.Status
	if a.Pinned != "" {
		r.ErrorReason, r.ErrorMessage = gateway.RegionPinned.Code, "Only the region that "+a.Pinned+" was asked."
		s.W.Header().Set("X-Gateway-Pinned", r.ErrorMessage)
	}
	s.markFirstByte()
}

func (s *session) markFirstByte() {
	s.Record.FirstByteMilli = time.Since(s.Record.Time).Milliseconds()
}

// noteUsage takes usage and model from an answer, or from an event of one.
func (s *session) noteUsage(raw []byte) {
	if u, ok := openai.ParseUsage(raw); ok {
		s.usage, s.known = u, true
	}
	if s.Record.AnsweredModel == "" {
		s.Record.AnsweredModel = openai.AnsweredModel(raw)
	}
}

func (s *session) deliverWhole(client context.Context, a *backend.Answer) error {
	capture := s.Audit.Response(a.Header.Get("Content-Type"))
	_, _ = capture.Write(a.Whole) // never fails: it is small enough to stand in the record
	s.measure(a)
	if a.Status < 300 {
		s.remember(client, a.Whole)
	}
	s.Record.Outcome = gateway.Complete
	if err := s.finish(client, a.Status < 300); err != nil {
		return err
	}
	copyDownstream(s.W.Header(), a.Header, s.R)
	s.W.Header().Set("Content-Length", strconv.Itoa(len(a.Whole)))
	s.W.WriteHeader(a.Status)
	if _, err := s.W.Write(a.Whole); err != nil {
		return ErrAborted
	}
	return nil
}

// measure takes the usage of a whole answer, or what stands in for it.
func (s *session) measure(a *backend.Answer) {
	if !s.kind.Metered() || a.Status >= 300 {
		return
	}
	if s.noteUsage(a.Whole); !s.known {
		s.usage.Completion = openai.CountAnswer(s.answeredModel(), a.Whole)
	}
}

// tail is how much of a long body waits for the end record.
const tail = 64 << 10

// deliverLong passes a body on while it arrives, its last bytes held.
func (s *session) deliverLong(client context.Context, a *backend.Answer) error {
	if err := s.Audit.BeginDurable(client); err != nil {
		s.unread(a)
		return err
	}
	capture := s.Audit.Response(a.Header.Get("Content-Type"))
	if a.Status < 300 {
		s.remember(client, a.Whole)
	}
	copyDownstream(s.W.Header(), a.Header, s.R)
	if n := a.Header.Get("Content-Length"); n != "" {
		s.W.Header().Set("Content-Length", n)
	}
	s.W.WriteHeader(a.Status)
	held, err := s.copyHolding(capture, io.MultiReader(bytes.NewReader(a.Whole), a.Rest))
	if err != nil {
		if s.regionsFault(client, err) {
			a.Broke()
		}
		return s.abandon(client, err, a.Status < 300)
	}
	if s.kind.Metered() {
		s.noteUsage(lastObject(held))
	}
	s.Record.Outcome = gateway.Complete
	if err := s.finish(client, a.Status < 300); err != nil {
		return ErrAborted
	}
	if _, err := s.W.Write(held); err != nil {
		return ErrAborted
	}
	return nil
}

// unread gives up an answer that the region may have worked for: its charge stays.
func (s *session) unread(a *backend.Answer) {
	if a.Status < 300 {
		s.hold.Keep()
	}
}

func (s *session) regionsFault(client context.Context, err error) bool {
	return client.Err() == nil && !errors.Is(err, errClientWrite) && !errors.Is(err, errNotRecorded) && s.hold.Err() == nil
}

func (s *session) copyHolding(capture *audit.Capture, src io.Reader) (held []byte, err error) {
	buf := make([]byte, 32<<10)
	for {
		n, rerr := src.Read(buf)
		if n > 0 {
			if _, err := capture.Write(buf[:n]); err != nil {
				return nil, fmt.Errorf("%w: %w", errNotRecorded, err)
			}
			held = append(held, buf[:n]...)
		}
		if over := len(held) - tail; over > tail || over > 0 && rerr != nil {
			if _, err := s.W.Write(held[:over]); err != nil {
				return nil, errClientWrite
			}
			held = append(held[:0], held[over:]...)
		}
		if errors.Is(rerr, io.EOF) {
			return held, nil
		}
		if rerr != nil {
			return nil, rerr
		}
	}
}

// lastObject finds the usage object near the end of a long answer, where the service puts it.
func lastObject(held []byte) []byte {
	i := bytes.LastIndex(held, []byte(`"usage"`))
	if i < 0 {
		return nil
	}
	return append([]byte("{"), held[i:]...)
}

// abandon records an answer that broke off after bytes of it had left. produced is as in
// finish.
func (s *session) abandon(client context.Context, err error, produced bool) error {
	switch {
	case s.regionsFault(client, err):
		s.Record.Outcome, s.Record.ErrorReason = gateway.UpstreamCut, gateway.StreamTruncated.Code
	case errors.Is(err, errNotRecorded):
		s.Record.Outcome, s.Record.ErrorReason = gateway.NotDurable, gateway.AuditLogUnavailable.Code
	case client.Err() == nil && s.hold.Err() != nil:
		s.Record.Outcome, s.Record.ErrorReason, err = gateway.GatewayFailed, gateway.ConcurrencySlotLost.Code, s.hold.Err()
	default:
		s.Record.Outcome, s.Record.ErrorReason = gateway.ClientLeft, gateway.ClientConnectionFailure.Code
	}
	s.Record.ErrorMessage = err.Error()
	_ = s.finish(client, produced)
	return ErrAborted
}

// finish settles, makes the end record durable and waits for the note of who made the
// response, all in parallel. produced says that the
// region worked for the request, so that missing usage has to be estimated.
func (s *session) finish(client context.Context, produced bool) error {
	s.Record.TotalMilli = time.Since(s.Record.Time).Milliseconds()
	if !s.known && produced && s.kind.Metered() {
		s.estimate()
	}
	s.Record.Usage = s.usage
	s.price()
	if s.known && s.kind != openai.Embeddings {
		s.recent.note(s.Record.Model, s.usage.Completion/s.req.Choices)
	}
	var settled sync.WaitGroup
	settled.Go(func() {
		if !produced && !s.known {
			s.hold.Release(client)
			return
		}
		err := s.hold.Settle(client, s.usage)
		if err != nil && !errors.Is(err, quota.ErrPending) { // pending ones go on behind us
			s.options.Logger.Warn("settle failed", "record_id", s.Record.ID, "error", err)
		}
	})
	err := s.Audit.End(client)
	settled.Wait()
	if lost := s.remembered(); lost != nil {
		s.options.Logger.Error("region of a response not recorded", "record_id", s.Record.ID, "error", lost)
		if s.Audit.Withhold() {
			err = lost
		}
	}
	return err
}

// price notes what the answer cost, where the policy says.
func (s *session) price() {
	if m, ok := s.options.Policy.Cost(s.usage, s.Record.Model); ok && s.kind.Metered() {
		s.Record.Cost = &gateway.Cost{Millionths: m.Millionths, Currency: m.Currency, PriceVersion: m.PriceVersion}
	}
}

// estimate stands in for usage that never came.
func (s *session) estimate() {
	s.usage.Estimated = true
	s.usage.Prompt = openai.CountPrompt(s.answeredModel(), s.call.Body)
	s.usage.Total = s.usage.Prompt + s.usage.Completion
}

// answeredModel is the model's own name if the answer told it: deployments may be called anything.
func (s *session) answeredModel() string {
	if s.Record.AnsweredModel != "" {
		return s.Record.AnsweredModel
	}
	return s.Record.Model
}
