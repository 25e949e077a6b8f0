// Package proxy is the request path of one inference request: read, understand, reserve,
// ask a region, pass the answer on, settle.
//
// Two promises are kept here. Nothing that completes an answer leaves before the end
// record is durable: a whole body waits for it, a stream's terminal event and the last
// 64 KiB of a long body are held back. And a cut shows as a cut: once bytes have left, a
// failure ends in an error event and an aborted connection, never in a clean end.
package proxy

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"aoaigateway/handler/affinity"
	"aoaigateway/handler/audit"
	"aoaigateway/handler/backend"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/openai"
	"aoaigateway/handler/policy"
	"aoaigateway/handler/quota"
	"aoaigateway/handler/redact"
)

// ErrAborted says that bytes have left and the answer cannot be completed: whoever owns
// the connection must break it off.
var ErrAborted = errors.New("proxy: answer broken off")

// The defaults of Options. Those with a setting are its default too.
const (
	DefaultMaxBody           = 100 << 20
	DefaultHeartbeat         = 20 * time.Second
	DefaultStreamBeginAfter  = 100 * time.Second
	DefaultClientIdleTimeout = time.Minute
	DefaultAnswerTimeout     = 220 * time.Second
	defaultTotalTimeout      = time.Hour
)

// Options of a Proxy. A zero number or time means its default.
type Options struct {
	Limiter *quota.Limiter
	Pool    *backend.Pool
	Owners  *affinity.Store
	Policy  *policy.Policy
	Logger  *slog.Logger

	APIVersionFloor   string        // older api-versions on classic paths become this one; empty = none
	MaxBody           int64         // bytes of a request body
	Heartbeat         time.Duration // a stream is silent this long before a comment is sent
	StreamBeginAfter  time.Duration // a stream without its first event is begun then
	ClientIdleTimeout time.Duration // how long a client may pause inside its body
	AnswerTimeout     time.Duration // until a whole answer must have begun
	TotalTimeout      time.Duration // of any request
}

