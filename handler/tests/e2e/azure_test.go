package e2e_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidwall/gjson"

	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/devstack/aoaisim/wire"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/tests/harness"
)

// scenarioOf makes a region play a scenario once; times 0 = until the faults are cleared.
func scenarioOf(region *aoaisim.Region, name string, times int) {
	region.Fault(aoaisim.Fault{Do: aoaisim.DoScenario, Scenario: name, Times: times})
}

// toolCallBySecond makes the second region answer with reasoning and a tool call.
func toolCallBySecond(r *harness.Gateway) gjson.Result {
	r.T.Helper()
	scenarioOf(r.Regions[0], "error/throttled", 1)
	scenarioOf(r.Regions[1], "tool-call", 1)
	a := r.Post(responsesPath, responsesBody)
	if rec := wantComplete(r, a); rec.Region != "b" {
		r.T.Fatalf("by %s", rec.Region)
	}
	r.Regions[0].ClearFaults()
	return gjson.ParseBytes(a.Body)
}

// wantSecond sends a request that only the second region can answer, when the first one is
// available again.
func wantSecond(r *harness.Gateway, body string) {
	r.T.Helper()
	time.Sleep(5 * time.Second)
	if a := r.Post(responsesPath, body); a.Status != http.StatusOK || r.RecordOf(a).Region != "b" {
		r.T.Errorf("%d: %s", a.Status, a.Body)
	}
}

func TestItemsReturnToRegion(t *testing.T) {
	harness.ExpectFailure(t, harness.Regions)
	inVirtualTime(t, 2, func(_ *testing.T, r *harness.Gateway) {
		call := toolCallBySecond(r).Get("output.1")
		wantSecond(r, `{"model":"chat","input":[{"role":"user","content":"hi"},`+call.Raw+
			`,{"type":"function_call_output","call_id":"`+call.Get("call_id").Str+`","output":"rain"}]}`)
	})
}

func TestEncryptedContentReturns(t *testing.T) {
	harness.ExpectFailure(t, harness.Regions)
	inVirtualTime(t, 2, func(_ *testing.T, r *harness.Gateway) {
		wantSecond(r, `{"model":"chat","store":false,"input":[`+toolCallBySecond(r).Get("output.0").Raw+`,{"role":"user","content":"more"}]}`)
	})
}

// A response that its region does not find for a moment is asked for again.
func TestStoredResponseIsLate(t *testing.T) {
	harness.ExpectFailure(t, harness.Regions)
	inVirtualTime(t, 1, func(t *testing.T, r *harness.Gateway) {
		a := r.Post(responsesPath, responsesBody)
		scenarioOf(r.Regions[0], "error/previous-response-not-found", 1)
		next := r.Post(responsesPath, `{"model":"chat","input":"more","previous_response_id":"`+gjson.GetBytes(a.Body, "id").Str+`"}`)
		if next.Status != http.StatusOK {
			t.Errorf("%d %s", next.Status, next.Body)
		}
	})
}

// An answer that does not say that the region is ill, or says it in a form that is no JSON,
// fails over.
func TestErrorFormsFailOver(t *testing.T) {
	for _, c := range []struct{ scenario, reason string }{
		{"error/no-capacity", "throttled"},
		{"error/no-capacity-v1", "throttled"},
		{"error/throttled-negative", "throttled"},
		{"error/no-healthy-upstream", "server-error"},
		{"error/empty", "server-error"},
		{"error/502-page", "server-error"},
		{"error/broken-json", "server-error"},
		{"error/unavailable", "server-error"},
		{"error/model-error", "server-error"},
		{"error/missing-role", "credential-refused"},
		{"error/deployment-not-found", "deployment-missing"},
		{"error/deployment-missing-v1", "deployment-missing"},
		{"error/deployment-missing-v1-404", "deployment-missing"},
		{"error/deployment-missing-v1-model", "deployment-missing"},
		{"error/api-not-enabled", "deployment-missing"},
		{"error/blocked", "credential-refused"},
		{"error/public-access-off", "credential-refused"},
		{"error/keys-off", "credential-refused"},
	} {
		t.Run(c.scenario, func(t *testing.T) {
			inVirtualTime(t, 2, func(t *testing.T, r *harness.Gateway) {
				scenarioOf(r.Regions[0], c.scenario, 0)
				rec := wantComplete(r, r.Post(harness.ChatPath, harness.ChatBody))
				if rec.Region != "b" || rec.Attempts[0].Reason != c.reason {
					t.Errorf("by %s: %s", rec.Region, attemptsOf(rec))
				}
			})
		})
	}
}

