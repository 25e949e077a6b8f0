// Package backend answers a request from one of several regions.
//
// Each region gets at most one request per call. It gets a second one only in three cases:
// its secret was fetched again, it refused stream_options, or it had closed the idle
// connection before it saw the request. Where a call allows it, a second region gets a
// hedge when the first region takes longer than in 95 of 100 recent answers.
//
// Do returns at the commit point. That is, in a stream, the first event with output; in
// a body of up to wholeBody bytes, its last byte; in a longer body, its first bytes. Before
// the commit point the client has received nothing, so a failed attempt can be followed by
// an attempt at the next region. After it there are no further attempts. The table in
// outcome.go says what each outcome means for the deployment, the call and its charge.
// README.md explains the words.
package backend

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"aoaigateway/handler/deployment"
	"aoaigateway/handler/deployment/share"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/secret"
	"aoaigateway/handler/table"
)

// The defaults of Options, which are also the defaults of the settings.
const (
	DefaultFirstByteTimeout       = 100 * time.Second
	DefaultStreamFirstByteTimeout = time.Minute
	DefaultIdleTimeout            = 10 * time.Minute
)

// Options of a Pool. A zero time means its default.
type Options struct {
	Regions                []Region
	Secrets                secret.Source
	Identity               azcore.TokenCredential // nil = no region uses a managed identity
	Transport              http.RoundTripper      // default: NewTransport(nil)
	Logger                 *slog.Logger
	FirstByteTimeout       time.Duration // until the first byte of an answer that is no stream
	StreamFirstByteTimeout time.Duration // until the first event of a stream
	IdleTimeout            time.Duration // between two bytes of an answer
	Shared                 table.Store   // the table in which instances share what they know of deployments; nil = they do not
}

func (o Options) withDefaults() Options {
	o.FirstByteTimeout = cmp.Or(o.FirstByteTimeout, DefaultFirstByteTimeout)
	o.StreamFirstByteTimeout = cmp.Or(o.StreamFirstByteTimeout, DefaultStreamFirstByteTimeout)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, DefaultIdleTimeout)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	if o.Transport == nil {
		o.Transport = NewTransport(nil)
	}
	return o
}

// Pool chooses among all regions. Safe for concurrent use.
type Pool struct {
	options     Options
	targets     map[string][]target // by model, as addTargets fills it
	deployments map[deploymentKey]*deploymentState
	fresh       http.RoundTripper // uses a new connection for each request
	noUsage     sync.Map          // deploymentKey → struct{}: deployments that refused stream_options
	shared      *share.Sync       // nil = nothing is shared
}

// New returns a pool whose deployments are all open.
func New(o Options) *Pool {
	o = o.withDefaults()
	o.Regions = slices.Clone(o.Regions)
	slices.SortStableFunc(o.Regions, func(a, b Region) int { return a.Priority - b.Priority })
	p := &Pool{options: o, fresh: o.Transport, targets: map[string][]target{}, deployments: map[deploymentKey]*deploymentState{}}
	if kept, ok := o.Transport.(*http.Transport); ok {
		fresh := kept.Clone()
		fresh.DisableKeepAlives = true
		p.fresh = fresh
	}
	p.addTargets()
	p.shared = share.New(share.Options{Table: o.Shared, Logger: o.Logger, Learn: p.learn})
	return p
}

// Close ends the sharing between instances.
func (p *Pool) Close() { p.shared.Close() }

// Serves reports whether any region serves the model.
func (p *Pool) Serves(model string) bool {
	return slices.ContainsFunc(p.options.Regions, func(r Region) bool { return r.Models[model] != "" })
}

// Home returns the name of the region for calls that must always go to the same one: the
// first by priority. It returns "" if there is no region.
func (p *Pool) Home() string {
	if len(p.options.Regions) == 0 {
		return ""
	}
	return p.options.Regions[0].Name
}

// Models returns the names that clients may use, sorted.
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

// Do returns the answer of the first region that can answer the call. An error is a
// *gateway.Error. attempts lists every request that was sent, also if there is an error. If
// hold is nil, attempts are not charged to limits.
func (p *Pool) Do(ctx context.Context, call *Call, hold Hold) (answer *Answer, attempts []gateway.Attempt, err error) {
	p.shared.AwaitFirstRead(ctx)
	c := p.candidates(call)
	var best failure
	var suspicions []suspicion
	for {
		a := c.next()
		if a == nil {
			answer, err = exhausted(call, c, best)
			return answer, attempts, err
		}
		if hold != nil && len(attempts) > 0 {
			if err := hold.Again(ctx); err != nil {
				best.discard()
				return nil, attempts, err
			}
		}
		ended := p.ask(ctx, call, hold, a, c)
		attempts = append(attempts, sentBy(ended)...)
		for _, a := range ended {
			if a.answer != nil {
				best.discard()
				p.confirm(a, suspicions)
				return a.answer, attempts, nil
			}
			c.record(a)
			if call.Creates && decisions[a.failure.outcome].unclear && ctx.Err() == nil {
				best.discard()
				a.failure.discard()
				return nil, attempts, mayBeCarriedOut(call, a)
			}
			suspicions = append(suspicions, a.suspicions...)
			if a.failure.outcome != notReserved && a.failure.outcome != hedgeLost {
				best = preferred(best, a.failure)
			}
		}
		if ctx.Err() != nil {
			best.discard()
			return nil, attempts, gateway.ClientConnectionFailure.Because(context.Cause(ctx))
		}
	}
}

// suspicion is evidence that a deployment is unavailable, if the request is not the reason.
type suspicion struct {
	key     deploymentKey
	failure deployment.Failure
	missing bool // the region said that it does not have the deployment
}

// confirm turns suspicions into evidence: another region has answered the same request, so
// the request is not the reason.
func (p *Pool) confirm(by *attempt, suspicions []suspicion) {
	if !by.answer.Succeeded() {
		return
	}
	for _, s := range suspicions {
		switch {
		case s.key == by.target.key():
		case s.missing:
			p.missing(s.key)
		default:
			p.failed(s.key, s.failure)
		}
	}
}

// sentBy returns all requests that the attempts sent, sorted by time.
func sentBy(attempts []*attempt) (sent []gateway.Attempt) {
	for _, a := range attempts {
		sent = append(sent, a.sent...)
	}
	slices.SortStableFunc(sent, func(a, b gateway.Attempt) int { return a.Start.Compare(b.Start) })
	return sent
}
