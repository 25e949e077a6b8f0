package backend

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"aoaigateway/handler/deployment"
	"aoaigateway/handler/idle"
	"aoaigateway/handler/openai/refusal"
)

var (
	errFirstByte = errors.New("backend: the region sent nothing within the first-byte timeout")
	errIdle      = errors.New("backend: the region sent nothing more of its answer within the idle timeout")
)

// roundTrip sends one request and reads up to the commit point. Until then the first-byte
// timeout applies, afterwards the idle timeout.
func (p *Pool) roundTrip(ctx context.Context, call *Call, a *attempt, o tryOptions) (answer *Answer, f failure) {
	t := a.target
	ctx, cancel := context.WithCancelCause(ctx)
	firstByte := startFirstByteTimer(p.firstByteTimeout(call), cancel, func() bool { return !call.Creates && a.hasAlternative() })
	defer firstByte.stop()
	sent := call.sent(time.Now())
	trace := &connTrace{}
	t.inFlight.Add(1)
	end := sync.OnceFunc(func() { t.inFlight.Add(-1); cancel(context.Canceled) })
	defer func() {
		if answer == nil && f.answer == nil {
			end()
		}
	}()
	req, err := p.request(ctx, call, t, o)
	if err != nil {
		return nil, failure{outcome: unsent, reason: "no-credential", err: err}
	}
	resp, err := p.transport(a).RoundTrip(trace.attach(req)) //nolint:bodyclose // Answer.Close closes it
	if err != nil {
		return nil, transportFailure(ctx, trace, err)
	}
	t.headroom.update(resp.Header)
	body := idle.NewReader(resp.Body)
	resp.Body = body
	got := &Answer{
		Region: t.Name, Deployment: t.deployment, APIVersion: call.version(t),
		Status: resp.StatusCode, Header: resp.Header, UsageAsked: call.AskUsage != nil && !o.withoutUsage,
		close: func() { end(); _ = body.Close() },
	}
	limitIdle := sync.OnceFunc(func() { body.SetLimit(p.options.IdleTimeout, func() { cancel(errIdle) }) })
	streamed := got.Succeeded() && isEventStream(resp.Header)
	if !streamed && serves(got.Status) { // in a stream the region may still refuse
		p.answered(t, sent)
	}
	if f = got.commit(resp, firstByte, limitIdle); f.err != nil {
		got.Close()
		return nil, readFailure(ctx, trace, f)
	}
	limitIdle()
	if answer, f = got.judge(f); streamed && answer != nil {
		p.answered(t, sent)
	}
	return answer, f
}

// transport returns what sends the request of an attempt.
func (p *Pool) transport(a *attempt) http.RoundTripper {
	if a.fresh {
		return p.fresh
	}
	return p.options.Transport
}

// judge decides whether what was read up to the commit point is an answer or a failure.
func (a *Answer) judge(f failure) (*Answer, failure) {
	wait := a.statedWait()
	f.wait = wait.time
	if f.outcome == answered && f.reason == "" {
		f.outcome = classify(a.Status, a.Header)
		if f.outcome == answered && a.Deployment != "" && refusal.IsMissingDeployment(a.Status, a.Whole) {
			f.outcome = missing
		}
		f.reason = reasons[f.outcome]
	}
	f.refusal = deployment.Refusal{
		Wait: wait.time, Stated: wait.stated, Requests: noneLeft(a.Header), Limit: max(0, remainingHeader(a.Header, "X-Ratelimit-Limit-Tokens")),
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

// serves reports whether a response header is a sign that the region serves requests.
func serves(status int) bool {
	switch classify(status, nil) {
	case answered, conflict:
		return status >= http.StatusOK
	default:
		return false
	}
}

func readFailure(ctx context.Context, trace *connTrace, f failure) failure {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errFirstByte):
		return failure{outcome: firstByteTimeout, reason: "first-byte-timeout", err: errFirstByte}
	case errors.Is(cause, errIdle):
		f.reason, f.err = "fell-silent", errIdle
	}
	f.outcome, f.connection = broken, trace.connection(f.err)
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
