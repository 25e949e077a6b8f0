package backend

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"aoaigateway/handler/backoff"
	"aoaigateway/handler/idle"
)

var (
	errFirstByte = errors.New("backend: the region sent nothing within the first-byte timeout")
	errIdle      = errors.New("backend: the region sent nothing more of its answer within the idle timeout")
)

// roundTrip sends one request and reads up to the commit point. Until then the first-byte
// timeout applies, afterwards the idle timeout.
func (p *Pool) roundTrip(ctx context.Context, call *Call, a *attempt, o tryOptions) (*Answer, failure) {
	t := a.target
	ctx, cancel := context.WithCancelCause(ctx)
	stop := sync.OnceFunc(func() { cancel(context.Canceled) })
	firstByte := startFirstByteTimer(p.firstByteTimeout(call), cancel, a.hasAlternative)
	defer firstByte.stop()
	req, err := p.request(ctx, call, t, o)
	if err != nil {
		stop()
		return nil, failure{outcome: unsent, reason: "no-credential", err: err}
	}
	trace := &connTrace{since: time.Now()}
	resp, err := p.options.Transport.RoundTrip(trace.attach(req)) //nolint:bodyclose // Answer.Close closes it
	if err != nil {
		stop()
		return nil, transportFailure(ctx, trace, err)
	}
	t.headroom.update(resp.Header)
	body := idle.NewReader(resp.Body)
	resp.Body = body
	answer := &Answer{
		Region: t.Name, Deployment: t.deployment, APIVersion: call.version(t),
		Status: resp.StatusCode, Header: resp.Header, UsageAsked: call.AskUsage != nil && !o.withoutUsage,
		close: func() { stop(); _ = resp.Body.Close() },
	}
	limitIdle := sync.OnceFunc(func() { body.SetLimit(p.options.IdleTimeout, func() { cancel(errIdle) }) })
	f := answer.commit(resp, firstByte, limitIdle)
	if f.err != nil {
		answer.Close()
		return nil, readFailure(ctx, f)
	}
	limitIdle()
	return answer.judge(f)
}

// judge decides whether what was read up to the commit point is an answer or a failure.
func (a *Answer) judge(f failure) (*Answer, failure) {
	f.wait = backoff.RetryAfter(a.Header)
	if f.outcome == answered {
		f.outcome = classify(a.Status, f.wait)
		f.reason = reasons[f.outcome]
	}
	if decisions[f.outcome].failover {
		f.answer = a
		return nil, f
	}
	return a, f
}

func (p *Pool) request(ctx context.Context, call *Call, t target, o tryOptions) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, call.Method, call.url(t), http.NoBody)
	if err != nil {
		return nil, err
	}
	if content := call.content(t, o); content.Size() > 0 {
		req.ContentLength = content.Size()
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(content.Reader()), nil }
		req.Body, _ = req.GetBody() // never fails
	}
	req.Header = call.Header.Clone()
	req.Header.Set("Accept-Encoding", "identity")
	if err := p.authorize(ctx, req, t.Region, o); err != nil {
		return nil, err
	}
	return req, nil
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

func (p *Pool) firstByteTimeout(call *Call) time.Duration {
	switch {
	case call.FirstByteTimeout > 0:
		return call.FirstByteTimeout
	case call.Stream:
		return p.options.StreamFirstByteTimeout
	default:
		return p.options.FirstByteTimeout
	}
}

// firstByteTimer cancels an attempt that has received nothing when the first-byte timeout
// ends and another region can serve the call. If no other region can, it checks again every
// second.
type firstByteTimer struct {
	mu      sync.Mutex
	timer   *time.Timer
	stopped bool
}

func startFirstByteTimer(limit time.Duration, cancel context.CancelCauseFunc, hasAlternative func() bool) *firstByteTimer {
	t := &firstByteTimer{}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timer = time.AfterFunc(limit, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		switch {
		case t.stopped:
		case hasAlternative():
			cancel(errFirstByte)
		default:
			t.timer.Reset(time.Second)
		}
	})
	return t
}

func (t *firstByteTimer) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped = true
	t.timer.Stop()
}
