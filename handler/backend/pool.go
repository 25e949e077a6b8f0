// Package backend answers a request from one of several regions.
//
// Each region gets at most one request per call, and a second one only in three cases: its
// secret was just renewed, it turned out not to know stream_options, or it had closed the
// connection before it saw the request. Where a call allows it, a hedge goes to a second
// region when the first one is later than 95 of 100 of its recent answers.
//
// Do returns at the commit point: for a stream the first whole event that is no error, for
// a body up to wholeBody its last byte, otherwise its first bytes. Before the commit point
// nothing has reached the client, so a failed attempt is followed by one at the next
// region. After it nothing is tried again. The table in outcome.go says what each outcome
// means for the breaker, for the request and for what it holds. README.md explains the words.
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

	"aoaigateway/handler/breaker"
	"aoaigateway/handler/breakersync"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/secret"
	"aoaigateway/handler/table"
)

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
	Transport              http.RoundTripper      // default NewTransport(nil)
	Logger                 *slog.Logger
	FirstByteTimeout       time.Duration // until the first byte of a whole answer
	StreamFirstByteTimeout time.Duration // until the first event of a stream
	IdleTimeout            time.Duration // between two bytes of an answer
	Breaker                breaker.Options
	Shared                 table.Store // breaker states of all instances; nil = states stay in this process
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

// Pool is the set of regions. Safe for concurrent use.
type Pool struct {
	options     Options
	deployments sync.Map          // deploymentKey → *deploymentState
	noUsage     sync.Map          // deploymentKey → struct{}: deployments that refuse stream_options
	shared      *breakersync.Sync // nil = states stay in this process
}

// New returns a pool whose breakers are all closed.
func New(o Options) *Pool {
	o = o.withDefaults()
	o.Regions = slices.Clone(o.Regions)
	slices.SortStableFunc(o.Regions, func(a, b Region) int { return a.Priority - b.Priority })
	p := &Pool{options: o}
	p.shared = breakersync.New(breakersync.Options{Table: o.Shared, Logger: o.Logger, Learn: p.learn})
	return p
}

// Close ends the sharing of breaker states.
func (p *Pool) Close() { p.shared.Close() }

// Serves reports whether any region has the model.
func (p *Pool) Serves(model string) bool {
	return slices.ContainsFunc(p.options.Regions, func(r Region) bool { return r.Models[model] != "" })
}

// Home is the region for calls that must always go to the same one: the first by
// priority. It is empty when there is no region.
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

// Do answers the call from the first region that can. attempts lists every request that
// was sent, also when the result is an error, which is a *gateway.Error. A nil hold means
// that attempts are not charged to any limit.
func (p *Pool) Do(ctx context.Context, call *Call, hold Hold) (answer *Answer, attempts []gateway.Attempt, err error) {
	p.shared.AwaitFirstRead(ctx)
	c := p.candidates(call)
	var best failure
	for {
		a := c.next()
		if a == nil {
			answer, err = exhausted(call, c, best)
			return answer, attempts, err
		}
		p.logChange(a.target.key(), a.target.breaker, a.pass.Change, "probe")
		if hold != nil && len(attempts) > 0 {
			if err := hold.Again(ctx); err != nil {
				a.pass.Forget()
				best.discard()
				return nil, attempts, err
			}
		}
		ended := p.ask(ctx, call, hold, a, c)
		attempts = append(attempts, sentBy(ended)...)
		for _, a := range ended {
			if a.answer != nil {
				best.discard()
				a.answer.broke = func() { p.countCut(a.target) }
				return a.answer, attempts, nil
			}
			c.record(a)
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

// sentBy lists what the attempts sent, in the order of time.
func sentBy(attempts []*attempt) (sent []gateway.Attempt) {
	for _, a := range attempts {
		sent = append(sent, a.sent...)
	}
	slices.SortStableFunc(sent, func(a, b gateway.Attempt) int { return a.Start.Compare(b.Start) })
	return sent
}
