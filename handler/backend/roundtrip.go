package backend

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"aoaigateway/handler/backoff"
	"aoaigateway/handler/idle"
	"aoaigateway/handler/openai"
	"aoaigateway/handler/sse"
)

var (
	errFirstByte = errors.New("no first byte in time")
	errIdle      = errors.New("the region fell silent in the middle of its answer")
)

// exchange sends the request and reads up to the commit point. The watch ends the
// attempt when the region is silent and another one could be asked instead.
func (p *Pool) roundTrip(ctx context.Context, call *Call, e *attempt, o tryOptions) (*Answer, failure) {
	t := e.target
	ctx, cancel := context.WithCancelCause(ctx)
	stop := sync.OnceFunc(func() { cancel(context.Canceled) })
	watch := p.startFirstByteTimer(call, cancel, e.hasAlternative)
	defer watch.stop()
	req, err := p.request(ctx, call, t, o)
	if err != nil {
		stop()
		return nil, failure{outcome: unsent, reason: "no-credential", err: err}
	}
	line := &connTrace{since: time.Now()}
	resp, err := p.options.Transport.RoundTrip(line.attach(req)) //nolint:bodyclose // Answer.Close does
	if err != nil {
		stop()
		return nil, transportFailure(ctx, line, err)
	}
	t.headroom.update(resp.Header)
	body := idle.NewReader(resp.Body)
	resp.Body = body
	a := &Answer{
		Region: t.Name, Deployment: t.deployment, APIVersion: call.version(t),
		Status: resp.StatusCode, Header: resp.Header, UsageAsked: call.PlainBody != nil && !o.withoutUsage,
		close: func() { stop(); _ = resp.Body.Close() },
	}
	impatient := sync.OnceFunc(func() { body.SetLimit(p.options.IdleTimeout, func() { cancel(errIdle) }) })
	f := a.commit(resp, watch, impatient)
	if f.err != nil {
		a.Close()
		return nil, readFailure(ctx, f)
	}
	impatient()
	f.wait = backoff.RetryAfter(resp.Header)
	if f.outcome == answered {
		f.outcome = classify(a.Status, f.wait)
		f.reason = map[outcome]string{throttled: "throttled", serverError: "server-error", denied: "credential-refused", conflict: "conflict"}[f.outcome]
	}
	if decisions[f.outcome].failover {
		f.answer = a
		return nil, f
	}
	return a, f
}

func (p *Pool) request(ctx context.Context, call *Call, t target, o tryOptions) (*http.Request, error) {
	body, err := call.body(t, o.withoutUsage)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, call.Method, call.url(t, call.version(t)), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header = call.Header.Clone()
	req.Header.Set("Accept-Encoding", "identity")
	if err := p.authorize(ctx, req, t.Region, o.renewSecret); err != nil {
		return nil, err
	}
	return req, nil
}

// watch cancels a silent attempt once its time is over and another region is open; while
// none is, it looks again every second.
type firstByteTimer struct {
	mu    sync.Mutex
	timer *time.Timer
	done  bool
}

func (p *Pool) startFirstByteTimer(call *Call, cancel context.CancelCauseFunc, another func() bool) *firstByteTimer {
	limit := p.options.FirstByteTimeout
	if call.Stream {
		limit = p.options.StreamFirstByteTimeout
	}
	if call.FirstByteTimeout > 0 {
		limit = call.FirstByteTimeout
	}
	w := &firstByteTimer{}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(limit, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		switch {
		case w.done:
		case another():
			cancel(errFirstByte)
		default:
			w.timer.Reset(time.Second)
		}
	})
	return w
}

func (w *firstByteTimer) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done = true
	w.timer.Stop()
}

// commit reads what must be there before the answer counts. Only a stream may be silent
// for as long as the watch bears it: of anything else the first byte was the header.
func (a *Answer) commit(resp *http.Response, w *firstByteTimer, impatient func()) failure {
	if resp.StatusCode < http.StatusOK {
		return failure{reason: "bad-status", err: fmt.Errorf("backend: a final answer of status %d", resp.StatusCode)}
	}
	body, err := plainBody(resp)
	if err != nil {
		return failure{reason: "bad-encoding", err: err}
	}
	if resp.StatusCode < 300 && isEventStream(resp.Header) {
		return a.commitStream(body)
	}
	if impatient(); resp.StatusCode < 300 {
		w.stop()
	}
	var whole bytes.Buffer
	whole.Grow(int(min(max(resp.ContentLength, 0), WholeBody)) + bytes.MinRead)
	if _, err := whole.ReadFrom(io.LimitReader(body, WholeBody+1)); err != nil {
		return failure{reason: "broken-body", err: err}
	}
	a.Whole = whole.Bytes()
	if whole.Len() > WholeBody {
		a.Rest = body
		return failure{}
	}
	a.Close()
	return failure{}
}

func isEventStream(h http.Header) bool {
	kind, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(kind), "text/event-stream")
}

func (a *Answer) commitStream(body io.Reader) failure {
	a.Events = sse.NewReader(body)
	for {
		e, err := a.Events.Next()
		if err == nil && e.Half {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return failure{reason: "cut-before-first-event", err: noEOF(err)}
		}
		if e.Data == nil && len(e.Name) == 0 {
			a.Lead = append(a.Lead, e.Raw...)
			continue
		}
		a.First = sse.Event{Raw: bytes.Clone(e.Raw), Name: bytes.Clone(e.Name), Data: bytes.Clone(e.Data)}
		if openai.Classify(e.Name, e.Data) == openai.Failure && !openai.ClientsFault(e.Data) {
			a.Events = sse.NewReader(bytes.NewReader(nil))
			return failure{outcome: errorEvent, reason: "error-event"}
		}
		return failure{}
	}
}

// plainBody undoes a gzip nobody asked for.
func plainBody(resp *http.Response) (io.Reader, error) {
	if !strings.EqualFold(resp.Header.Get("Content-Encoding"), "gzip") {
		return resp.Body, nil
	}
	z, err := gzip.NewReader(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("backend: gzip answer: %w", noEOF(err))
	}
	resp.Header.Del("Content-Encoding")
	resp.Header.Del("Content-Length")
	return z, nil
}

// noEOF makes sure that an early end is an error wherever it shows.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func readFailure(ctx context.Context, f failure) failure {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errFirstByte):
		return failure{outcome: firstByteTimeout, reason: "first-byte-timeout", err: errFirstByte}
	case errors.Is(cause, errIdle):
		f.reason, f.err = "fell-silent", errIdle
	}
	f.outcome = broken
	return f
}
