// Package plan decides how to serve one inference request: what to send, to which regions,
// and what it may cost. Its functions depend only on the request and on the rules that they
// are given, and have no side effects.
package plan

import (
	"net/http"
	"net/url"
	"strings"

	"aoaigateway/handler/backend"
	"aoaigateway/handler/body"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/headers"
	"aoaigateway/handler/openai"
	"aoaigateway/handler/policy"
	"aoaigateway/handler/quota"
)

// Head is the part of a request that is known before its body is read.
type Head struct {
	Method  string
	URL     *url.URL
	Header  http.Header
	Match   openai.Match
	HasBody bool
}

// Rules are the settings and the state of the gateway that a plan depends on.
type Rules struct {
	Product         policy.Product
	Model           func(name string) (policy.Model, bool)
	Serves          func(model string) bool
	Home            string                   // the region that serves operations without a model
	APIVersionFloor string                   // on classic paths the api-version that replaces older ones; empty = none
	UsualOutput     func(model string) int64 // the average output tokens of a model's recent answers
}

// Plan says how to serve one request. FromHead makes it, AddBody completes it, and after
// that only a pin is added.
type Plan struct {
	Kind       openai.Kind
	Request    openai.Request // the parsed body; zero if the body was not parsed
	APIVersion string         // as the client sent it
	Model      string         // as the client names it
	Call       backend.Call
	Object     string // id of the stored response that the request refers to; empty = none
	Cost       quota.Cost
	Invocation string // the host's id of the request, if the request must reach a region only once; empty = it may be sent again

	head Head
}

// FromHead begins the plan. It refuses what can be refused whatever the body contains. With
// an error it returns what it had found until then, for the record.
func FromHead(r Rules, h Head) (p Plan, err error) {
	p.Kind, p.head = h.Match.Kind, h
	if p.Kind == openai.WebSocket {
		return p, gateway.RealtimeNotSupported.Because(nil)
	}
	if !p.Kind.Metered() && h.Match.Response == "" && r.Product.HardTokens() { // an operation on a stored response uses no tokens
		return p, gateway.OperationNotMetered.New(
			"The gateway does not meter the tokens of this operation, and the subscription's product has hard limits. " +
				"Use a product without hard limits for it.")
	}
	if h.Match.Deployment != "" {
		if p.Model, err = chooseModel(r, p.Kind, h.Match.Deployment); err != nil {
			return p, err
		}
	}
	p.Invocation = onceOnly(h)
	query := headers.CleanQuery(h.URL.Query())
	p.APIVersion = takeVersion(query)
	version, err := upstreamVersion(h.Match.Surface, p.APIVersion, r.APIVersionFloor)
	if err != nil {
		return p, err
	}
	p.Call = backend.Call{
		Method: h.Method, Path: upstreamPath(h.URL.Path, h.Match), Query: query, APIVersion: version,
		Header: headers.Upstream(h.Header), Model: p.Model,
	}
	return p, nil
}

// AddBody completes the plan. With an error the plan has what AddBody had found until then,
// for the record.
func (p *Plan) AddBody(r Rules, b *body.Body) (err error) {
	if p.Request, err = p.readRequest(r.Product, b); err != nil {
		return err
	}
	match := p.head.Match
	if match.Deployment == "" { // otherwise the body is ignored, because clients put placeholders into it
		if p.Model, err = chooseModel(r, p.Kind, p.Request.Model); err != nil {
			return err
		}
	}
	model, _ := r.Model(p.Model)
	p.Call.Model, p.Call.Body = p.Model, b
	if match.Deployment == "" && p.Request.Model != "" {
		p.Call.ModelEdit = p.Request.WithModel
	}
	p.Call.Stream, p.Call.FirstByteTimeout = p.Request.Stream, model.FirstByteTimeout
	p.Call.Creates = p.creates()
	p.edit(r.Product)
	if p.Object = referredResponse(match, p.Request); p.Object == "" && p.Call.Model == "" {
		p.Call.Pin, p.Call.PinReason = r.Home, "serves this operation"
	}
	if p.Kind.Metered() {
		p.Call.Need = p.Request.PromptEstimate() + p.Request.MaxOutput*p.Request.Choices
		p.Call.Hedge = model.Hedge && repeatable(p.Kind, p.Request)
		p.Cost = costOf(p.Kind, p.Request, r.UsualOutput(p.Model), model.ContextWindow)
	}
	return nil
}

// edit decides what is changed in the body that is sent to the regions: it gets the product's
// output cap if it names none, and the option to report usage if needsUsage says so.
func (p *Plan) edit(product policy.Product) {
	if product.MaxOutputTokens > 0 && p.Kind.Metered() && p.Request.MaxOutput == 0 {
		p.Request.MaxOutput = product.MaxOutputTokens
		if edit, ok := p.Request.WithMaxOutput(p.Kind, product.MaxOutputTokens); ok {
			p.Call.Edits = []body.Edit{edit}
		}
	}
	if needsUsage(p.Kind, p.Request) {
		if edit, ok := p.Request.WithUsage(); ok {
			p.Call.AskUsage = &edit
		}
	}
}

// onceOnly returns the invocation id of a request that must not be executed twice,
// otherwise "". The Functions host repeats requests without a body when the gateway dies,
// and a repeated POST would create a second object. Repeating a cancellation does no harm.
func onceOnly(h Head) string {
	if h.Method != http.MethodPost || h.HasBody || strings.HasSuffix(h.URL.Path, "/cancel") {
		return ""
	}
	return h.Header.Get("X-Azure-Functions-Invocationid")
}

