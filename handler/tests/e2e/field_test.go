package e2e_test

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/logs"
	"aoaigateway/handler/tests/harness"
)

const (
	responsesPath   = "/openai/v1/responses"
	responsesBody   = `{"model":"chat","input":"hi"}`
	responsesStream = `{"model":"chat","input":"hi","stream":true}`
)

// fieldCase is a public report of what a region answered, and what is right then.
type fieldCase struct {
	scenario, path, body string
	regions              int // default 1; the first one plays the scenario
	mark                 harness.Topic
	right                func(r *harness.Gateway, a harness.Answer)
}

var fieldCases = []fieldCase{
	{"throttled-in-stream", responsesPath, responsesStream, 2, "", answeredBySecond("throttled")},
	{"failed-before-its-reason", responsesPath, responsesStream, 2, "", answeredBySecond("throttled")},
	{"error-after-prompt-report", harness.ChatPath, harness.ChatStream, 2, "", answeredBySecond("error-event")},
	{"deployment-missing-v1", responsesPath, responsesBody, 2, "", answeredBySecond("deployment-missing")},
	{"no-done-after-finish", harness.ChatPath, harness.ChatStream, 1, "", everyTime},
	{"wait-in-reset-header", harness.ChatPath, harness.ChatBody, 1, "", func(r *harness.Gateway, a harness.Answer) {
		if wait := a.Header.Get("Retry-After"); a.Status != 429 || wait < "54" || wait > "55" || len(wait) != 2 {
			r.T.Errorf("%d, a wait of %q", a.Status, wait)
		}
	}},
	{"failed-stream-is-no-success", responsesPath, responsesStream, 1, harness.Record, noSuccess},
	{"failed-answer-is-no-success", responsesPath, responsesBody, 1, harness.Record, noSuccess},
	{"last-chunk-without-ids", harness.ChatPath, harness.ChatStream, 1, harness.Record, recorded(
		"BackendResponseBody", "id", "chatcmpl-scenario01", "model", "gpt-4o-2024-11-20", "choices.0.finish_reason", "content_filter")},
	{"completed-without-output", responsesPath, responsesStream, 1, harness.Record, recorded(
		"BackendResponseBody", "output.0.content.0.text", "The answer")},
	{"unknown-delta-member", harness.ChatPath, harness.ChatStream, 1, harness.Record, recorded(
		"BackendResponseBody", "choices.0.message.reasoning", "We need to think")},
	{"verdict-overwritten", harness.ChatPath, harness.ChatStream, 1, harness.Record, recorded(
		"ContentFilter", "choices.0.violence.filtered", "true", "choices.0.violence.severity", "medium")},
	{"verdict-of-responses", responsesPath, responsesStream, 1, harness.Record, func(r *harness.Gateway, a harness.Answer) {
		if text := string(rowOf(r, a).ContentFilter); !strings.Contains(text, "prompt") || !strings.Contains(text, `"severity":"high"`) {
			r.T.Errorf("%s", text)
		}
	}},
	{"reasoning-tokens-beside", harness.ChatPath, harness.ChatStream, 1, harness.Record, func(r *harness.Gateway, a harness.Answer) {
		if rec := wantComplete(r, a); rec.Usage.Reasoning != 1200 {
			r.T.Errorf("%+v", rec.Usage)
		}
	}},
	{"llm-log-messages", harness.ChatPath, harness.ChatBody, 1, "", func(r *harness.Gateway, a harness.Answer) { wantComplete(r, a) }},
	{"api-path-suffix", "/inference" + harness.ChatPath, harness.ChatBody, 1, harness.Surface, func(r *harness.Gateway, a harness.Answer) {
		wantComplete(r, a)
	}},
}

func TestFieldCases(t *testing.T) {
	for _, c := range fieldCases {
		t.Run(c.scenario, func(t *testing.T) {
			if c.mark != "" {
				harness.ExpectFailure(t, c.mark)
			}
			r := harness.Start(t, harness.Options{Regions: max(1, c.regions)})
			r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoScenario, Scenario: "field/" + c.scenario})
			c.right(r, r.Post(c.path, c.body))
		})
	}
}

