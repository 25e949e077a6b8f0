package backend

import (
	"cmp"
	"net/url"
	"slices"
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

// target is a region with the deployment that serves a call there.
type target struct {
	*Region
	deployment string // empty for calls without a model
	route      Route  // priority and weight for the call's model
	*deploymentState
}

func (t target) key() deploymentKey { return deploymentKey{Region: t.Name, Deployment: t.deployment} }

// addTargets fills in where calls can be sent, by model and sorted by priority, with the
// state of each deployment. Calls without a model have states of their own, which never
// change.
func (p *Pool) addTargets() {
	add := func(r *Region, model, name string) {
		key := deploymentKey{Region: r.Name, Deployment: name}
		state := p.deployments[key]
		if state == nil {
			state = &deploymentState{}
			p.deployments[key] = state
		}
		p.targets[model] = append(p.targets[model], target{r, name, r.route(model), state})
	}
	for i := range p.options.Regions {
		r := &p.options.Regions[i]
		add(r, "", "")
		for model, name := range r.Models {
			if model != "" && name != "" {
				add(r, model, name)
			}
		}
	}
	for _, list := range p.targets {
		slices.SortStableFunc(list, func(a, b target) int { return a.route.Priority - b.route.Priority })
	}
}

// targetsOf returns where a call can be sent, sorted by priority.
func (p *Pool) targetsOf(call *Call) []target {
	list := p.targets[call.Model]
	if call.Pin == "" {
		return list
	}
	for i, t := range list {
		if t.Name == call.Pin {
			return list[i : i+1]
		}
	}
	return nil
}