// Describe copies the plan into the record.
func (p *Plan) Describe(rec *gateway.Record) {
	rec.Stream, rec.EndUser = p.Request.Stream, p.Request.EndUser
	rec.Model, rec.APIVersion = p.Model, p.APIVersion
}

// KeepsResponse reports whether the region will store the response, so that later requests
// can refer to it.
func (p *Plan) KeepsResponse() bool { return p.Kind == openai.Responses && !p.Request.Unstored }

// readRequest parses bodies whose tokens are metered or that name the deployment. It
// refuses requests whose tokens the product's hard limits could not count.
func (p *Plan) readRequest(product policy.Product, b *body.Body) (req openai.Request, err error) {
	isJSON := strings.HasPrefix(p.head.Header.Get("Content-Type"), "application/json")
	if !p.Kind.Metered() && (p.Kind != openai.BodyModel || !isJSON) { // other bodies, such as multipart, are passed on unparsed
		return req, nil
	}
	if req, err = openai.ParseRequest(p.Kind, b); err != nil {
		return req, gateway.MalformedRequest.New("%s.", capitalize(err.Error()))
	}
	if req.Background && p.Kind.Metered() && product.HardTokens() {
		return req, gateway.OperationNotMetered.New(
			"Background responses end after their answer, so the gateway cannot hold their tokens against this product's hard limits. " +
				"Send the request without \"background\".")
	}
	return req, nil
}

// chooseModel returns the model that the client asked for, after it has checked that the
// caller may use it.
func chooseModel(r Rules, kind openai.Kind, name string) (string, error) {
	switch {
	case name == "" && kind.Metered():
		return "", gateway.MissingModel.Because(nil)
	case name == "":
		return "", nil
	case !r.Serves(name):
		return Printable(name), gateway.DeploymentNotFound.Because(nil)
	case !r.Product.Allows(name):
		return name, gateway.ModelNotAllowed.New("The subscription's product does not include the model %s.", name)
	}
	return name, nil
}

// upstreamVersion returns the api-version to send to the region. On classic paths it is at
// least the floor.
func upstreamVersion(surface, client, floor string) (string, error) {
	switch {
	case surface != openai.Classic:
		return client, nil
	case client == "":
		return "", gateway.ResourceNotFound.Because(nil)
	default:
		return openai.LiftVersion(client, floor), nil
	}
}

// takeVersion removes the api-version from the query and returns it. The service ignores
// the case of this parameter's name.
func takeVersion(query url.Values) (version string) {
	for name, values := range query {
		if strings.EqualFold(name, "api-version") {
			version = max(version, values[0])
			delete(query, name)
		}
	}
	return version
}

// upstreamPath returns the path with {deployment} in the place of the model. The pool puts
// the region's deployment name there.
func upstreamPath(path string, m openai.Match) string {
	path = strings.TrimRight(path, "/") // openai.Find ignores trailing slashes too
	if m.Deployment == "" {
		return path
	}
	return strings.Replace(path, "/deployments/"+m.Deployment, "/deployments/{deployment}", 1)
}

// needsUsage reports whether the gateway must ask for the usage chunk of a stream. It must
// not ask when the request has data sources, because then the service refuses
// stream_options.
func needsUsage(kind openai.Kind, req openai.Request) bool {
	return req.Stream && !req.IncludeUsage && !req.DataSources && (kind == openai.Chat || kind == openai.Completions)
}

// referredResponse returns the id of the stored response that the request refers to, or "".
func referredResponse(match openai.Match, req openai.Request) string {
	if match.Response == "" && match.Kind == openai.Responses {
		return req.Previous
	}
	return match.Response
}

// creates reports whether the request may create something that a second execution would
// create again.
func (p *Plan) creates() bool {
	if p.Call.Method == http.MethodGet || p.Call.Method == http.MethodHead {
		return false
	}
	return !p.Kind.Metered() || !repeatable(p.Kind, p.Request)
}

// repeatable reports whether two regions may work on the same request. A stored response
// would remain in the region whose answer is not used, and a background response would be
// computed twice.
func repeatable(kind openai.Kind, req openai.Request) bool {
	return kind != openai.Responses || req.Unstored && !req.Background
}

// costOf returns what the limits hold until the usage is known. If the size of the request
// does not bound its tokens, the model's context window does. If the policy has no context
// window for the model, the bound is 0, and hard limits refuse the request.
func costOf(kind openai.Kind, req openai.Request, usualOutput, contextWindow int64) quota.Cost {
	var cost quota.Cost
	if kind != openai.Embeddings {
		if req.MaxOutput > 0 {
			usualOutput = min(usualOutput, req.MaxOutput)
		}
		cost.EstimateOutput = usualOutput * req.Choices
	}
	cost.Estimate = req.PromptEstimate() + cost.EstimateOutput
	if bound, ok := req.Bound(kind); ok {
		cost.Bound, cost.BoundOutput = bound, min(bound, req.MaxOutput*req.Choices)
		return cost
	}
	cost.Bound = contextWindow * req.Choices
	cost.BoundOutput = cost.Bound // the bound covers prompt and output together, and output costs more, so all of it counts as output
	return cost
}

func capitalize(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// Printable cuts text from the client to 128 bytes of valid UTF-8, for messages and the record.
func Printable(s string) string {
	const longest = 128
	return strings.ToValidUTF8(s[:min(len(s), longest)], "�")
}
