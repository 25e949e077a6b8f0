// Package backend answers a request from one of several regions.
//
// A region is tried at most once a request (twice when its secret was just renewed, when
// it turns out not to know stream_options, or when it had closed the connection before it
// saw the request). Where a call allows it, a second region is asked beside one that is
// later than 95 of 100 of its last answers were. Do returns at the commit point: for a
// stream the first whole event that is no error, for a body up to WholeBody its last
// byte, else its first bytes. Before that nothing has reached the client, so that any
// failure moves on to the next region; after it nothing is tried again. What an outcome
// means for the breaker, the request and its reservation is the table in decide.go.
package backend

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"aoaigateway/handler/breaker"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/secret"
	"aoaigateway/handler/table"
)

// WholeBody is the size up to which an answer is read whole before it counts.
const WholeBody = 1 << 20

// ManagedIdentity as a region's credential means the gateway's own identity; any other
// value is the name of a secret.
const ManagedIdentity = "managedIdentity"

// Region is one deployment of the service.
type Region struct {
	Name       string
	Endpoint   *url.URL
	Priority   int // lower is asked first
	Weight     int // share among regions of one priority
	Credential string
	APIVersion string            // replaces the client's on classic paths; empty = the client's
	Models     map[string]string // name clients use → the region's deployment
	Routes     map[string]Route  // by model: what replaces Priority and Weight for it
}

// Route is a region's place among those that serve a model; zero fields are the region's.
type Route struct{ Priority, Weight int }

func (r *Region) route(model string) Route {
	route := r.Routes[model]
	return Route{cmp.Or(route.Priority, r.Priority), cmp.Or(route.Weight, r.Weight)}
}

// The defaults of Options and of their settings.
const (
	DefaultFirstByteTimeout       = 100 * time.Second
	DefaultStreamFirstByteTimeout = time.Minute
	DefaultIdleTimeout            = 10 * time.Minute
)

// Options of a Pool. A zero time means its default.
type Options struct {
	Regions                []Region
	Secrets                secret.Source
	Identity               azcore.TokenCredential // nil when no region uses it
	Transport              http.RoundTripper
	Logger                 *slog.Logger
	FirstByteTimeout       time.Duration // until a whole answer's first byte
	StreamFirstByteTimeout time.Duration // until a stream's first event
	IdleTimeout            time.Duration // in the middle of an answer
	Breaker                breaker.Options
	Shared                 table.Store // breaker states of all instances; nil = this process's own
}

