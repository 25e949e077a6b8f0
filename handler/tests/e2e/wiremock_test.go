package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"aoaigateway/handler/app/settings"
	"aoaigateway/handler/backend"
	"aoaigateway/handler/devstack/wiremock"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/tests/harness"
)

// response is an answer in the form that WireMock's API uses.
type response map[string]any

func says200(body string) response {
	return response{"status": 200, "headers": map[string]string{"Content-Type": "application/json"}, "body": body}
}

func streams200() response {
	return response{"status": 200, "headers": map[string]string{"Content-Type": "text/event-stream"}, "body": firstChunk + lastChunk +
		usageChunk + doneEvent}
}

func refuses(code int, headers ...string) response {
	h := map[string]string{"Content-Type": "application/json"}
	for _, kv := range headers {
		name, value, _ := strings.Cut(kv, "=")
		h[name] = value
	}
	return response{"status": code, "headers": h, "body": fmt.Sprintf(`{"error":{"code":"%d","message":"the region's own words"}}`, code)}
}

func (r response) with(name string, value any) response {
	r[name] = value
	return r
}

// wired is a script for two regions, a and b: the answers of each in order (the last is
// repeated), and the expected result.
type wired struct {
	name     string
	a, b     []response
	stream   bool
	requests []string // expected attempts of each request, in order
	status   int      // expected status of all requests; 0 = 200
	states   string   // expected states of the deployments of a and b at the end
	pause    time.Duration
}

// Values for several scripts. {date} in a script stands for the date in 80 seconds.
var (
	whole, streamed = []response{says200(wholeChat)}, []response{streams200()}
	dribble         = map[string]any{"numberOfChunks": 25, "totalDuration": 900}
	both            = []string{"a/throttled b/", "b/", "b/"}
)

