package proxy

import (
	"net/http"
	"net/url"
	"strings"

	"aoaigateway/handler/backend"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/openai"
	"aoaigateway/handler/policy"
	"aoaigateway/handler/quota"
)

// facts are what a plan depends on in the request.
type facts struct {
	method string
	url    *url.URL
	header http.Header
	match  openai.Match
	body   []byte
}

// rules are what a plan depends on in the gateway.
type rules struct {
	product      policy.Product
	model        func(name string) (policy.Model, bool)
	serves       func(model string) bool
	home         string // the region of operations that name no model
	versionFloor string
	usualOutput  func(model string) int64 // tokens of a model's recent answers
}

// plan is what to do about one request. It is never changed after the request was pinned.
type plan struct {
	kind       openai.Kind
	request    openai.Request // what the body says; zero if it was not read
	apiVersion string         // the client's
	asked      string         // the model as the client names it, for the record
	call       backend.Call
	object     string // id of the stored response that the request refers to; empty = none
	cost       quota.Cost
}

// newPlan decides what to send and what it may use. It touches nothing outside its
// arguments. On an error the plan has what was understood until then, for the record.
func newPlan(r rules, f facts) (p plan, err error) {
	p.kind = f.match.Kind
	if p.kind == openai.WebSocket {
		return p, gateway.RealtimeNotSupported.Because(nil)
	}
	if p.request, err = readRequest(r.product, f); err != nil {
		return p, err
	}
	if p.asked, err = chooseModel(r, f.match, p.request.Model); err != nil {
		return p, err
	}
	query := CleanQuery(f.url.Query())
	p.apiVersion = takeVersion(query)
	version, err := upstreamVersion(f.match.Surface, p.apiVersion, r.versionFloor)
	if err != nil {
		return p, err
	}
	model, _ := r.model(p.asked)
	p.call = backend.Call{
		Method: f.method, Path: upstreamPath(f.url.Path, f.match), Query: query, APIVersion: version,
		Header: upstreamHeader(f.header), Model: p.asked, ModelInBody: f.match.Deployment == "" && p.request.Model != "",
		Stream: p.request.Stream, FirstByteTimeout: model.FirstByteTimeout,
	}
	if p.call.Body, err = capOutput(r.product, p.kind, &p.request, f.body); err != nil {
		return p, err
	}
	if needsUsage(p.kind, p.request) {
		p.call.PlainBody = p.call.Body
		if p.call.Body, err = openai.WithUsage(p.call.PlainBody); err != nil {
			return p, err
		}
	}
	if p.object = referredResponse(f.match, p.request); p.object == "" && p.call.Model == "" {
		p.call.Pin, p.call.PinReason = r.home, "serves this operation"
	}
	if p.kind.Metered() {
		p.call.Need = p.request.PromptEstimate() + p.request.MaxOutput*p.request.Choices
		p.call.Hedge = model.Hedge && repeatable(p.kind, p.request)
		p.cost = costOf(p.kind, p.request, r.usualOutput(p.asked), model.ContextWindow)
	}
	return p, nil
}

// describe enters into the record what the plan understood.
func (p *plan) describe(rec *gateway.Record) {
	rec.Stream, rec.EndUser = p.request.Stream, p.request.EndUser
	rec.Model, rec.APIVersion = p.asked, p.apiVersion
}

// keepsResponse reports whether the region will keep a response that later requests may name.
func (p *plan) keepsResponse() bool { return p.kind == openai.Responses && !p.request.Unstored }

// readRequest parses bodies that the gateway meters or that name the deployment, and
// refuses requests that could slip past the product's hard limits.
func readRequest(product policy.Product, f facts) (req openai.Request, err error) {
	kind := f.match.Kind
	isJSON := strings.HasPrefix(f.header.Get("Content-Type"), "application/json")
	if kind.Metered() || kind == openai.BodyModel && isJSON { // a multipart body is passed on unread
		if req, err = openai.ParseRequest(kind, f.body); err != nil {
			return req, gateway.MalformedRequest.New("%s.", capitalize(err.Error()))
		}
	}
	switch {
	case !product.HardTokens():
	case kind.Metered() && req.Background:
		return req, gateway.OperationNotMetered.New(
			"Background responses end after their answer, so the gateway cannot hold their tokens against this product's hard limits. " +
				"Send the request without \"background\".")
	case !kind.Metered() && f.match.Response == "": // operations on a stored response use no tokens
		return req, gateway.OperationNotMetered.New(
			"The gateway does not meter the tokens of this operation, and the subscription's product has hard limits. " +
				"Use a product without hard limits for it.")
	}
	return req, nil
}

// chooseModel returns the name the client asked for: from the path where the route has
// one, otherwise from the body. The body of such a route is ignored because clients put
// placeholders into it.
func chooseModel(r rules, match openai.Match, inBody string) (string, error) {
	name := match.Deployment
	if name == "" {
		name = inBody
	}
	switch {
	case name == "" && match.Kind.Metered():
		return "", gateway.MissingModel.Because(nil)
	case name == "":
		return "", nil
	case !r.serves(name):
		return printable(name), gateway.DeploymentNotFound.Because(nil)
	case !r.product.Allows(name):
		return name, gateway.ModelNotAllowed.New("The subscription's product does not include the model %s.", name)
	}
	return name, nil
}

// upstreamVersion is the api-version to send: on classic paths at least the floor.
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

// upstreamPath leaves a slot in the path for the region's own deployment name.
func upstreamPath(path string, m openai.Match) string {
	path = strings.TrimRight(path, "/") // the operation was found without it
	if m.Deployment == "" {
		return path
	}
	return strings.Replace(path, "/deployments/"+m.Deployment, "/deployments/{deployment}", 1)
}

// capOutput writes the product's output cap into a metered request that names none.
func capOutput(product policy.Product, kind openai.Kind, req *openai.Request, body []byte) ([]byte, error) {
	if product.MaxOutputTokens == 0 || !kind.Metered() || req.MaxOutput > 0 {
		return body, nil
	}
	req.MaxOutput = product.MaxOutputTokens
	return openai.WithMaxOutput(kind, body, product.MaxOutputTokens)
}

// needsUsage reports whether the gateway must ask for the usage chunk of a stream. With
// data sources the service refuses stream_options.
func needsUsage(kind openai.Kind, req openai.Request) bool {
	return req.Stream && !req.IncludeUsage && !req.DataSources && (kind == openai.Chat || kind == openai.Completions)
}

// referredResponse is the id of the stored response that the request needs.
func referredResponse(match openai.Match, req openai.Request) string {
	if match.Response == "" && match.Kind == openai.Responses {
		return req.Previous
	}
	return match.Response
}

// repeatable reports whether two regions may work on the same request. A stored response
// would stay behind in one of them, and a background response would be computed twice.
func repeatable(kind openai.Kind, req openai.Request) bool {
	return kind != openai.Responses || req.Unstored && !req.Background
}

// costOf is what limits hold until the usage is known. A request whose bytes do not bound
// its tokens is bounded by the model's context window; 0 means that the policy does not
// know it, and hard limits refuse that.
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
	cost.BoundOutput = cost.Bound // prompt and output are not known apart, and output costs more
	return cost
}

func capitalize(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func printable(s string) string {
	const longest = 128
	return strings.ToValidUTF8(s[:min(len(s), longest)], "�")
}
