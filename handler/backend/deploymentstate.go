package backend

import (
	"cmp"
	"sync"
	"sync/atomic"
	"time"

	"aoaigateway/handler/deployment"
	"aoaigateway/handler/deployment/share"
)

// deploymentKey identifies a deployment in a region.
type deploymentKey = share.Key

// sharedWait is the shortest wait that other instances are told of. They read the table
// every few seconds, so a shorter one would be over when they learn it.
const sharedWait = 2 * time.Second

// deploymentState is what this process knows about a deployment. Safe for concurrent use.
type deploymentState struct {
	mu       sync.Mutex
	state    deployment.State
	evidence string    // for the last change of state
	missing  time.Time // until then the region does not have the deployment

	inFlight    atomic.Int64 // attempts whose answers have not ended
	headroom    headroom
	whole       latencyWindow // for answers that are no stream
	stream      latencyWindow
	wholeHedge  hedgeBudget
	streamHedge hedgeBudget
}

// latency returns the latency window and the hedge budget, for streams or for other
// answers.
func (s *deploymentState) latency(stream bool) (*latencyWindow, *hedgeBudget) {
	if stream {
		return &s.stream, &s.streamHedge
	}
	return &s.whole, &s.wholeHedge
}

// access says whether a request of this size may be sent, and whether the region said a
// short time ago that it does not have the deployment.
func (s *deploymentState) access(now time.Time, size int64) (access deployment.Access, missing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.Access(now, size), now.Before(s.missing)
}

func (s *deploymentState) until(now time.Time, size int64) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.Until(now, size)
}

func (s *deploymentState) admit(now time.Time, size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Admit(now, size)
}

// missingFor is how long a deployment that a region does not have is left out.
const missingFor = time.Minute

// missing says that a region does not have a deployment: another region has answered the
// same request, so the request is not the reason.
func (p *Pool) missing(key deploymentKey) {
	s, now := p.deployments[key], time.Now()
	s.mu.Lock()
	known := now.Before(s.missing)
	s.missing = now.Add(missingFor)
	s.mu.Unlock()
	if !known {
		p.options.Logger.Warn("a region does not have a deployment that the settings name", "region", key.Region, "deployment", key.Deployment)
	}
}

// answered says that a region answered a request, so that it serves requests of its size.
func (p *Pool) answered(t target, sent deployment.Sent) {
	p.update(t.key(), func(s *deployment.State, now time.Time) deployment.Change { return s.Answered(now, sent) })
}

// refused says that a region refused a request because of its limits. Other instances are
// told only of a wait that the region stated itself.
func (p *Pool) refused(t target, sent deployment.Sent, r deployment.Refusal) {
	p.update(t.key(), func(s *deployment.State, now time.Time) deployment.Change { return s.Refused(now, sent, r) })
	if c, ok := r.Closing(time.Now(), sent); ok && r.Wait >= sharedWait && t.deployment != "" {
		p.shared.Publish(t.key(), c)
	}
}

// failed adds evidence that a deployment is unavailable. Other instances are told when that
// makes it unavailable.
func (p *Pool) failed(key deploymentKey, f deployment.Failure) {
	c := p.update(key, func(s *deployment.State, now time.Time) deployment.Change { return s.Failed(now, f) })
	if c.Status.Access == deployment.Unavailable && c.Evidence != "" {
		p.shared.Publish(key, deployment.Closing{Why: deployment.WhyUnavailable, Until: c.Status.Until})
	}
}

// learn closes a deployment because another instance found that it should be closed.
func (p *Pool) learn(at deploymentKey, c deployment.Closing) {
	p.update(at, func(s *deployment.State, now time.Time) deployment.Change { return s.Learn(now, c) })
}

// update applies an event to the state of a deployment and logs the change that it causes.
// Operations without a model have no state: an error of one says nothing about another.
func (p *Pool) update(key deploymentKey, event func(*deployment.State, time.Time) deployment.Change) deployment.Change {
	s := p.deployments[key]
	if s == nil || key.Deployment == "" {
		return deployment.Change{}
	}
	now := time.Now()
	s.mu.Lock()
	c := event(&s.state, now)
	if c.Happened() {
		s.evidence = c.Evidence
	}
	s.mu.Unlock()
	if c.Happened() {
		p.options.Logger.Info("the state of a deployment changed", "region", key.Region, "deployment", key.Deployment,
			"from", c.From.String(), "to", c.To.String(), "size", c.Status.Size,
			"wait_ms", max(0, cmp.Or(c.Status.Until, now).Sub(now)).Milliseconds(), "evidence", c.Evidence)
	}
	return c
}
