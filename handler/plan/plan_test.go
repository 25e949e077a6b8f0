package plan_test

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"aoaigateway/handler/body/bodytest"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/openai"
	"aoaigateway/handler/plan"
	"aoaigateway/handler/policy"
	"aoaigateway/handler/quota"
)

const (
	classic = "/openai/deployments/gpt/chat/completions?api-version=2025-01-01"
	v1Chat  = "/openai/v1/chat/completions"
	v1Resp  = "/openai/v1/responses"
	hello   = `{"model":"gpt","messages":[{"role":"user","content":"hi"}]}`
)

// open lets everything through; the region "west" serves "gpt" and "mini".
func open() plan.Rules {
	return plan.Rules{
		Product: policy.Product{Models: []string{"*"}},
		Model: func(name string) (policy.Model, bool) {
			known := name == "gpt"
			return policy.Model{Name: name, ContextWindow: 1000, FirstByteTimeout: 7 * time.Second, Hedge: true}, known
		},
		Serves:          func(model string) bool { return model == "gpt" || model == "mini" },
		Home:            "west",
		APIVersionFloor: "2024-10-21",
		UsualOutput:     func(string) int64 { return 100 },
	}
}

func hardTokens() plan.Rules {
	r := open()
	r.Product.Limits = []policy.Limit{{Name: "l", Unit: policy.Tokens, Amount: 1000, Per: policy.Day, Hard: true}}
	return r
}

// input is a POST of JSON, or a GET if there is no body.
func input(t *testing.T, target, body string, headers ...string) request {
	t.Helper()
	method := http.MethodPost
	if body == "" {
		method = http.MethodGet
	}
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	m, _, ok := openai.Find(method, strings.TrimPrefix(u.Path, "/openai"))
	if !ok {
		t.Fatalf("no operation %s %s", method, u.Path)
	}
	h := http.Header{"Content-Type": {"application/json"}}
	for _, kv := range headers {
		name, value, _ := strings.Cut(kv, "=")
		h.Set(name, value)
	}
	return request{plan.Head{Method: method, URL: u, Header: h, Match: m, HasBody: body != ""}, body}
}

// request is a request whose body has arrived.
type request struct {
	plan.Head
	body string
}

// newPlan makes the plan of a request in both steps.
func newPlan(r plan.Rules, q request) (plan.Plan, error) {
	p, err := plan.FromHead(r, q.Head)
	if err == nil {
		err = p.AddBody(r, bodytest.Of([]byte(q.body)))
	}
	return p, err
}

// sent is the body that a region gets, except for the name of the deployment.
func sent(p *plan.Plan) string {
	edits := p.Call.Edits
	if p.Call.AskUsage != nil {
		edits = append(slices.Clone(edits), *p.Call.AskUsage)
	}
	content, _ := io.ReadAll(p.Call.Body.With(edits...).Reader()) // cannot fail: it reads from memory
	return string(content)
}

// plain is the body for a region that refuses stream options.
func plain(p *plan.Plan) string {
	content, _ := io.ReadAll(p.Call.Body.With(p.Call.Edits...).Reader())
	return string(content)
}