// wiredCases has regions that answer with errors, and regions with broken or slow
// connections.
var wiredCases = []wired{
	{
		name: "429 Retry-After in seconds", a: []response{refuses(429, "Retry-After=80"), says200(wholeChat)}, b: whole, requests: both,
		states: "throttled open",
	},
	{
		name: "429 Retry-After as a date", a: []response{refuses(429, "Retry-After={date}"), says200(wholeChat)}, b: whole, requests: both,
		states: "throttled open",
	},
	{
		name: "429 retry-after-ms", a: []response{refuses(429, "retry-after-ms=80000", "Retry-After=1"), says200(wholeChat)}, b: whole,
		requests: both, states: "throttled open",
	},
	{name: "429 alone", a: []response{refuses(429), says200(wholeChat)}, b: whole, requests: both, states: "throttled open"},
	{
		name: "429 to a stream", a: []response{refuses(429, "Retry-After=80")}, b: streamed, stream: true, requests: both,
		states: "throttled open",
	},
	{
		name: "429 until its time is over", a: []response{refuses(429, "retry-after-ms=300"), says200(wholeChat)}, b: whole,
		requests: []string{"a/throttled b/", "a/"}, states: "open open", pause: 400 * time.Millisecond,
	},
	{
		name: "429 everywhere", a: []response{refuses(429, "Retry-After=80")}, b: []response{refuses(429, "retry-after-ms=40000")},
		requests: []string{"a/throttled b/throttled", ""}, status: 429, states: "throttled throttled",
	},
	{
		name: "500 three times", a: []response{refuses(500)}, b: whole,
		requests: []string{"a/server-error b/", "a/server-error b/", "a/server-error b/", "a/server-error b/"}, states: "open open",
	},
	{
		name: "502, 408, 503", a: []response{refuses(502), refuses(408), refuses(503)}, b: whole,
		requests: []string{"a/server-error b/", "a/server-error b/", "a/server-error b/", "a/server-error b/"}, states: "open open",
	},
	{
		name: "500, 200, 500, 200", a: []response{refuses(500), says200(wholeChat), refuses(500), says200(wholeChat)}, b: whole,
		requests: []string{"a/server-error b/", "a/", "a/server-error b/", "a/"}, states: "open open",
	},
	{
		name: "503 Retry-After", a: []response{refuses(503, "Retry-After=80")}, b: whole, requests: both[:2],
		states: "throttled open",
	},
	{
		name: "500 everywhere", a: []response{refuses(500)}, b: []response{refuses(500)}, requests: []string{"a/server-error b/server-error"},
		status: 500, states: "open open",
	},
	{
		name: "reset", a: []response{{"fault": "CONNECTION_RESET_BY_PEER"}}, b: whole,
		// Both regions are one server here, so the second request finds the connection that b's answer left.
		requests: []string{
			"a/reset b/", "a/stale-connection a/reset b/", "a/stale-connection a/reset b/", "a/stale-connection a/reset b/",
			"a/stale-connection a/reset b/", "b/",
		},
		states: "unavailable open",
	},
	{
		name: "reset to a stream", a: []response{{"fault": "CONNECTION_RESET_BY_PEER"}}, b: streamed, stream: true,
		requests: []string{"a/reset b/"}, states: "open open",
	},
	{name: "hung up on", a: []response{{"fault": "EMPTY_RESPONSE"}}, b: whole, requests: []string{"a/reset b/"}, states: "open open"},
	{
		name: "garbage", a: []response{{"fault": "RANDOM_DATA_THEN_CLOSE"}}, b: whole, requests: []string{"a/reset b/"},
		states: "open open",
	},
	{
		name: "garbage after 200", a: []response{{"fault": "MALFORMED_RESPONSE_CHUNK"}}, b: whole, requests: []string{"a/broken-body b/"},
		states: "open open",
	},
	{
		name: "too late", a: []response{says200(wholeChat).with("fixedDelayMilliseconds", 3000)}, b: whole,
		requests: []string{"a/first-byte-timeout b/", "a/first-byte-timeout b/"}, states: "open open",
	},
	{
		name: "too late for a stream", a: []response{streams200().with("fixedDelayMilliseconds", 3000)}, b: streamed, stream: true,
		requests: []string{"a/first-byte-timeout b/", "a/first-byte-timeout b/"}, states: "open open",
	},
	{
		name: "late and in time", a: []response{says200(wholeChat).with("fixedDelayMilliseconds", 300)}, b: whole, requests: []string{"a/"},
		states: "open open",
	},
	{
		name: "401 once, then 200", a: []response{refuses(401), says200(wholeChat)}, b: whole,
		requests: []string{"a/credential-refused a/", "a/"}, states: "open open",
	},
	{
		name: "401 once to a stream", a: []response{refuses(401), streams200()}, b: streamed, stream: true,
		requests: []string{"a/credential-refused a/"}, states: "open open",
	},
	{
		name: "401 always", a: []response{refuses(401)}, b: whole, requests: []string{"a/credential-refused a/credential-refused b/"},
		states: "open open",
	},
	{
		name: "401 everywhere", a: []response{refuses(401)}, b: []response{refuses(401)},
		requests: []string{"a/credential-refused a/credential-refused b/credential-refused b/credential-refused"}, status: 502,
		states: "open open",
	},
	{name: "400", a: []response{refuses(400)}, b: whole, requests: []string{"a/", "a/"}, status: 400, states: "open open"},
	{name: "404", a: []response{refuses(404)}, b: whole, requests: []string{"a/"}, status: 404, states: "open open"},
	{
		name: "409 that names a time", a: []response{refuses(409, "Retry-After=80")}, b: whole,
		requests: []string{"a/conflict b/", "a/conflict b/"}, states: "open open",
	},
	{
		name: "200 in drops", a: []response{says200(wholeChat).with("chunkedDribbleDelay", dribble)}, b: whole, requests: []string{"a/"},
		states: "open open",
	},
	{
		name: "a stream in drops", a: []response{streams200().with("chunkedDribbleDelay", dribble)}, b: streamed, stream: true,
		requests: []string{"a/"}, states: "open open",
	},
	{
		name: "a stream that opens with an error", a: []response{streams200().with("body",
			"data: {\"error\":{\"code\":\"server_error\",\"message\":\"m\"}}\n\n")}, b: streamed, stream: true,
		requests: []string{"a/error-event b/"}, states: "open open",
	},
}

// script gives WireMock the answers of a region.
func script(t *testing.T, wm *wiremock.Server, path string, answers []response) {
	t.Helper()
	state := func(n int) string { return fmt.Sprintf("answer %d", n) }
	date := time.Now().Add(80 * time.Second).UTC().Format(http.TimeFormat)
	for i, answer := range answers {
		if h, ok := answer["headers"].(map[string]string); ok && h["Retry-After"] == "{date}" {
			answer = maps.Clone(answer)
			answer["headers"] = map[string]string{"Content-Type": "application/json", "Retry-After": date}
		}
		m := map[string]any{
			"request":  map[string]any{"method": "POST", "urlPathPattern": path + "/openai/.*"},
			"response": answer, "scenarioName": path,
		}
		if m["requiredScenarioState"] = state(i); i == 0 {
			m["requiredScenarioState"] = "Started"
		}
		if i+1 < len(answers) {
			m["newScenarioState"] = state(i + 1)
		}
		if err := wm.Map(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
}

// Here WireMock simulates the regions, so that the tests do not depend only on our own
// simulation.
func TestWireMockSequences(t *testing.T) {
	if testing.Short() {
		t.Skip("needs Java; make test runs it")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	wm, err := wiremock.Start(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(wm.Stop)
	for i, c := range wiredCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, wm, fmt.Sprintf("/case%d", i))
		})
	}
}

