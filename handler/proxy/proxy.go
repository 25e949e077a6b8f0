// Package proxy serves one inference request in three steps.
package proxy

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"aoaigateway/handler/affinity"
	"aoaigateway/handler/audit"
	"aoaigateway/handler/backend"
	"aoaigateway/handler/body"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/meter"
	"aoaigateway/handler/openai"
	"aoaigateway/handler/plan"
	"aoaigateway/handler/policy"
	"aoaigateway/handler/quota"
	"aoaigateway/handler/redact"
)

// ErrAborted says that the client has received bytes of an answer that cannot be completed.
// The owner of the connection must abort it.
var ErrAborted = errors.New("proxy: answer broken off")

// The defaults of Options. Defaults that are exported are also the defaults of settings.
const (
	DefaultHeartbeat        = 20 * time.Second
	DefaultStreamBeginAfter = 100 * time.Second
	DefaultAnswerTimeout    = 220 * time.Second
	defaultTotalTimeout     = time.Hour
)

// Options of a Proxy. A zero number or time means its default.
type Options struct {
	Limiter *quota.Limiter
	Pool    *backend.Pool
	Owners  *affinity.Store
	Policy  *policy.Policy
	Logger  *slog.Logger
	Bodies  *body.Store // default: a Store with its defaults

	APIVersionFloor  string        // on classic paths the api-version that replaces older ones; empty = the client's passes unchanged
	Heartbeat        time.Duration // after this long without an event the gateway sends a comment on a stream
	StreamBeginAfter time.Duration // a stream that has no event by then begins with a comment
	AnswerTimeout    time.Duration // how long a whole answer may take to begin
	TotalTimeout     time.Duration // how long any request may take
}

func (o Options) withDefaults() Options {
	if o.Bodies == nil {
		o.Bodies = body.New(body.Options{})
	}
	o.Heartbeat = cmp.Or(o.Heartbeat, DefaultHeartbeat)
	o.StreamBeginAfter = cmp.Or(o.StreamBeginAfter, DefaultStreamBeginAfter)
	o.AnswerTimeout = cmp.Or(o.AnswerTimeout, DefaultAnswerTimeout)
	o.TotalTimeout = cmp.Or(o.TotalTimeout, defaultTotalTimeout)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	return o
}

// Proxy serves inference requests. Safe for concurrent use.
type Proxy struct {
	options    Options
	outputs    *meter.Averages
	redactions map[string]*redact.Rules // by product
}

// New returns a Proxy that uses the parts in o.
func New(o Options) *Proxy {
	return &Proxy{o.withDefaults(), &meter.Averages{}, redactions(o.Policy)}
}

func redactions(pol *policy.Policy) map[string]*redact.Rules {
	found := map[string]*redact.Rules{}
	for _, product := range pol.Products() {
		var rules []redact.Rule
		for _, r := range product.Redact {
			rules = append(rules, redact.Rule(r))
		}
		found[product.Name] = redact.New(rules)
	}
	return found
}

// Inference is one authenticated request, and the record that is kept of it.
type Inference struct {
	W      http.ResponseWriter
	R      *http.Request
	Match  openai.Match
	Record *gateway.Record
	Audit  *audit.Exchange
}

// Serve answers the request. A *gateway.Error means that nothing was written to the client;
// the caller must render and record the error. ErrAborted means that the record is complete
// and the caller must abort the connection. Nil means that everything is done.
func (p *Proxy) Serve(in Inference) error {
	product, ok := p.options.Policy.Product(in.Record.Product)
	if !ok {
		return gateway.ProductNotFound.Because(nil)
	}
	p.limitRecording(in.Audit, product)
	todo, err := p.readHead(in, product)
	todo.Describe(in.Record)
	if err != nil {
		return err
	}
	todo.Call.Caller = cmp.Or(in.Record.Subscription, in.Record.User)
	ctx := in.R.Context()
	reservation, err := p.admit(ctx, in, product, &todo)
	if err != nil {
		in.Audit.DropRequest() // otherwise a caller without quota could fill the storage
		return err
	}
	defer reservation.Release(ctx)
	if todo.Kind.Metered() {
		in.Record.LimitDegraded = reservation.Degraded()
		setLimitHeaders(in.W.Header(), reservation.Remaining())
	}
	if err := in.Audit.Begin(); err != nil {
		return err
	}
	d := &delivery{
		in: in, plan: &todo, options: &p.options, outputs: p.outputs, reservation: reservation,
		meter: meter.New(todo.Kind, todo.Model),
	}
	return d.run()
}

