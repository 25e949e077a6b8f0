package backend

import (
	"cmp"
	"net/url"
	"slices"

	"aoaigateway/handler/breaker"
	"aoaigateway/handler/breakersync"
)

// ManagedIdentity as a region's credential stands for the gateway's own identity. Any other
// credential is the name of a secret.
const ManagedIdentity = "managedIdentity"

// Region is one Azure OpenAI (or Foundry) resource that the gateway may send requests to.
type Region struct {
	Name       string
	Endpoint   *url.URL
	Priority   int // regions with a lower number are tried first
	Weight     int // share of the calls, among regions of the same priority
	Credential string
	APIVersion string            // replaces the client's api-version on classic paths; empty = the client's stays
	Models     map[string]string // name that clients use → the region's deployment
	Routes     map[string]Route  // by model: priority and weight for this model
}

// Route is a region's priority and weight for one model. A zero field means that the
// region's own value applies.
type Route struct{ Priority, Weight int }

func (r *Region) route(model string) Route {
	route := r.Routes[model]
	return Route{cmp.Or(route.Priority, r.Priority), cmp.Or(route.Weight, r.Weight)}
}

// deploymentKey identifies a deployment in a region.
type deploymentKey = breakersync.Key

// deploymentState is what this process knows about a deployment.
type deploymentState struct {
	breaker     *breaker.Breaker
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

func (p *Pool) deployment(at deploymentKey) *deploymentState {
	if s, ok := p.deployments.Load(at); ok {
		return s.(*deploymentState)
	}
	s, _ := p.deployments.LoadOrStore(at, &deploymentState{breaker: breaker.New(p.options.Breaker)})
	return s.(*deploymentState)
}

// target is a region with the deployment that serves a call there.
type target struct {
	*Region
	deployment string // empty for calls without a model
	route      Route  // priority and weight for the call's model
	*deploymentState
}

func (t target) key() deploymentKey { return deploymentKey{Region: t.Name, Deployment: t.deployment} }

// targets returns where a call can be sent, sorted by priority.
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