func planned(t *testing.T, r plan.Rules, in request) plan.Plan {
	t.Helper()
	p, err := newPlan(r, in)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPlanRefusals(t *testing.T) {
	narrow := open()
	narrow.Product.Models = []string{"mini"}
	background := `{"model":"gpt","input":"x","background":true}`
	for name, c := range map[string]struct {
		rules plan.Rules
		in    request
		fault gateway.Fault
		model string // what the record shows
	}{
		"WebSocket":               {open(), input(t, "/openai/realtime", ""), gateway.RealtimeNotSupported, ""},
		"broken body":             {open(), input(t, v1Chat, `{"model":`), gateway.MalformedRequest, ""},
		"no model":                {open(), input(t, v1Chat, `{"messages":[]}`), gateway.MissingModel, ""},
		"unknown model":           {open(), input(t, v1Chat, `{"model":"other"}`), gateway.DeploymentNotFound, "other"},
		"model of others":         {narrow, input(t, v1Chat, hello), gateway.ModelNotAllowed, "gpt"},
		"classic, no api-version": {open(), input(t, "/openai/deployments/gpt/chat/completions", hello), gateway.ResourceNotFound, "gpt"},
		"background, hard limit":  {hardTokens(), input(t, v1Resp, background), gateway.OperationNotMetered, ""},
		"unmetered, hard limit":   {hardTokens(), input(t, "/openai/v1/files", ""), gateway.OperationNotMetered, ""},
		"speech, hard limit":      {hardTokens(), input(t, "/openai/v1/audio/speech", `{"model":"gpt"}`), gateway.OperationNotMetered, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := newPlan(c.rules, c.in)
			if e, ok := errors.AsType[*gateway.Error](err); !ok || e.Code != c.fault.Code || e.Kind != c.fault.Kind {
				t.Errorf("%v, want %s", err, c.fault.Code)
			}
			if p.Model != c.model {
				t.Errorf("model %q, want %q", p.Model, c.model)
			}
		})
	}
	for name, in := range map[string]request{
		"background without hard limits": input(t, v1Resp, background),
		"a stored response":              input(t, "/openai/v1/responses/resp_1", ""),
	} {
		r := open()
		if strings.HasPrefix(name, "a stored") { // reading it uses no tokens
			r = hardTokens()
		}
		if _, err := newPlan(r, in); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPlanModel(t *testing.T) {
	p := planned(t, open(), input(t, classic, strings.Replace(hello, "gpt", "placeholder", 1)))
	if p.Model != "gpt" || p.Call.ModelEdit != nil || p.Call.Path != "/openai/deployments/{deployment}/chat/completions" {
		t.Errorf("from the path: %q, %t, %s", p.Model, p.Call.ModelEdit != nil, p.Call.Path)
	}
	p = planned(t, open(), input(t, v1Chat+"/", hello))
	if p.Model != "gpt" || p.Call.ModelEdit == nil || p.Call.Path != v1Chat || sent(&p) != hello {
		t.Errorf("from the body: %q, %t, %s", p.Model, p.Call.ModelEdit != nil, p.Call.Path)
	}
	if p.Call.FirstByteTimeout != 7*time.Second {
		t.Errorf("first-byte timeout %v, want the model's", p.Call.FirstByteTimeout)
	}
	p = planned(t, open(), input(t, "/openai/v1/audio/transcriptions", "--x", "Content-Type=multipart/form-data; boundary=x"))
	if p.Model != "" || p.Call.Pin != "west" || sent(&p) != "--x" {
		t.Errorf("multipart: model %q, pin %q", p.Model, p.Call.Pin)
	}
}

func TestPlanAPIVersion(t *testing.T) {
	for target, want := range map[string]string{
		"/openai/deployments/gpt/chat/completions?api-version=2023-05-15":         "2024-10-21",
		"/openai/deployments/gpt/chat/completions?API-Version=2025-04-01-preview": "2025-04-01-preview",
		v1Chat + "?api-version=preview":                                           "preview",
		v1Chat:                                                                    "",
	} {
		p := planned(t, open(), input(t, target, hello))
		if p.Call.APIVersion != want || p.Call.Query.Has("api-version") || p.Call.Query.Has("API-Version") {
			t.Errorf("%s: sends %q, query %v", target, p.Call.APIVersion, p.Call.Query)
		}
	}
	old := planned(t, open(), input(t, "/openai/deployments/gpt/chat/completions?api-version=2023-05-15", hello))
	if old.APIVersion != "2023-05-15" {
		t.Errorf("the record has %q, want the client's", old.APIVersion)
	}
}

func TestPlanOutputCap(t *testing.T) {
	capped := open()
	capped.Product.MaxOutputTokens = 7
	p := planned(t, capped, input(t, v1Chat, hello))
	want := strings.TrimSuffix(hello, "}") + `,"max_completion_tokens":7}`
	if sent(&p) != want || p.Request.MaxOutput != 7 {
		t.Error(sent(&p))
	}
	own := strings.Replace(hello, "{", `{"max_tokens":3,`, 1)
	if p := planned(t, capped, input(t, v1Chat, own)); sent(&p) != own || p.Request.MaxOutput != 3 {
		t.Errorf("a cap of its own: %s", sent(&p))
	}
	if p := planned(t, open(), input(t, v1Chat, hello)); sent(&p) != hello {
		t.Errorf("no cap in the product: %s", sent(&p))
	}
}

func TestPlanAsksForUsage(t *testing.T) {
	stream := strings.Replace(hello, "{", `{"stream":true,`, 1)
	for name, c := range map[string]struct {
		target, body string
		asks         bool
	}{
		"chat":             {v1Chat, stream, true},
		"completions":      {"/openai/v1/completions", `{"model":"gpt","prompt":"x","stream":true}`, true},
		"not a stream":     {v1Chat, hello, false},
		"asked by client":  {v1Chat, strings.Replace(stream, "{", `{"stream_options":{"include_usage":true},`, 1), false},
		"data sources":     {v1Chat, strings.Replace(stream, "{", `{"data_sources":[{}],`, 1), false},
		"responses":        {v1Resp, `{"model":"gpt","input":"x","stream":true}`, false},
		"usage turned off": {v1Chat, strings.Replace(stream, "{", `{"stream_options":{"include_usage":false},`, 1), true},
	} {
		p := planned(t, open(), input(t, c.target, c.body))
		asked := strings.Contains(sent(&p), `"include_usage":true`)
		if c.asks && (!asked || plain(&p) != c.body) || !c.asks && (p.Call.AskUsage != nil || sent(&p) != c.body) {
			t.Errorf("%s: %s, plain %s", name, sent(&p), plain(&p))
		}
	}
}

func TestPlanPin(t *testing.T) {
	for name, c := range map[string]struct {
		in          request
		object, pin string
	}{
		"chat":                {input(t, v1Chat, hello), "", ""},
		"no model":            {input(t, "/openai/v1/files", ""), "", "west"},
		"a stored response":   {input(t, "/openai/v1/responses/resp_1", ""), "resp_1", ""},
		"a previous response": {input(t, v1Resp, `{"model":"gpt","input":"x","previous_response_id":"resp_2"}`), "resp_2", ""},
		"not in chat":         {input(t, v1Chat, strings.Replace(hello, "{", `{"previous_response_id":"resp_3",`, 1)), "", ""},
	} {
		if p := planned(t, open(), c.in); p.Object != c.object || p.Call.Pin != c.pin {
			t.Errorf("%s: object %q, pin %q", name, p.Object, p.Call.Pin)
		}
	}
}

func TestPlanHedge(t *testing.T) {
	for body, want := range map[string]bool{
		`{"model":"gpt","input":"x","store":false}`:                   true,
		`{"model":"gpt","input":"x","store":false,"background":true}`: false,
		`{"model":"gpt","input":"x"}`:                                 false,
	} {
		if p := planned(t, open(), input(t, v1Resp, body)); p.Call.Hedge != want || p.KeepsResponse() == strings.Contains(body, "store") {
			t.Errorf("%s: hedge %t, keeps %t", body, p.Call.Hedge, p.KeepsResponse())
		}
	}
	r := open()
	r.Model = func(string) (policy.Model, bool) { return policy.Model{}, false }
	if p := planned(t, r, input(t, v1Chat, hello)); p.Call.Hedge {
		t.Error("hedged although the policy does not allow it for the model")
	}
}

func TestPlanCost(t *testing.T) {
	prompt := int64(len(`[{"role":"user","content":"hi"}]`))
	estimate := (prompt+3)/4 + 4
	for name, c := range map[string]struct {
		target, body string
		want         quota.Cost
	}{
		"usual output": {v1Chat, hello, quota.Cost{Estimate: estimate + 100, EstimateOutput: 100, Bound: 1000, BoundOutput: 1000}},
		"a cap below": {
			v1Chat, strings.Replace(hello, "{", `{"max_tokens":9,`, 1),
			quota.Cost{Estimate: estimate + 9, EstimateOutput: 9, Bound: prompt + 16 + 9, BoundOutput: 9},
		},
		"two choices": {
			v1Chat, strings.Replace(hello, "{", `{"n":2,`, 1),
			quota.Cost{Estimate: estimate + 200, EstimateOutput: 200, Bound: 2000, BoundOutput: 2000},
		},
		"embeddings":         {"/openai/v1/embeddings", `{"model":"gpt","input":"abcdefgh"}`, quota.Cost{Estimate: 3 + 4, Bound: 10 + 16}},
		"operations without": {"/openai/v1/audio/speech", `{"model":"gpt"}`, quota.Cost{}},
	} {
		p := planned(t, open(), input(t, c.target, c.body))
		if d := cmp.Diff(c.want, p.Cost); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	p := planned(t, open(), input(t, v1Chat, strings.Replace(hello, "{", `{"max_tokens":9,"n":2,`, 1)))
	if p.Call.Need != estimate+18 {
		t.Errorf("a region charges %d on arrival, want %d", p.Call.Need, estimate+18)
	}
}

func TestPlanQueryAndHeaders(t *testing.T) {
	in := input(t, v1Chat+"?code=s&Subscription-Key=s&api-key=s&x=1", hello,
		"Authorization=s", "Api-Key=s", "Ocp-Apim-Subscription-Key=s", "Cookie=s", "X-Functions-Key=s",
		"X-Gateway-Client-Ip=1.2.3.4", "X-Forwarded-For=1.2.3.4", "Forwarded=for=1.2.3.4", "Client-Ip=1.2.3.4", "X-Client-Ip=1.2.3.4",
		"X-Arr-Ssl=1", "X-Waws-Unencoded-Url=1", "X-Azure-Fdid=1", "X-Appservice-Proto=1", "X-Site-Deployment-Id=1",
		"X-Ms-Client-Principal=1", "X-Ms-Token-Aad-Id-Token=s", "X-Original-Url=1", "Disguised-Host=1", "Was-Default-Hostname=1",
		"Connection=close, X-Hop", "X-Hop=1", "Te=trailers", "Expect=100-continue", "X-Http-Method-Override=DELETE",
		"OpenAI-Beta=assistants=v2", "X-Ms-Client-Request-Id=id", "User-Agent=sdk")
	p := planned(t, open(), in)
	if d := cmp.Diff(url.Values{"x": {"1"}}, p.Call.Query); d != "" {
		t.Error(d)
	}
	want := http.Header{
		"Content-Type": {"application/json"}, "Openai-Beta": {"assistants=v2"}, "X-Ms-Client-Request-Id": {"id"}, "User-Agent": {"sdk"},
	}
	if d := cmp.Diff(want, p.Call.Header); d != "" {
		t.Error(d)
	}
}

func TestDescribeFillsRecord(t *testing.T) {
	body := strings.Replace(hello, "{", `{"stream":true,"user":"u1",`, 1)
	p := planned(t, open(), input(t, classic, body))
	var rec gateway.Record
	p.Describe(&rec)
	if !rec.Stream || rec.EndUser != "u1" || rec.Model != "gpt" || rec.APIVersion != "2025-01-01" {
		t.Errorf("%+v", rec)
	}
	if long := strings.Repeat("é", 100); len(plan.Printable(long)) > 130 || !strings.HasPrefix(plan.Printable(long), "éé") {
		t.Errorf("%q", plan.Printable(long))
	}
}
