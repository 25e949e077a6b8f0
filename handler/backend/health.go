package backend

import (
	"maps"
	"slices"
	"time"

	"aoaigateway/handler/breaker"
)

// Health is the state of one deployment, for operators.
type Health struct {
	Region     string `json:"region"`
	Deployment string `json:"deployment,omitempty"`
	State      string `json:"state"`
	WaitMillis int64  `json:"waitMs,omitempty"`
	Throttled  bool   `json:"throttled,omitempty"`

	// The headroom: values of the last rate-limit headers, minus what was sent since.
	// Absent = unknown.
	RemainingTokens   *int64 `json:"remainingTokens,omitempty"`
	RemainingRequests *int64 `json:"remainingRequests,omitempty"`
}

// Health returns the state of all deployments, sorted by priority and name.
func (p *Pool) Health() []Health {
	var list []Health
	for _, r := range p.options.Regions {
		deployments := slices.Sorted(maps.Values(r.Models))
		if _, used := p.deployments.Load(deploymentKey{Region: r.Name}); used {
			deployments = slices.Insert(deployments, 0, "") // the state of the region for operations without a model
		}
		for _, deployment := range slices.Compact(deployments) {
			s := p.deployment(deploymentKey{Region: r.Name, Deployment: deployment})
			state, wait, throttled := s.breaker.Status()
			tokens, requests := s.headroom.known()
			list = append(list, Health{
				r.Name, deployment, state.String(), wait.Milliseconds(), throttled && state == breaker.Open, tokens, requests,
			})
		}
	}
	return list
}

// report reports the end of an attempt to the breaker of its deployment. If the breaker now
// stays open longer than other instances know, it informs them too.
func (p *Pool) report(a *attempt) {
	f, b := a.failure, a.target.breaker
	_, known, _ := b.Status()
	var change breaker.Change
	switch d := decisions[f.outcome]; {
	case d.trip == ignore:
		a.pass.Forget()
	case d.trip == tripNow:
		change = a.pass.Trip(f.wait, f.outcome == throttled)
	case d.trip == counted && f.wait > 0:
		change = a.pass.Trip(f.wait, false)
	case d.trip == counted:
		change = a.pass.Fail()
	default:
		change = a.pass.Success()
	}
	if _, wait, throttled := b.Status(); wait > known {
		p.shared.Publish(a.target.key(), wait, throttled)
	}
	p.logChange(a.target.key(), b, change, f.reason)
}

// countCut reports a failure after the commit point to the breaker. The same attempt was
// reported as a success before.
func (p *Pool) countCut(t target) {
	if pass, ok := t.breaker.Allow(); ok {
		p.report(&attempt{target: t, pass: pass, failure: failure{outcome: broken, reason: "cut"}})
	}
}

// learn opens a breaker because another instance found that it should be open.
func (p *Pool) learn(at deploymentKey, wait time.Duration, throttled bool) {
	known := func(r Region) bool { return r.Name == at.Region }
	if !slices.ContainsFunc(p.options.Regions, known) {
		return
	}
	b := p.deployment(at).breaker
	p.logChange(at, b, b.Learn(wait, throttled), "reported by another instance")
}

func (p *Pool) logChange(at deploymentKey, b *breaker.Breaker, c breaker.Change, reason string) {
	if c.Happened() {
		_, wait, _ := b.Status()
		p.options.Logger.Info("backend breaker changed", "region", at.Region, "deployment", at.Deployment,
			"from", c.From.String(), "to", c.To.String(), "wait_ms", wait.Milliseconds(), "reason", reason)
	}
}
