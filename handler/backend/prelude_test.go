package backend_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"aoaigateway/handler/gateway"
	sseformat "aoaigateway/handler/sse"
)

// The frames of streams before any output, with one frame of output, by API.
var apis = map[string]struct {
	path, output, end string
	prelude           []string
	failure           func(code string) string
}{
	"responses": {
		path:   "/openai/v1/responses",
		output: "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"b\"}\n\n",
		end:    "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{}}\n\n",
		prelude: []string{
			"event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_%s\"}}\n\n",
			"event: response.queued\ndata: {\"type\":\"response.queued\",\"response\":{\"id\":\"resp_%s\"}}\n\n",
			"event: keepalive\ndata: {\"type\":\"keepalive\"}\n\n", ": %s\n\n",
			"event: response.in_progress\ndata: {\"type\":\"response.in_progress\",\"response\":{\"id\":\"resp_%s\"}}\n\n",
		},
		failure: func(code string) string {
			return "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"status\":\"failed\",\"error\":null}}\n\n" +
				"event: error\ndata: {\"type\":\"error\",\"error\":{\"code\":\"" + code + "\",\"message\":\"m\"}}\n\n"
		},
	},
	"chat": {
		path:   "/openai/deployments/{deployment}/chat/completions",
		output: "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"b\"}}]}\n\n", end: "data: [DONE]\n\n",
		prelude: []string{
			"data: {\"id\":\"%s\",\"choices\":[],\"prompt_filter_results\":[{\"prompt_index\":0}]}\n\n", ": %s\n\n",
			"data: {\"id\":\"%s\",\"choices\":[" +
				"{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null},\"finish_reason\":null}]}\n\n",
		},
		failure: func(code string) string { return "data: {\"error\":{\"code\":\"" + code + "\",\"message\":\"m\"}}\n\n" },
	},
	"completions": {
		path:   "/openai/deployments/{deployment}/completions",
		output: "data: {\"choices\":[{\"index\":0,\"text\":\"b\"}]}\n\n", end: "data: [DONE]\n\n",
		prelude: []string{"data: {\"id\":\"%s\",\"choices\":[{\"index\":0,\"text\":\"\",\"finish_reason\":null}]}\n\n"},
		failure: func(code string) string { return "data: {\"error\":{\"code\":\"" + code + "\",\"message\":\"m\"}}\n\n" },
	},
}

// refusalCase says what a refusal inside a 200 is, by its code.
type refusalCase struct {
	code, reason, state string
	kept                string // what the hold says when another region answers
	moves               bool
	error               gateway.Kind // the gateway's error without another region; 0 = the region's own frames
}

var refusalCases = []refusalCase{
	{"rate_limit_exceeded", "throttled", "throttled", "[again]", true, gateway.RateLimited},
	{"429", "throttled", "throttled", "[again]", true, gateway.RateLimited},
	{"server_is_overloaded", "throttled", "throttled", "[again]", true, gateway.RateLimited}, // the header names a wait
	{"server_error", "error-event", "open", "[again]", true, 0},
	{"content_filter", "", "open", "[]", false, 0},
	{"cut", "cut-before-first-event", "open", "[kept again]", true, gateway.Unavailable},
}

// preludeOf returns the first n events before any output, with the region's name in them.
func preludeOf(frames []string, region string) (s string) {
	for _, f := range frames {
		s += strings.ReplaceAll(f, "%s", region)
	}
	return s
}

// A refusal, failure or cut before any output is treated as its status would be, at every
// position: the client gets all bytes of the region that answers and none of the other.
func TestRefusalInsideStream(t *testing.T) {
	for name, api := range apis {
		whole := preludeOf(api.prelude, "b") + api.output + api.end
		for n := range len(api.prelude) + 1 {
			for _, c := range refusalCases {
				t.Run(fmt.Sprintf("%s %d %s", name, n, c.code), func(t *testing.T) {
					frames := preludeOf(api.prelude[:n], "a") + api.failure(c.code)
					refuses := status(200, frames, sse, "Retry-After=4")
					if c.code == "cut" {
						refuses = cut(preludeOf(api.prelude[:n], "a"), sse)
					}
					synctest.Test(t, func(t *testing.T) { c.failsOver(t, api.path, refuses, frames, whole) })
					synctest.Test(t, func(t *testing.T) { c.alone(t, refuses, frames) })
				})
			}
		}
	}
}

// failsOver checks a refusal with another region that answers.
func (c refusalCase) failsOver(t *testing.T, path string, refuses reply, frames, whole string) {
	t.Helper()
	p, _ := newPool(t, map[string][]reply{"a": {refuses}, "b": {status(200, whole, sse)}})
	l := &ledger{}
	cl := l.call(true)
	cl.Path = path
	a, err := ask(t.Context(), p, cl)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	want := whole
	if !c.moves {
		want = frames
	}
	if got := events(t, a.Next); got != want || cl.Attempts[0].Reason != c.reason || fmt.Sprint(l.steps) != c.kept {
		t.Errorf("%s, hold %v\n%q, want\n%q", tries(cl), l.steps, got, want)
	}
	if h := p.Health()[0]; h.State != c.state || c.state == "throttled" && h.WaitMillis != 4000 {
		t.Errorf("state %+v", h)
	}
}

