// Package proxy serves one inference request in three steps.
//
//	plan     what to send, where it may go and what it may cost: package plan
//	deliver  asks a region and passes its answer on: whole, long or as a stream
//	settle   usage, price, the end record
//
// It keeps two promises. First, nothing that completes an answer leaves before the end
// record is durable: a whole body waits for it, and the terminal event of a stream and the
// last 64 KiB of a long body are held back. Second, a cut shows as a cut: once bytes have
// left, a failure ends in an error event and an aborted connection, never in a clean end.
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
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/meter"
	"aoaigateway/handler/openai"
	"aoaigateway/handler/plan"
	"aoaigateway/handler/policy"
	"aoaigateway/handler/quota"
	"aoaigateway/handler/redact"
)

// ErrAborted says that bytes have left and that the answer cannot be completed. Whoever
// owns the connection must abort it.
var ErrAborted = errors.New("proxy: answer broken off")

// The defaults of Options. Those with a setting are its default too.
const (
	DefaultMaxBody          = 100 << 20
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

	APIVersionFloor  string        // older api-versions on classic paths become this one; empty = none
	MaxBody          int64         // bytes of a request body
	Heartbeat        time.Duration // a stream is silent this long before a comment is sent
	StreamBeginAfter time.Duration // a stream without its first event is begun then
	AnswerTimeout    time.Duration // until a whole answer must have begun
	TotalTimeout     time.Duration // of any request
}

func (o Options) withDefaults() Options {
	o.MaxBody = cmp.Or(o.MaxBody, DefaultMaxBody)
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

// New returns a Proxy over its parts.
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

// Inference is one authenticated request and where its record is kept.
type Inference struct {
	W      http.ResponseWriter
	R      *http.Request
	Match  openai.Match
	Record *gateway.Record
	Audit  *audit.Exchange
}

// Serve answers the request. A *gateway.Error means that nothing was written and that the
// error is still to be rendered and recorded. ErrAborted means that the record is complete
// and the connection is to be aborted. Nil means that everything is done.
func (p *Proxy) Serve(in Inference) error {
	product, ok := p.options.Policy.Product(in.Record.Product)
	if !ok {
		return gateway.ProductNotFound.Because(nil)
	}
	p.limitRecording(in.Audit, product)
	body, err := readBody(in.R, p.options.MaxBody)
	if err != nil {
		return err
	}
	in.Audit.Request(in.R.Header.Get("Content-Type"), body)
	todo, err := plan.New(p.rules(product), plan.Input{Method: in.R.Method, URL: in.R.URL, Header: in.R.Header, Match: in.Match, Body: body})
	todo.Describe(in.Record)
	if err != nil {
		return err
	}
	ctx := in.R.Context()
	if err := pin(ctx, p.options.Owners, in.Record.Subscription, &todo); err != nil {
		return err
	}
	if err := p.options.Owners.FirstDelivery(ctx, in.Record.Subscription, todo.Invocation); err != nil {
		return err
	}
	reservation, err := p.options.Limiter.Reserve(ctx, in.Record.Caller, todo.Model, todo.Cost)
	if err != nil {
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

// limitRecording has the record keep no more than the product allows.
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

// setLimitHeaders tells the client what its limits leave. The headers have names of their
// own because the x-ratelimit headers of a region describe the region.
func setLimitHeaders(h http.Header, left quota.Remaining) {
	for name, l := range map[string]quota.Left{
		"X-Gateway-Remaining-Tokens": left.Tokens, "X-Gateway-Remaining-Requests": left.Requests, "X-Gateway-Remaining-Quota-Tokens": left.Quota,
	} {
		if l.Limit != "" {
			h.Set(name, strconv.FormatInt(max(0, l.Left), 10))
		}
	}
}

// hold lets the pool charge for attempts. Hedge and Release differ from the reservation's:
// an answer does not wait for the release of a hedge.
type hold struct{ *quota.Reservation }

func (h hold) Hedge(ctx context.Context) (backend.Hold, error) {
	hedge, err := h.Reservation.Hedge(ctx)
	if err != nil {
		return nil, err
	}
	return hold{hedge}, nil
}

func (h hold) Release(ctx context.Context) {
	go h.Reservation.Release(context.WithoutCancel(ctx)) // the limiter bounds it
}
