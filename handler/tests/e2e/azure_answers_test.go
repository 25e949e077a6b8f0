package e2e_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"aoaigateway/handler/tests/harness"
)

// What a model did instead of speaking is in the record.
func TestToolCallsAreRecorded(t *testing.T) {
	for _, c := range []struct {
		name, path, body, scenario string
		pairs                      []string
	}{
		{"chat stream", harness.ChatPath, harness.ChatStream, "tool-call", []string{
			"choices.0.message.tool_calls.0.function.arguments", `{"city":"Oslo"}`, "choices.0.message.tool_calls.1.function.arguments", "{}",
			"choices.0.finish_reason", "tool_calls",
		}},
		{"chat refusal", harness.ChatPath, harness.ChatStream, "refusal", []string{"choices.0.message.refusal", "I am sorry, no."}},
		{"response stream", responsesPath, responsesStream, "tool-call", []string{
			"output.1.arguments", `{"city":"Oslo"}`, "output.0.summary.0.text", "Thinking of Oslo",
		}},
		{"response", responsesPath, responsesBody, "tool-call", []string{"output.1.arguments", `{"city":"Oslo"}`}},
		{"response refusal", responsesPath, responsesStream, "refusal", []string{"output.0.content.0.refusal", "I am sorry, no."}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := harness.Start(t, harness.Options{Regions: 1})
			scenarioOf(r.Regions[0], c.scenario, 1)
			a := r.Post(c.path, c.body)
			if rec := wantComplete(r, a); rec.Usage.Total != r.Regions[0].Counts().Usage.Total || rec.Usage.Estimated {
				t.Errorf("%+v, the region counted %+v", rec.Usage, r.Regions[0].Counts().Usage)
			}
			recorded("BackendResponseBody", c.pairs...)(r, a)
		})
	}
}

// Refusals that are no JSON, or of an unusual size, pass as they are.
func TestUnusualRefusalsPass(t *testing.T) {
	r := harness.Start(t, harness.Options{})
	for scenario, status := range map[string]int{
		"error/headers-too-large": 431, "error/content-too-large": 413, "error/traceback": 400, "error/too-many-images": 400,
		"filtered-prompt": 400, "error/unsupported-parameter": 400, "error/model-error-400": 400, "error-in-200": 200,
	} {
		scenarioOf(r.Regions[0], scenario, 1)
		a := r.Post(harness.ChatPath, harness.ChatBody)
		sent := lastOf(r)
		if a.Status != status || string(a.Body) != string(sent.Response) || a.Err != nil {
			t.Errorf("%s: %d, %v: %s", scenario, a.Status, a.Err, a.Body)
		}
	}
}

// A cap on the output does not use a parameter that the model refuses.
func TestCapOfReasoningModel(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1})
	key := r.Subscribe("capped", "team-capped")
	for _, stream := range []bool{false, true} {
		body := fmt.Sprintf(`{"messages":[{"role":"user","content":"hi [tokens:50]"}],"stream":%t}`, stream)
		a := r.Do(http.MethodPost, strings.Replace(harness.ChatPath, "/chat/", "/think/", 1), body, "api-key="+key)
		if rec := wantComplete(r, a); rec.Usage.Completion != 7 {
			t.Errorf("%+v", rec.Usage)
		}
	}
}

// A client that lost the stream of a background response gets the rest of it.
func TestBackgroundStreamResumes(t *testing.T) {
	inVirtualTime(t, 2, func(t *testing.T, r *harness.Gateway) {
		ctx, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		body := strings.Replace(responsesStream, "{", `{"background":true,`, 1)
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL+responsesPath, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Api-Key", r.Key)
		resp, err := r.HTTP().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		first, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		list := harness.Events(first)
		_, data, _ := strings.Cut(list[0], "data: ")
		if err == nil || len(list) < 2 {
			t.Fatalf("%v: %s", err, first)
		}
		at := fmt.Sprintf("%s/%s?stream=true&starting_after=%d", responsesPath, gjson.Get(data, "response.id").Str, len(list)-1)
		rest := r.Do(http.MethodGet, at, "", "api-key="+r.Key)
		if again := harness.Events(rest.Body); rest.Status != http.StatusOK || rest.Err != nil ||
			!strings.Contains(again[0], fmt.Sprintf(`"sequence_number":%d,`, len(list))) ||
			!strings.Contains(string(rest.Body), "response.completed") {
			t.Errorf("%d, %v: %s", rest.Status, rest.Err, rest.Body)
		}
	})
}