func (o Options) withDefaults() Options {
	o.MaxBody = cmp.Or(o.MaxBody, DefaultMaxBody)
	o.Heartbeat = cmp.Or(o.Heartbeat, DefaultHeartbeat)
	o.StreamBeginAfter = cmp.Or(o.StreamBeginAfter, DefaultStreamBeginAfter)
	o.ClientIdleTimeout = cmp.Or(o.ClientIdleTimeout, DefaultClientIdleTimeout)
	o.AnswerTimeout = cmp.Or(o.AnswerTimeout, DefaultAnswerTimeout)
	o.TotalTimeout = cmp.Or(o.TotalTimeout, defaultTotalTimeout)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Proxy serves inference requests. Safe for concurrent use.
type Proxy struct {
	options    Options
	recent     *outputs
	redactions map[string]*redact.Rules // by product
}

// New returns a Proxy over its parts.
func New(o Options) *Proxy {
	return &Proxy{o.withDefaults(), &outputs{}, redactions(o.Policy)}
}

// redactions are what each product has taken out of its records.
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

// Exchange is one authenticated request and where its record is kept.
type Exchange struct {
	W      http.ResponseWriter
	R      *http.Request
	Match  openai.Match
	Record *gateway.Record
	Audit  *audit.Exchange
}

// Serve answers the request. A *gateway.Error means that nothing was written and the
// error is still to be rendered and recorded; ErrAborted that the record is complete and
// the connection is to be broken off; nil that everything is done.
func (p *Proxy) Serve(x Exchange) error {
	s := &session{Proxy: p, Exchange: x}
	if err := s.admit(); err != nil {
		return err
	}
	body, err := s.readBody()
	if err != nil {
		return err
	}
	x.Audit.Request(x.R.Header.Get("Content-Type"), body)
	if err := s.understand(body); err != nil {
		return err
	}
	if err := s.place(x.R.Context()); err != nil {
		return err
	}
	if err := s.reserve(x.R.Context()); err != nil {
		return err
	}
	defer s.hold.Release(x.R.Context())
	if err := x.Audit.Begin(); err != nil {
		return err
	}
	return s.run(x.R.Context())
}

// session is one request on its way; owned by its goroutine.
type session struct {
	*Proxy
	Exchange
	product policy.Product
	req     openai.Request
	call    backend.Call
	hold    *quota.Reservation
	kind    openai.Kind
	usage   gateway.Usage
	known   bool // usage is the service's own
	made    *made
}

// admit finds the caller's product, which also says what may be recorded.
func (s *session) admit() error {
	product, ok := s.options.Policy.Product(s.Record.Product)
	if !ok {
		return gateway.ProductNotFound.Because(nil)
	}
	s.product = product
	if product.Log == policy.LogNone {
		s.Audit.FiguresOnly()
	}
	s.Audit.Redact(s.redactions[product.Name])
	return nil
}

// understand parses the body, decides on the model and makes the call.
func (s *session) understand(body []byte) error {
	s.kind = s.Match.Kind
	if s.kind == openai.WebSocket {
		return gateway.RealtimeNotSupported.Because(nil)
	}
	if s.kind.Metered() || s.kind == openai.BodyModel {
		if err := s.parse(body); err != nil {
			return err
		}
	} else if err := s.passable(); err != nil {
		return err
	}
	return s.prepare(body)
}

func (s *session) parse(body []byte) error {
	if s.kind == openai.BodyModel && !strings.HasPrefix(s.R.Header.Get("Content-Type"), "application/json") {
		return s.passable() // multipart: not read
	}
	req, err := openai.ParseRequest(s.kind, body)
	if err != nil {
		return gateway.MalformedRequest.New("%s.", capitalize(err.Error()))
	}
	s.req = req
	s.Record.Stream, s.Record.EndUser = req.Stream, req.EndUser
	if !s.kind.Metered() {
		return s.passable()
	}
	if req.Background && s.product.HardTokens() {
		return gateway.OperationNotMetered.New("Background responses end after their answer, so the gateway cannot hold their tokens against this product's hard limits. Send the request without \"background\".")
	}
	return nil
}

// passable refuses what we do not meter to products whose limits it could slip past.
func (s *session) passable() error {
	if s.product.HardTokens() && s.Match.Response == "" { // what is done with a stored response costs none
		return gateway.OperationNotMetered.New("The gateway does not meter the tokens of this operation, and the subscription's product has hard limits. Use a product without hard limits for it.")
	}
	return nil
}

// model is the name the client asked for: from the path where the route has one, never
// the body there (clients put placeholders into it), else from the body.
func (s *session) model() (string, error) {
	name := s.Match.Deployment
	if name == "" {
		name = s.req.Model
	}
	switch {
	case name == "" && s.kind.Metered():
		return "", gateway.MissingModel.Because(nil)
	case name == "":
		return "", nil
	case !s.options.Pool.Serves(name):
		s.Record.Model = printable(name)
		return "", gateway.DeploymentNotFound.Because(nil)
	case !s.product.Allows(name):
		s.Record.Model = name
		return "", gateway.ModelNotAllowed.New("The subscription's product does not include the model %s.", name)
	}
	return name, nil
}

func (s *session) prepare(body []byte) error {
	model, err := s.model()
	if err != nil {
		return err
	}
	s.Record.Model = model
	query := CleanQuery(s.R.URL.Query())
	version := takeVersion(query)
	s.Record.APIVersion = version
	if s.Match.Surface == openai.Classic {
		if version == "" {
			return gateway.ResourceNotFound.Because(nil)
		}
		version = openai.LiftVersion(version, s.options.APIVersionFloor)
	}
	s.call = backend.Call{
		Method: s.R.Method, Path: upstreamPath(s.R.URL.Path, s.Match), Query: query, APIVersion: version,
		Header: upstreamHeader(s.R.Header), Model: model, ModelInBody: s.Match.Deployment == "" && s.req.Model != "",
		Stream: s.req.Stream,
	}
	known, _ := s.options.Policy.Model(model)
	s.call.FirstByteTimeout = known.FirstByteTimeout
	return s.edit(body)
}

// edit makes the bodies to send: with the product's output cap, and for streams with the
// usage chunk asked for.
func (s *session) edit(body []byte) (err error) {
	if limit := s.product.MaxOutputTokens; limit > 0 && s.kind.Metered() && s.req.MaxOutput == 0 {
		if body, err = openai.WithMaxOutput(s.kind, body, limit); err != nil {
			return err
		}
		s.req.MaxOutput = limit
	}
	s.call.Body = body
	if !s.req.Stream || s.req.IncludeUsage || s.req.DataSources || s.kind != openai.Chat && s.kind != openai.Completions {
		return nil
	}
	s.call.PlainBody = body
	s.call.Body, err = openai.WithUsage(body)
	return err
}

func upstreamPath(path string, m openai.Match) string {
	path = strings.TrimRight(path, "/") // the operation was found without it
	if m.Deployment == "" {
		return path
	}
	return strings.Replace(path, "/deployments/"+m.Deployment, "/deployments/{deployment}", 1)
}

func (s *session) reserve(ctx context.Context) error {
	if !s.kind.Metered() {
		hold, err := s.options.Limiter.Reserve(ctx, s.Record.Caller, s.Record.Model, quota.Cost{})
		s.hold = hold
		return err
	}
	s.call.Need = s.req.PromptEstimate() + s.req.MaxOutput*s.req.Choices // what a region holds on arrival
	cost := quota.Cost{EstimateOutput: s.likelyOutput()}
	cost.Estimate = s.req.PromptEstimate() + cost.EstimateOutput
	if bound, ok := s.req.Bound(s.kind); ok {
		cost.Bound, cost.BoundOutput = bound, min(bound, s.req.MaxOutput*s.req.Choices)
	} else {
		cost.Bound = s.contextWindow() * s.req.Choices
		cost.BoundOutput = cost.Bound // the dearer kind, for what is not known apart
	}
	hold, err := s.options.Limiter.Reserve(ctx, s.Record.Caller, s.Record.Model, cost)
	if err != nil {
		return err
	}
	s.hold = hold
	s.Record.LimitUnsure = hold.Degraded()
	s.call.Before, s.call.Kept = hold.Again, hold.Keep
	if model, _ := s.options.Policy.Model(s.Record.Model); model.Hedge && s.repeatable() {
		s.call.Beside = s.beside
	}
	s.announce(hold.Remaining())
	return nil
}

// announce tells the client what its limits leave, in headers of our own: a region's
// x-ratelimit ones speak of the region.
func (s *session) announce(left quota.Remaining) {
	for name, l := range map[string]quota.Left{
		"X-Gateway-Remaining-Tokens": left.Tokens, "X-Gateway-Remaining-Requests": left.Requests, "X-Gateway-Remaining-Quota-Tokens": left.Quota,
	} {
		if l.Limit != "" {
			s.W.Header().Set(name, strconv.FormatInt(max(0, l.Left), 10))
		}
	}
}

// likelyOutput is what a soft limit holds for the answer before it is known.
func (s *session) likelyOutput() int64 {
	if s.kind == openai.Embeddings {
		return 0
	}
	likely := s.recent.of(s.Record.Model)
	if s.req.MaxOutput > 0 {
		likely = min(likely, s.req.MaxOutput)
	}
	return likely * s.req.Choices
}

func capitalize(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func printable(s string) string {
	if len(s) > 128 {
		s = s[:128]
	}
	return strings.ToValidUTF8(s, "�")
}

// contextWindow bounds what a request can use when its bytes do not; 0 when the policy
// does not know the model, which a hard limit then refuses.
func (s *session) contextWindow() int64 {
	model, _ := s.options.Policy.Model(s.Record.Model)
	return model.ContextWindow
}