// A region that states a wait of nothing is not asked by every request.
func TestUselessWaitIsNotObeyed(t *testing.T) {
	inVirtualTime(t, 2, func(t *testing.T, r *harness.Gateway) {
		scenarioOf(r.Regions[0], "error/throttled-useless-wait", 0)
		for range 30 {
			wantComplete(r, r.Post(harness.ChatPath, harness.ChatBody))
			time.Sleep(time.Second)
		}
		if n := r.Regions[0].Counts().Requests; n > 10 {
			t.Errorf("asked %d times in 30 s", n)
		}
	})
}

// Streams of every form pass to their end, byte for byte, and are recorded as complete.
func TestScenarioStreamsPass(t *testing.T) {
	for _, c := range []struct{ path, scenario string }{
		{harness.ChatPath, "tool-call"},
		{harness.ChatPath, "refusal"},
		{harness.ChatPath, "asynchronous-filter"},
		{harness.ChatPath, "block-after-stop"},
		{harness.ChatPath, "blocked"},
		{harness.ChatPath, "filter-categories"},
		{harness.ChatPath, "newest-members"},
		{harness.ChatPath, "split-emoji"},
		{harness.ChatPath, "held"},
		{responsesPath, "tool-call"},
		{responsesPath, "refusal"},
		{responsesPath, "annotations"},
		{responsesPath, "keepalive"},
		{responsesPath, "long-silence"},
		{responsesPath, "long-tool-call"},
		{responsesPath, "held"},
		{responsesPath, "burst"},
	} {
		t.Run(c.scenario+" "+c.path[:12], func(t *testing.T) {
			inVirtualTime(t, 1, func(t *testing.T, r *harness.Gateway) {
				scenarioOf(r.Regions[0], c.scenario, 0)
				body := strings.Replace(harness.ChatStream, `"stream":true`, `"stream":true,"stream_options":{"include_usage":true}`, 1)
				if c.path == responsesPath {
					body = responsesStream
				}
				a := r.Post(c.path, body)
				wantComplete(r, a)
				synctest.Wait()
				var kept []string
				for _, e := range harness.Events(a.Body) {
					if !strings.HasPrefix(e, ":") { // a comment of the gateway in a silence
						kept = append(kept, e)
					}
				}
				sent := string(r.Regions[0].Counts().Last.Response)
				if got := strings.Join(kept, "\n\n") + "\n\n"; got[:min(len(got), len(sent))] != sent {
					t.Errorf("sent %.2000s\ngot %.2000s", sent, got)
				}
			})
		})
	}
}

func TestBackgroundResponse(t *testing.T) {
	inVirtualTime(t, 2, func(t *testing.T, r *harness.Gateway) {
		body := strings.Replace(responsesBody, "{", `{"background":true,`, 1)
		a := r.Post(responsesPath, body)
		at := responsesPath + "/" + gjson.GetBytes(a.Body, "id").Str
		for _, want := range []string{"queued", "in_progress", "completed"} {
			got := r.Do(http.MethodGet, at, "", "api-key="+r.Key)
			if status := gjson.GetBytes(got.Body, "status").Str; status != want {
				t.Errorf("%s, want %s: %s", status, want, got.Body)
			}
			time.Sleep(time.Second)
		}
		a = r.Post(responsesPath, body)
		at = responsesPath + "/" + gjson.GetBytes(a.Body, "id").Str
		if got := r.Do(http.MethodPost, at+"/cancel", "", "api-key="+r.Key); gjson.GetBytes(got.Body, "status").Str != "cancelled" {
			t.Errorf("%d %s", got.Status, got.Body)
		}
	})
}

// over runs a test with regions as Azure serves them, over TLS with HTTP/2.
func over(t *testing.T, regions int, test func(t *testing.T, r *harness.Gateway)) {
	t.Helper()
	inVirtualTimeOver(t, wire.Options{}, harness.TestPolicy, regions, func(t *testing.T, r *harness.Gateway, _ *ledger) { test(t, r) })
}

// together sends chat streams at the same time.
func together(r *harness.Gateway, n int) []harness.Answer {
	answers := make([]harness.Answer, n)
	var asked sync.WaitGroup
	for i := range n {
		asked.Go(func() { answers[i] = r.Post(harness.ChatPath, harness.ChatStream) })
	}
	asked.Wait()
	return answers
}

// One connection that carries forty streams dies: that is one fault of the network, not
// forty of the region.
func TestStalledConnectionOfManyStreams(t *testing.T) {
	over(t, 1, func(t *testing.T, r *harness.Gateway) {
		wantComplete(r, r.Post(harness.ChatPath, harness.ChatStream)) // opens the connection
		scenarioOf(r.Regions[0], "slow", 39)
		scenarioOf(r.Regions[0], "stall", 1)
		together(r, 40)
		r.Regions[0].ClearFaults()
		for n, a := range together(r, 20) {
			if a.Status != http.StatusOK {
				t.Fatalf("request %d after the connection's end: %d %s", n, a.Status, a.Body)
			}
		}
	})
}