// answeredBySecond means that the client got the second region's answer and nothing of the
// first one's.
func answeredBySecond(reason string) func(r *harness.Gateway, a harness.Answer) {
	return func(r *harness.Gateway, a harness.Answer) {
		r.T.Helper()
		rec := wantComplete(r, a)
		if rec.Region != "b" || len(rec.Attempts) != 2 || rec.Attempts[0].Reason != reason {
			r.T.Errorf("by %s: %s", rec.Region, attemptsOf(rec))
		}
		if n := r.Regions[0].Counts(); n.Usage.Total+n.Partial.Total+n.Charged.Total != 0 {
			r.T.Errorf("the refusal cost %+v", n)
		}
	}
}

// everyTime means that an answer is complete, also the fifth of its kind.
func everyTime(r *harness.Gateway, a harness.Answer) {
	r.T.Helper()
	for range 5 {
		wantComplete(r, a)
		a = r.Post(harness.ChatPath, harness.ChatStream)
	}
}

// noSuccess means that an answer that says that it failed counts as a failure.
func noSuccess(r *harness.Gateway, a harness.Answer) {
	r.T.Helper()
	if rec := r.RecordOf(a); rec.Outcome == gateway.Complete && rec.ErrorReason == "" || rec.Usage.Total != 0 {
		r.T.Errorf("%s, %q, %+v", rec.Outcome, rec.ErrorReason, rec.Usage)
	}
}

// recorded compares values in one column of the row in Log Analytics.
func recorded(column string, pairs ...string) func(r *harness.Gateway, a harness.Answer) {
	return func(r *harness.Gateway, a harness.Answer) {
		r.T.Helper()
		row := rowOf(r, a)
		text := map[string]string{"BackendResponseBody": row.BackendResponseBody, "ContentFilter": string(row.ContentFilter)}[column]
		for i := 0; i < len(pairs); i += 2 {
			if got := gjson.Get(text, pairs[i]).String(); got != pairs[i+1] || text == "" {
				r.T.Errorf("%s: %q, want %q: %s", pairs[i], got, pairs[i+1], text)
			}
		}
	}
}

// rowOf returns the row of an answer.
func rowOf(r *harness.Gateway, a harness.Answer) logs.Row {
	r.T.Helper()
	r.RecordOf(a)
	exporter, sink := exporterOf(r.T, r)
	if err := exporter.Take(r.T.Context(), "", entriesOf(r.T, r.Blobs)); err != nil {
		r.T.Fatal(err)
	}
	return rowsByID(r.T, sink)[a.Header.Get("X-Gateway-Request-Id")]
}

// A caller that leaves early is charged for its schema too.
func TestFieldEstimateHasSchema(t *testing.T) {
	harness.ExpectFailure(t, harness.Record)
	r := harness.Start(t, harness.Options{Regions: 1})
	r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoScenario, Scenario: "field/estimate-without-schema"})
	schema := `{"type":"object","description":"` + strings.Repeat("What the inspector saw in this part of the building. ", 400) + `"}`
	body := `{"messages":[{"role":"user","content":"hi"}],"stream":true,"response_format":{"type":"json_schema",` +
		`"json_schema":{"name":"report","schema":` + schema + `}}}`
	ctx, leave := context.WithTimeout(t.Context(), 5*time.Second)
	defer leave()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL+harness.ChatPath, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Api-Key", r.Key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	leave()
	rec := r.Find("one of a client that left", func(rec gateway.Record) bool { return rec.Outcome == gateway.ClientLeft })
	if fair := int64(len(schema) / 4); rec.Usage.Prompt < fair/2 || rec.Usage.Prompt > 2*fair {
		t.Errorf("%d tokens of the prompt, want about %d", rec.Usage.Prompt, fair)
	}
}