func (o Options) withDefaults() Options {
	o.FirstByteTimeout = cmp.Or(o.FirstByteTimeout, DefaultFirstByteTimeout)
	o.StreamFirstByteTimeout = cmp.Or(o.StreamFirstByteTimeout, DefaultStreamFirstByteTimeout)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, DefaultIdleTimeout)
	if o.Transport == nil {
		o.Transport = NewTransport(nil)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Pool is the set of regions. Safe for concurrent use.
type Pool struct {
	options     Options
	deployments sync.Map        // place → *standing
	noUsage     sync.Map        // target.String() → struct{}: refuses stream_options
	shared      *sharedBreakers // nil = this process's own knowledge only
}

// place is a deployment of a region; deployment is empty for calls that name no model.
type deploymentKey struct{ region, deployment string }

func (p deploymentKey) String() string { return p.region + "/" + p.deployment }

// standing is what is known of a place.
type deploymentState struct {
	breaker   *breaker.Breaker
	headroom  headroom
	latencies [2]latencyWindow // of whole answers, of streams
}

// New returns a pool whose breakers are all closed.
func New(o Options) *Pool {
	o = o.withDefaults()
	o.Regions = slices.Clone(o.Regions)
	slices.SortStableFunc(o.Regions, func(a, b Region) int { return a.Priority - b.Priority })
	p := &Pool{options: o}
	p.shared = newShared(o.Shared, p)
	return p
}

// Close ends the sharing of breaker states.
func (p *Pool) Close() { p.shared.close() }

func (p *Pool) has(region string) bool {
	return slices.ContainsFunc(p.options.Regions, func(r Region) bool { return r.Name == region })
}

// learn takes over what another instance found out.
func (p *Pool) learn(at deploymentKey, wait time.Duration, throttled bool) {
	b := p.deployment(at).breaker
	p.logChange(at, b, b.Learn(wait, throttled), "told by another instance")
}

// Serves says whether any region has the model.
func (p *Pool) Serves(model string) bool {
	return slices.ContainsFunc(p.options.Regions, func(r Region) bool { return r.Models[model] != "" })
}

// Home is the region for calls that must always go to the same one: the first by
// priority. Empty when there is none.
func (p *Pool) Home() string {
	if len(p.options.Regions) == 0 {
		return ""
	}
	return p.options.Regions[0].Name
}

// Models lists the names clients may use, in order.
func (p *Pool) Models() []string {
	var names []string
	for _, r := range p.options.Regions {
		for name := range r.Models {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// target is a region with the deployment a call needs there.
type target struct {
	*Region
	deployment string // empty for calls that name no model
	route      Route  // the region's, or the model's own there
	*deploymentState
}

func (t target) key() deploymentKey { return deploymentKey{t.Name, t.deployment} }

// targets lists where a call could go, best priority first.
func (p *Pool) targets(call *Call) []target {
	var list []target
	for i := range p.options.Regions {
		r := &p.options.Regions[i]
		deployment := r.Models[call.Model]
		if call.Model != "" && deployment == "" || call.Pin != "" && call.Pin != r.Name {
			continue
		}
		list = append(list, target{r, deployment, r.route(call.Model), p.deployment(deploymentKey{r.Name, deployment})})
	}
	slices.SortStableFunc(list, func(a, b target) int { return a.route.Priority - b.route.Priority })
	return list
}

func (p *Pool) deployment(at deploymentKey) *deploymentState {
	if s, ok := p.deployments.Load(at); ok {
		return s.(*deploymentState)
	}
	s, _ := p.deployments.LoadOrStore(at, &deploymentState{breaker: breaker.New(p.options.Breaker)})
	return s.(*deploymentState)
}

// Do answers the call from the first region that can. The error is a *gateway.Error.
// call.Attempts has every try, whatever came of it.
func (p *Pool) Do(ctx context.Context, call *Call) (*Answer, error) {
	p.shared.awaitFirstRead(ctx)
	f := p.candidates(call)
	var best failure
	for {
		e := f.next()
		if e == nil {
			return exhausted(call, f, best)
		}
		p.logChange(e.target.key(), e.target.breaker, e.pass.Change, "probe")
		if err := call.again(ctx); err != nil {
			e.pass.Forget()
			best.discard()
			return nil, err
		}
		for _, e := range p.ask(ctx, call, e, f) {
			if e.answer != nil {
				best.discard()
				e.answer.broke = func() { p.brokeOff(e.target) }
				return e.answer, nil
			}
			f.record(e)
			if e.failure.outcome != notReserved && e.failure.outcome != hedgeLost {
				best = preferred(best, e.failure)
			}
		}
		if ctx.Err() != nil {
			best.discard()
			return nil, gateway.ClientConnectionFailure.Because(context.Cause(ctx))
		}
	}
}

// brokeOff counts a failure that came after the commit point, when the attempt had been
// reported as good already.
func (p *Pool) brokeOff(t target) {
	if pass, ok := t.breaker.Allow(); ok {
		p.report(&attempt{target: t, pass: pass, failure: failure{outcome: broken, reason: "cut"}})
	}
}

func (p *Pool) report(e *attempt) {
	f, b := e.failure, e.target.breaker
	_, known, _ := b.Status()
	var change breaker.Change
	switch d := decisions[f.outcome]; {
	case d.trip == ignore:
		e.pass.Forget()
	case d.trip == tripNow:
		change = e.pass.Trip(f.wait, f.outcome == throttled)
	case d.trip == counted && f.wait > 0:
		change = e.pass.Trip(f.wait, false)
	case d.trip == counted:
		change = e.pass.Fail()
	default:
		change = e.pass.Success()
	}
	if _, wait, throttled := b.Status(); wait > known {
		p.shared.publish(e.target.key(), wait, throttled)
	}
	p.logChange(e.target.key(), b, change, f.reason)
}

// changed logs a change of state.
func (p *Pool) logChange(at deploymentKey, b *breaker.Breaker, c breaker.Change, reason string) {
	if c.Happened() {
		_, wait, _ := b.Status()
		p.options.Logger.Info("backend breaker changed", "region", at.region, "deployment", at.deployment,
			"from", c.From.String(), "to", c.To.String(), "wait_ms", wait.Milliseconds(), "reason", reason)
	}
}

// Health is one breaker's standing, for people.
type Health struct {
	Region     string `json:"region"`
	Deployment string `json:"deployment,omitempty"`
	State      string `json:"state"`
	WaitMillis int64  `json:"waitMs,omitempty"`
	Throttled  bool   `json:"throttled,omitempty"`

	// What is left by the region's own headers, less what was sent since; absent = not known.
	RemainingTokens   *int64 `json:"remainingTokens,omitempty"`
	RemainingRequests *int64 `json:"remainingRequests,omitempty"`
}

// Health lists what the pool knows of its backends, by priority and name.
func (p *Pool) Health() []Health {
	var list []Health
	for _, r := range p.options.Regions {
		deployments := slices.Sorted(maps.Values(r.Models))
		if _, used := p.deployments.Load(deploymentKey{r.Name, ""}); used {
			deployments = slices.Insert(deployments, 0, "") // operations that name no model
		}
		for _, deployment := range slices.Compact(deployments) {
			s := p.deployment(deploymentKey{r.Name, deployment})
			state, wait, throttled := s.breaker.Status()
			tokens, requests := s.headroom.known()
			list = append(list, Health{r.Name, deployment, state.String(), wait.Milliseconds(), throttled && state == breaker.Open, tokens, requests})
		}
	}
	return list
}