func TestHTTP2Faults(t *testing.T) {
	for scenario, want := range map[string]string{
		"goaway": "a/", "rst-refused-stream": "", "rst-internal-error": "a/reset b/", "rst-cancel": "a/reset b/",
		"rst-enhance-your-calm": "a/reset b/",
	} {
		t.Run(scenario, func(t *testing.T) {
			over(t, 2, func(t *testing.T, r *harness.Gateway) {
				scenarioOf(r.Regions[0], scenario, 1)
				for range 2 {
					rec := wantComplete(r, r.Post(harness.ChatPath, harness.ChatStream))
					if got := attemptsOf(rec); want != "" && got != want && got != "a/" {
						t.Errorf("attempts %s, want %s", got, want)
					}
				}
			})
		})
	}
}

// A stream that breaks over HTTP/2 shows as a cut.
func TestHTTP2Cuts(t *testing.T) {
	for _, scenario := range []string{"cut-rst-internal-error", "cut-rst-cancel", "cut-close", "cut-reset"} {
		t.Run(scenario, func(t *testing.T) {
			over(t, 1, func(_ *testing.T, r *harness.Gateway) {
				scenarioOf(r.Regions[0], scenario, 1)
				wantCut(r, r.Post(harness.ChatPath, harness.ChatStream), gateway.UpstreamCut, "upstream_cut")
			})
		})
	}
}

// More streams than a connection takes are spread over several.
func TestHTTP2StreamLimit(t *testing.T) {
	inVirtualTimeOver(t, wire.Options{Streams: 4}, harness.TestPolicy, 1, func(t *testing.T, r *harness.Gateway, _ *ledger) {
		scenarioOf(r.Regions[0], "slow", 0)
		began := time.Now()
		for n, a := range together(r, 20) {
			if a.Status != http.StatusOK {
				t.Error(fmt.Errorf("request %d: %d", n, a.Status))
			}
		}
		// The first streams are opened before the limit is known. Those that are refused try again after a second.
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("20 streams took %v", took)
		}
	})
}

// A kept connection that is reset at its next request costs nothing: the request goes out
// again on a new one.
func TestKeptConnectionIsReset(t *testing.T) {
	kind := wire.Options{Plain: true, Idle: time.Minute, IdleReset: true}
	inVirtualTimeOver(t, kind, harness.TestPolicy, 2, func(t *testing.T, r *harness.Gateway, _ *ledger) {
		for range 4 {
			rec := wantComplete(r, r.Post(harness.ChatPath, harness.ChatBody))
			if rec.Region != "a" {
				t.Errorf("by %s: %s", rec.Region, attemptsOf(rec))
			}
			time.Sleep(80 * time.Second)
		}
	})
}

// A kept connection that is silent at its next request does not make a healthy region
// unavailable.
func TestKeptConnectionIsSilent(t *testing.T) {
	kind := wire.Options{Plain: true, Idle: time.Minute}
	inVirtualTimeOver(t, kind, harness.TestPolicy, 1, func(t *testing.T, r *harness.Gateway, _ *ledger) {
		wantComplete(r, r.Post(harness.ChatPath, harness.ChatStream))
		time.Sleep(80 * time.Second)
		r.Post(harness.ChatPath, harness.ChatStream) // waits in vain
		wantComplete(r, r.Post(harness.ChatPath, harness.ChatStream))
	})
}

// A stream that is refused inside a 200 costs its team nothing.
func TestRefusalInStreamIsFree(t *testing.T) {
	inVirtualTimeUnder(t, chargePolicy, 1, func(t *testing.T, r *harness.Gateway, charges *ledger) {
		for _, scenario := range []string{"throttled-in-stream", "throttled-in-stream-failed-first", "no-capacity-in-stream"} {
			scenarioOf(r.Regions[0], scenario, 1)
			r.Post(responsesPath, responsesStream)
			time.Sleep(time.Minute)
		}
		if got := charges.read(t); got.hard != 0 || got.soft != 0 {
			t.Errorf("charged %+v", got)
		}
	})
}

// A client that leaves after the finish reason has its whole answer: the usage that comes a
// second later is recorded.
func TestClientLeavesAfterFinish(t *testing.T) {
	harness.ExpectFailure(t, harness.Record)
	inVirtualTime(t, 1, func(t *testing.T, r *harness.Gateway) {
		scenarioOf(r.Regions[0], "late-usage", 1)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.URL+harness.ChatPath, strings.NewReader(harness.ChatStream))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Api-Key", r.Key)
		resp, err := r.HTTP().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		readUntil(r, resp.Body, `"finish_reason":"stop"`, nil)
		_ = resp.Body.Close()
		time.Sleep(3 * time.Second)
		rec := r.Find("one", func(gateway.Record) bool { return true })
		if rec.Outcome != gateway.Complete || rec.Usage.Estimated || rec.Usage.Completion != 6 {
			t.Errorf("%s, %+v", rec.Outcome, rec.Usage)
		}
	})
}