// alone checks a refusal without another region.
func (c refusalCase) alone(t *testing.T, refuses reply, frames string) {
	t.Helper()
	p, _ := newPool(t, map[string][]reply{"a": {refuses}})
	a, err := ask(t.Context(), p, call(true))
	if c.error != 0 {
		if gateway.KindOf(err) != c.error {
			t.Errorf("alone: %v, %v", a, err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if got := events(t, a.Next); got != frames {
		t.Errorf("alone: %q, want %q", got, frames)
	}
}

// A region without the deployment is passed by; when all say so, the region's words pass.
func TestMissingDeployment(t *testing.T) {
	for name, says := range map[string]reply{
		"classic": status(404, `{"error":{"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist."}}`),
		"v1 400":  status(400, `{"error":{"code":null,"message":"Could not find an existing deployment to match the model in the request."}}`),
		"v1 404":  status(404, `{"error":{"code":"model_not_found","message":"The model does not exist"}}`),
		"retired": status(410, `{"error":{"code":"ModelDeprecated","message":"The model has been retired"}}`),
	} {
		for _, stream := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) { missingInOne(t, name, says, stream) })
			p, _ := newPool(t, map[string][]reply{"a": {says}, "b": {says}})
			if a, err := ask(t.Context(), p, call(stream)); err != nil || a.Succeeded() || p.Health()[0].State != "open" {
				t.Errorf("%s everywhere: %+v, %v", name, a, err)
			}
			p, _ = newPool(t, map[string][]reply{"a": {says}, "b": {throttles}})
			if _, err := ask(t.Context(), p, call(stream)); gateway.KindOf(err) != gateway.RateLimited {
				t.Errorf("%s, and the other throttles: %v", name, err)
			}
		}
	}
}

func missingInOne(t *testing.T, name string, says reply, stream bool) {
	t.Helper()
	better := good
	if stream {
		better = goodStream
	}
	p, s := newPool(t, map[string][]reply{"a": {says}, "b": {better}})
	l := &ledger{}
	cl := l.call(stream)
	a, err := ask(t.Context(), p, cl)
	if err != nil || tries(cl) != "a/deployment-missing b/" || fmt.Sprint(l.steps) != "[again]" {
		t.Fatalf("%s: %s, %v, %v", name, tries(cl), err, l.steps)
	}
	a.Close()
	if h := p.Health()[0]; h.State != "missing" {
		t.Errorf("%s: %+v", name, h)
	}
	a, err = ask(t.Context(), p, call(stream))
	if err != nil || len(s.asked) != 3 {
		t.Fatalf("%s: the region was asked again: %v, %v", name, s.asked, err)
	}
	a.Close()
}

// A region that sends no output, without end, is left after 1 MiB.
func TestEndlessPreludeIsBounded(t *testing.T) {
	for name, event := range map[string]string{
		"comments": ": " + strings.Repeat("x", 1000) + "\n\n", "empty events": "data:\n\n",
		"created": "event: response.created\ndata: {\"x\":\"" + strings.Repeat("x", 1000) + "\"}\n\n",
	} {
		endless := &repeating{text: event}
		p, _ := newPool(t, map[string][]reply{"a": {streaming(endless, sse)}, "b": {goodStream}})
		cl := call(true)
		a, err := ask(t.Context(), p, cl)
		if err != nil || tries(cl) != "a/no-output b/" || endless.read > 2<<20 {
			t.Fatalf("%s: %s after %d bytes, %v", name, tries(cl), endless.read, err)
		}
		a.Close()
	}
}

// A hidden-thinking model sends its first bytes at once and its output minutes later.
func TestSlowOutputIsNotLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &pausing{t.Context(), []string{
			"data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n", apis["chat"].output, "data: [DONE]\n\n",
		}, 50 * time.Second}
		p, _ := newPool(t, map[string][]reply{"a": {streaming(slow, sse)}, "b": {goodStream}})
		cl := call(true)
		a, err := ask(t.Context(), p, cl)
		if err != nil || tries(cl) != "a/" {
			t.Fatalf("%s, %v", tries(cl), err)
		}
		a.Close()
	})
}

// repeating is a body without end.
type repeating struct {
	text string
	read int
}

func (r *repeating) Read(p []byte) (int, error) {
	n := copy(p, r.text[r.read%len(r.text):])
	r.read += n
	return n, nil
}

// events joins all events of a stream.
func events(t *testing.T, next func() (sseformat.Event, error)) string {
	t.Helper()
	var all strings.Builder
	for {
		e, err := next()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			return all.String()
		}
		all.Write(e.Raw)
	}
}