func (c wired) run(t *testing.T, wm *wiremock.Server, path string) {
	script(t, wm, path+"/a", c.a)
	script(t, wm, path+"/b", c.b)
	r := harness.Start(t, harness.Options{Settings: func(s *settings.Values) {
		s.FirstByteTimeout, s.StreamFirstByteTimeout = 1500*time.Millisecond, 1500*time.Millisecond
		for i, name := range []string{"/a", "/b"} {
			u, err := url.Parse(wm.URL + path + name)
			if err != nil {
				t.Fatal(err)
			}
			s.Backends[i].Endpoint = u
		}
	}})
	sent := map[string]int{}
	for n, want := range c.requests {
		if n > 0 && c.pause > 0 {
			pauseFor(t, c.pause)
		}
		rec := wiredOnce(r, c)
		if got := attemptsOf(rec); got != want {
			t.Errorf("request %d: attempts %q, want %q", n, got, want)
		}
		for _, a := range rec.Attempts {
			sent[a.Region]++
		}
	}
	wantSent(r, wm, path, sent)
	if got := states(r); got != c.states {
		t.Errorf("the states are %s, want %s", got, c.states)
	}
}

func wiredOnce(r *harness.Gateway, c wired) gateway.Record {
	r.T.Helper()
	body, want := harness.ChatBody, wholeChat
	if c.stream {
		body, want = harness.ChatStream, firstChunk+lastChunk+doneEvent
	}
	a := r.Post(harness.ChatPath, body)
	status := max(c.status, 200)
	switch {
	case a.Err != nil || a.Status != status:
		r.T.Errorf("%v, status %d, want %d: %s", a.Err, a.Status, status, a.Body)
	case status == 200 && string(a.Body) != want:
		r.T.Errorf("the client got %q, want %q", a.Body, want)
	case (status == 400 || status == 404) && string(a.Body) != refuses(status)["body"]:
		r.T.Errorf("the region's words were changed: %s", a.Body)
	case status == 429 && (a.Header.Get("Retry-After") == "" || a.Header.Get("Retry-After") > "40"):
		r.T.Errorf("the wait is %q", a.Header.Get("Retry-After"))
	}
	rec := r.RecordOf(a)
	if rec.Status != status || rec.Outcome != gateway.Complete && rec.Outcome != gateway.Refused {
		r.T.Errorf("record: %d, %s", rec.Status, rec.Outcome)
	}
	return rec
}

// wantSent checks that WireMock received as many requests as the records have attempts, all
// with the same body and with the region's own key.
func wantSent(r *harness.Gateway, wm *wiremock.Server, path string, sent map[string]int) {
	r.T.Helper()
	for _, region := range []string{"a", "b"} {
		got, err := wm.Requests(r.T.Context(), path+"/"+region)
		if err != nil || len(got) != sent[region] {
			r.T.Errorf("region %s got %d requests, %d are recorded, %v", region, len(got), sent[region], err)
		}
		for _, q := range got {
			raw, _ := json.Marshal(q.Headers)
			if q.Body != got[0].Body || !bytes.Contains(raw, []byte(`"key-of-`+region+`"`)) || bytes.Contains(raw, []byte(r.Key)) {
				r.T.Errorf("region %s got %+v", region, q)
			}
			if want := "/openai/deployments/chat-" + region + "/chat/completions"; !strings.Contains(q.URL, want) {
				r.T.Errorf("region %s was asked for %s", region, q.URL)
			}
		}
	}
}

func states(r *harness.Gateway) string {
	r.T.Helper()
	var list []backend.Health
	if err := json.Unmarshal(r.Do(http.MethodGet, "/manage/api/regions", "", "api-key="+harness.AdminKey).Body, &list); err != nil {
		r.T.Fatal(err)
	}
	var found []string
	for _, h := range list {
		if strings.HasPrefix(h.Deployment, "chat-") {
			found = append(found, h.State)
		}
	}
	return strings.Join(found, " ")
}
