package backend

import (
	"cmp"
	"net/url"
	"slices"

	"aoaigateway/handler/breaker"
	"aoaigateway/handler/breakersync"
)

// ManagedIdentity as a region's credential means the gateway's own identity. Any other
// value is the name of a secret.
const ManagedIdentity = "managedIdentity"

// Region is one resource of the service.
type Region struct {
	Name       string
	Endpoint   *url.URL
	Priority   int // lower is asked first
	Weight     int // share among regions of one priority
	Credential string
	APIVersion string            // replaces the client's on classic paths; empty = the client's
	Models     map[string]string // name that clients use → the region's deployment
	Routes     map[string]Route  // by model: replaces Priority and Weight for it
}

// Route is a region's priority and weight for one model. Zero fields mean the region's own.
type Route struct{ Priority, Weight int }

func (r *Region) route(model string) Route {
	route := r.Routes[model]
	return Route{cmp.Or(route.Priority, r.Priority), cmp.Or(route.Weight, r.Weight)}
}

// deploymentKey names a deployment in a region.
type deploymentKey = breakersync.Key

// deploymentState is what this process knows of a deployment.
type deploymentState struct {
	breaker     *breaker.Breaker
	headroom    headroom
	whole       latencyWindow // of answers that are no stream
	stream      latencyWindow
	wholeHedge  hedgeBudget
	streamHedge hedgeBudget
}

// latency returns the window and the hedge budget for streams or for whole answers.
func (s *deploymentState) latency(stream bool) (*latencyWindow, *hedgeBudget) {
	if stream {
		return &s.stream, &s.streamHedge
	}
	return &s.whole, &s.wholeHedge
}

func (p *Pool) deployment(at deploymentKey) *deploymentState {
	if s, ok := p.deployments.Load(at); ok {
		return s.(*deploymentState)
	}
	s, _ := p.deployments.LoadOrStore(at, &deploymentState{breaker: breaker.New(p.options.Breaker)})
	return s.(*deploymentState)
}

// target is a region with the deployment that a call needs there.
type target struct {
	*Region
	deployment string // empty for calls without a model
	route      Route  // for the call's model
	*deploymentState
}

func (t target) key() deploymentKey { return deploymentKey{Region: t.Name, Deployment: t.deployment} }

// targets lists where a call could go, best priority first.
func (p *Pool) targets(call *Call) []target {
	var list []target
	for i := range p.options.Regions {
		r := &p.options.Regions[i]
		deployment := r.Models[call.Model]
		if call.Model != "" && deployment == "" || call.Pin != "" && call.Pin != r.Name {
			continue
		}
		list = append(list, target{r, deployment, r.route(call.Model), p.deployment(deploymentKey{Region: r.Name, Deployment: deployment})})
	}
	slices.SortStableFunc(list, func(a, b target) int { return a.route.Priority - b.route.Priority })
	return list
}
