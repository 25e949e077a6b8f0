package backend

import (
	"maps"
	"slices"
	"time"

	"aoaigateway/handler/deployment"
)

// Health is the state of one deployment, for operators.
type Health struct {
	Region     string     `json:"region"`
	Deployment string     `json:"deployment"`
	State      string     `json:"state"`              // open, throttled, unavailable or missing
	Size       int64      `json:"size,omitempty"`     // throttled: the smallest size in tokens that is refused; absent = all sizes
	Evidence   string     `json:"evidence,omitempty"` // what caused the state
	Since      *time.Time `json:"since,omitempty"`
	WaitMillis int64      `json:"waitMs,omitempty"` // until the next change
	InFlight   int64      `json:"inFlight"`

	// The headroom: values of the last rate-limit headers, minus what was sent since.
	// Absent = unknown.
	RemainingTokens   *int64 `json:"remainingTokens,omitempty"`
	RemainingRequests *int64 `json:"remainingRequests,omitempty"`
}

// Health returns the state of all deployments, sorted by priority and name.
func (p *Pool) Health() []Health {
	var list []Health
	for _, r := range p.options.Regions {
		for _, name := range slices.Compact(slices.Sorted(maps.Values(r.Models))) {
			if s := p.deployments[deploymentKey{Region: r.Name, Deployment: name}]; s != nil {
				list = append(list, s.health(r.Name, name))
			}
		}
	}
	return list
}

func (s *deploymentState) health(region, name string) Health {
	h := Health{Region: region, Deployment: name, InFlight: s.inFlight.Load()}
	h.RemainingTokens, h.RemainingRequests = s.headroom.known()
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	status := s.state.Status(now)
	h.State = status.Access.String()
	if now.Before(s.missing) {
		h.State, h.WaitMillis, h.Evidence = "missing", s.missing.Sub(now).Milliseconds(), "the region says that it does not have the deployment"
		return h
	}
	if status.Access != deployment.Open {
		since := status.Since.UTC()
		h.Size, h.Evidence, h.Since, h.WaitMillis = status.Size, s.evidence, &since, status.Until.Sub(now).Milliseconds()
	}
	return h
}
