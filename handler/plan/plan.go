// Package plan decides how to serve one inference request: what to send, to which regions,
// and what it may cost. Its functions depend only on the request and on the rules that they
// are given, and have no side effects.
package plan

import (
	"net/http"
	"net/url"
	"strings"

	"aoaigateway/handler/backend"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/headers"
	"aoaigateway/handler/openai"
	"aoaigateway/handler/policy"
	"aoaigateway/handler/quota"
)

// Input is the part of the request that a plan depends on.
type Input struct {
	Method string
	URL    *url.URL
	Header http.Header
	Match  openai.Match
	Body   []byte
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

// Plan says how to serve one request. After New only a pin is added to it.
type Plan struct {
	Kind       openai.Kind
	Request    openai.Request // the parsed body; zero if the body was not parsed
	APIVersion string         // as the client sent it
	Model      string         // as the client names it
	Call       backend.Call
	Object     string // id of the stored response that the request refers to; empty = none
	Cost       quota.Cost
	Invocation string // the host's id of the request, if the request must reach a region only once; empty = it may be sent again
}

// New makes the plan. With an error it returns what it had found until then, for the
// record.
func New(r Rules, in Input) (p Plan, err error) {
	p.Kind = in.Match.Kind
	if p.Kind == openai.WebSocket {
		return p, gateway.RealtimeNotSupported.Because(nil)
	}
	if p.Request, err = readRequest(r.Product, in); err != nil {
		return p, err
	}
	if p.Model, err = chooseModel(r, in.Match, p.Request.Model); err != nil {
		return p, err
	}
	p.Invocation = onceOnly(in)
	query := headers.CleanQuery(in.URL.Query())
	p.APIVersion = takeVersion(query)
	version, err := upstreamVersion(in.Match.Surface, p.APIVersion, r.APIVersionFloor)
	if err != nil {
		return p, err
	}
	model, _ := r.Model(p.Model)
	p.Call = backend.Call{
		Method: in.Method, Path: upstreamPath(in.URL.Path, in.Match), Query: query, APIVersion: version,
		Header: headers.Upstream(in.Header), Model: p.Model, ModelInBody: in.Match.Deployment == "" && p.Request.Model != "",
		Stream: p.Request.Stream, FirstByteTimeout: model.FirstByteTimeout,
	}
	if p.Call.Body, err = capOutput(r.Product, p.Kind, &p.Request, in.Body); err != nil {
		return p, err
	}
	if needsUsage(p.Kind, p.Request) {
		p.Call.PlainBody = p.Call.Body
		if p.Call.Body, err = openai.WithUsage(p.Call.PlainBody); err != nil {
			return p, err
		}
	}
	if p.Object = referredResponse(in.Match, p.Request); p.Object == "" && p.Call.Model == "" {
		p.Call.Pin, p.Call.PinReason = r.Home, "serves this operation"
	}
	if p.Kind.Metered() {
		p.Call.Need = p.Request.PromptEstimate() + p.Request.MaxOutput*p.Request.Choices
		p.Call.Hedge = model.Hedge && repeatable(p.Kind, p.Request)
		p.Cost = costOf(p.Kind, p.Request, r.UsualOutput(p.Model), model.ContextWindow)
	}
	return p, nil
}

// onceOnly returns the invocation id of a request that must not be executed twice,
// otherwise "". The Functions host repeats requests without a body when the gateway dies,
// and a repeated POST would create a second object. Repeating a cancellation does no harm.
func onceOnly(in Input) string {
	if in.Method != http.MethodPost || len(in.Body) > 0 || strings.HasSuffix(in.URL.Path, "/cancel") {
		return ""
	}
	return in.Header.Get("X-Azure-Functions-Invocationid")
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
func readRequest(product policy.Product, in Input) (req openai.Request, err error) {
	kind := in.Match.Kind
	isJSON := strings.HasPrefix(in.Header.Get("Content-Type"), "application/json")
	if kind.Metered() || kind == openai.BodyModel && isJSON { // other bodies, such as multipart, are passed on unparsed
		if req, err = openai.ParseRequest(kind, in.Body); err != nil {
			return req, gateway.MalformedRequest.New("%s.", capitalize(err.Error()))
		}
	}
	switch {
	case !product.HardTokens():
	case kind.Metered() && req.Background:
		return req, gateway.OperationNotMetered.New(
			"Background responses end after their answer, so the gateway cannot hold their tokens against this product's hard limits. " +
				"Send the request without \"background\".")
	case !kind.Metered() && in.Match.Response == "": // otherwise the operation is about a stored response and uses no tokens
		return req, gateway.OperationNotMetered.New(
			"The gateway does not meter the tokens of this operation, and the subscription's product has hard limits. " +
				"Use a product without hard limits for it.")
	}
	return req, nil
}

// chooseModel returns the model that the client asked for. If the route has the model in
// its path, the body is ignored, because clients put placeholders into it.
func chooseModel(r Rules, match openai.Match, inBody string) (string, error) {
	name := match.Deployment
	if name == "" {
		name = inBody
	}
	switch {
	case name == "" && match.Kind.Metered():
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

// capOutput writes the product's output cap into the body of a metered request that names
// none.
func capOutput(product policy.Product, kind openai.Kind, req *openai.Request, body []byte) ([]byte, error) {
	if product.MaxOutputTokens == 0 || !kind.Metered() || req.MaxOutput > 0 {
		return body, nil
	}
	req.MaxOutput = product.MaxOutputTokens
	return openai.WithMaxOutput(kind, body, product.MaxOutputTokens)
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