// admit reads the body, completes the plan and reserves what the request may use.
func (p *Proxy) admit(ctx context.Context, in Inference, product policy.Product, todo *plan.Plan) (*quota.Reservation, error) {
	if err := p.readBody(in, product, todo); err != nil {
		return nil, err
	}
	if err := pin(ctx, p.options.Owners, in.Record.Subscription, todo); err != nil {
		return nil, err
	}
	if err := p.options.Owners.FirstDelivery(ctx, in.Record.Subscription, todo.Invocation); err != nil {
		return nil, err
	}
	return p.options.Limiter.Reserve(ctx, in.Record.Caller, todo.Model, todo.Cost)
}

// checkedBody is the size in bytes of the smallest body before whose reading the limits are
// checked. A smaller body costs less than the check, and Reserve checks the limits anyway.
const checkedBody = 64 << 10

// readHead begins the plan, and refuses a request whose body need not be read: because of its
// head, of limits that are used up, or because no request of its kind can be served now.
// Nothing is charged or counted yet.
func (p *Proxy) readHead(in Inference, product policy.Product) (plan.Plan, error) {
	length := in.R.ContentLength
	todo, err := plan.FromHead(p.rules(product), plan.Head{
		Method: in.R.Method, URL: in.R.URL, Header: in.R.Header, Match: in.Match, HasBody: length != 0,
	})
	if err != nil {
		return todo, err
	}
	if err := p.options.Bodies.Check(length); err != nil {
		return todo, err
	}
	if length >= 0 && length < checkedBody {
		return todo, nil
	}
	if err := p.options.Limiter.Check(in.R.Context(), in.Record.Caller, todo.Model, todo.Kind.Metered()); err != nil {
		return todo, err
	}
	if err := in.Audit.MayBegin(); err != nil {
		return todo, err
	}
	if todo.Model == "" { // the body names the model
		return todo, nil
	}
	return todo, p.options.Pool.Available(todo.Model)
}

// readBody reads the body and completes the plan. The record owns the body from then on.
func (p *Proxy) readBody(in Inference, product policy.Product, todo *plan.Plan) error {
	owner := cmp.Or(in.Record.Subscription, "user:"+in.Record.User)
	held, err := p.options.Bodies.Read(in.R, owner)
	if err != nil {
		return err
	}
	in.Audit.Request(in.R.Header.Get("Content-Type"), held)
	defer todo.Describe(in.Record)
	return todo.AddBody(p.rules(product), held)
}

// limitRecording limits what the record keeps of the bodies to what the product allows.
func (p *Proxy) limitRecording(record *audit.Exchange, product policy.Product) {
	if product.Log == policy.LogNone {
		record.MetadataOnly()
	}
	record.Redact(p.redactions[product.Name])
}

func (p *Proxy) rules(product policy.Product) plan.Rules {
	return plan.Rules{
		Product: product, Model: p.options.Policy.Model, Serves: p.options.Pool.Serves, Home: p.options.Pool.Home(),
		APIVersionFloor: p.options.APIVersionFloor, UsualOutput: p.outputs.Of,
	}
}

// setLimitHeaders tells the client how much its limits have left. The headers have names of
// their own, because a region's x-ratelimit headers describe the region.
func setLimitHeaders(h http.Header, left quota.Remaining) {
	for name, l := range map[string]quota.Left{
		"X-Gateway-Remaining-Tokens": left.Tokens, "X-Gateway-Remaining-Requests": left.Requests, "X-Gateway-Remaining-Quota-Tokens": left.Quota,
	} {
		if l.Limit != "" {
			h.Set(name, strconv.FormatInt(max(0, l.Left), 10))
		}
	}
}

// hold lets the pool charge for attempts. It replaces two methods of the reservation: Hedge
// returns a backend.Hold, and Release does not delay the answer.
type hold struct{ *quota.Reservation }

func (h hold) Hedge(ctx context.Context) (backend.Hold, error) {
	hedge, err := h.Reservation.Hedge(ctx)
	if err != nil {
		return nil, err
	}
	return hold{hedge}, nil
}

func (h hold) Release(ctx context.Context) {
	go h.Reservation.Release(context.WithoutCancel(ctx)) // has a time limit of its own
}
