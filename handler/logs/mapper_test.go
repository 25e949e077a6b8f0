package logs_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/logs"
	"aoaigateway/handler/logs/truncate"
)

var arrival = time.Date(2026, 11, 23, 20, 15, 16, 123456789, time.FixedZone("", 3600))

// end returns the end of one chat completion.
func end(id string) gateway.Line {
	return gateway.Line{Type: gateway.End, Record: gateway.Record{
		ID: id, Time: arrival, Caller: gateway.Caller{
			Subscription: "sub-1", Name: "team a", Product: "default", KeySlot: "primary",
			User: "oid-1", IP: "203.0.113.9",
		},
		Method: "POST", URL: "/openai/deployments/chat/chat/completions?api-version=2024-10-21", Operation: "ChatCompletions_Create",
		Surface: "classic",
		Model:   "chat", APIVersion: "2024-10-21", Region: "eastus2", Deployment: "chat-east", BackendAPIVersion: "2024-10-21",
		AnsweredModel: "gpt-4o-2024-11-20",
		Attempts: []gateway.Attempt{
			{Region: "swedencentral", Start: arrival.Add(2 * time.Millisecond), Millis: 5, Status: 429, Reason: "throttled"},
			{Region: "eastus2", Start: arrival.Add(8 * time.Millisecond), Millis: 90, Status: 200},
		},
		Usage:  gateway.Usage{Prompt: 12, Cached: 4, Completion: 5, Reasoning: 2, Total: 17},
		Cost:   &gateway.Cost{Millionths: 123, Currency: "USD", PriceVersion: "2026-11"},
		Status: 200, BackendStatus: 200, Outcome: gateway.Complete, FirstByteMilli: 90, TotalMilli: 120,
		Request: &gateway.Body{Size: 20, SHA256: "aa", ContentType: "application/json"},
		Response: &gateway.Body{Size: 200, SHA256: "bb", ContentType: "application/json", JSON: json.RawMessage(
			`{"id":"c-1","object":"chat.completion","model":"gpt-4o-2024-11-20","choices":[{"index":0,"message":{"role":"assistant",` +
				`"content":"hi"},"content_filter_results":{"hate":{"filtered":false}}}],"usage":{"prompt_tokens":12,"completion_tokens":5,` +
				`"total_tokens":17}}`)},
	}}
}

// endWithRequest is end with the request's content.
func endWithRequest(id, body string) gateway.Line {
	line := end(id)
	line.Request.JSON, line.Request.Size = json.RawMessage(body), int64(len(body))
	return line
}

// rowOf returns the row of line.
func rowOf(t testing.TB, rows logs.Mapper, line gateway.Line) logs.Row {
	t.Helper()
	row, ok := rows.Row(t.Context(), gateway.Entry{Line: line, File: "2026/11/23/20/p-1.jsonl.gz", Chain: "chain-1"})
	if !ok {
		t.Fatalf("%s %s made no row", line.Type, line.ID)
	}
	for _, body := range []string{row.BackendRequestBody, row.BackendResponseBody, row.RequestBody, row.ResponseBody} {
		if body != "" && (!jsontext.Value(body).IsValid() || len(body) > truncate.MaxSize) {
			t.Fatalf("not valid, or %d bytes: %.300s", len(body), body)
		}
	}
	return row
}

func TestEndIsOneRow(t *testing.T) {
	line := endWithRequest("r1", `{"messages":[{"role":"user","content":"hello"}]}`)
	line.Redactions = 3
	row := rowOf(t, logs.Mapper{}, line)
	got, err := json.MarshalIndent(row, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"TimeGenerated": "2026-11-23T19:15:16.123456789Z", "RecordId": "r1", "RecordRevision": "1", "ChainHash": "chain-1", "Outcome": "complete",
		"ApimSubscriptionId": "sub-1", "ProductId": "default", "UserObjectId": "oid-1", "UserId": "oid-1", "CallerIpAddress": "203.0.113.9",
		"OperationId": "ChatCompletions_Create", "SpecOperationId": "ChatCompletions_Create", "ApiId": "azure-openai",
		"DeploymentRequested": "chat", "DeploymentUsed": "chat-east", "ModelName": "gpt-4o-2024-11-20", "BackendRegion": "eastus2",
		"BackendId":    "eastus2/chat-east",
		"AttemptCount": "2", "Attempts.0.reason": "throttled", "ResponseCode": "200", "IsRequestSuccess": "true", "FirstByteMs": "90",
		"TotalTime": "120", "ClientTime": "2", "BackendTime": "118", "PromptTokens": "12", "CachedTokens": "4", "CompletionTokens": "5",
		"ReasoningTokens": "2", "TotalTokens": "17",
		"CostAmount": "0.000123", "CostCurrency": "USD", "Redactions": "3", "RequestSha256": "aa", "ResponseSha256": "bb",
		"ResponseSize": "200", "BodyTruncatedInRow": "false",
		"BackendRequestBody": `{"messages":[{"role":"user","content":"hello"}]}`, "ContentFilter.choices.0.hate.filtered": "false",
		"BodyUri": "", "TokensEstimated": "false",
	} {
		if v := gjson.GetBytes(got, path).String(); v != want {
			t.Errorf("%s = %q, want %q", path, v, want)
		}
	}
	if row.BackendResponseBody != string(end("r1").Response.JSON) {
		t.Errorf("answer %s", row.BackendResponseBody)
	}
}

func TestOperationsHaveClassicID(t *testing.T) {
	for spec, want := range map[string]string{
		"completions_create": "completions_create", "createCompletion": "completions_create",
		"ChatCompletions_Create": "ChatCompletions_Create", "createChatCompletion": "ChatCompletions_Create",
		"embeddings_create": "embeddings_create", "createEmbedding": "embeddings_create", "createResponse": "createResponse", "": "",
	} {
		line := end("r")
		line.Operation = spec
		if row := rowOf(t, logs.Mapper{}, line); row.OperationID != want || row.SpecOperationID != spec {
			t.Errorf("%q became %q, kept %q", spec, row.OperationID, row.SpecOperationID)
		}
	}
}

func TestAmendChangesOutcomeOnly(t *testing.T) {
	end := endWithRequest("r1", `{"a":1}`)
	end.Stream = true
	first := rowOf(t, logs.Mapper{}, end)
	end.Type, end.Outcome = gateway.Amend, gateway.NotDurable
	second := rowOf(t, logs.Mapper{}, end)
	if second.RecordRevision != 2 || second.Outcome != "not-durable" || second.StreamOutcome != "not-durable" || second.IsRequestSuccess {
		t.Errorf("%+v", second)
	}
	second.RecordRevision, second.Outcome, second.StreamOutcome, second.IsRequestSuccess = first.RecordRevision, first.Outcome,
		first.StreamOutcome, first.IsRequestSuccess
	if diff := cmp.Diff(first, second); diff != "" {
		t.Error(diff)
	}
}

func TestBeginMakesNoRow(t *testing.T) {
	begin, amend := end("r1"), gateway.Line{Type: gateway.Amend, Record: gateway.Record{ID: "r1", Time: arrival, Outcome: gateway.NotDurable}}
	begin.Type = gateway.Begin
	for _, line := range []gateway.Line{begin, amend, {Type: "other"}} {
		if _, ok := (logs.Mapper{}).Row(t.Context(), gateway.Entry{Line: line}); ok {
			t.Errorf("%s made a row, which would hide the real one", line.Type)
		}
	}
}

func TestIncompleteHasNoUsage(t *testing.T) {
	line := endWithRequest("r1", `{"prompt":"left alone"}`)
	line.Type = gateway.Incomplete
	row := rowOf(t, logs.Mapper{}, line)
	if row.RecordRevision != 0 || row.Outcome != "incomplete" || row.TotalTokens+row.PromptTokens != 0 || row.CostAmount != nil ||
		row.IsRequestSuccess ||
		!strings.Contains(row.BackendRequestBody, "left alone") || row.ResponseCode != 0 || row.BackendResponseBody != "" {
		t.Errorf("%+v", row)
	}
	if late := rowOf(t, logs.Mapper{}, end("r1")); late.RecordRevision <= row.RecordRevision {
		t.Error("the real end does not supersede it")
	}
}

func TestRefusalUsesOwnColumns(t *testing.T) {
	line := end("r1")
	line.Attempts, line.Region, line.Status, line.Outcome, line.Limit, line.ErrorReason = nil, "", 429, gateway.Refused, "tokens per minute",
		"RateLimitExceeded"
	line.Usage, line.Cost = gateway.Usage{}, nil
	line.Response.JSON = json.RawMessage(`{"statusCode":429}`)
	row := rowOf(t, logs.Mapper{}, line)
	if row.BackendResponseBody != "" || row.ResponseBody != `{"statusCode":429}` || row.LimitName != "tokens per minute" ||
		row.IsRequestSuccess || row.BackendID != "" {
		t.Errorf("%+v", row)
	}
}

func TestStreamRowHasUsage(t *testing.T) {
	line := endWithRequest("r1", "{}")
	line.Stream, line.Usage.Estimated = true, true
	for _, object := range []string{
		`{"object":"chat.completion","model":"m","choices":[],"usage":null}`,
		`{"object":"chat.completion","model":"m","choices":[]}`,
	} {
		line.Response = &gateway.Body{Size: 9, SHA256: "cc", ContentType: "text/event-stream", Assembled: json.RawMessage(object)}
		row := rowOf(t, logs.Mapper{}, line)
		if u := gjson.Get(row.BackendResponseBody, "usage"); u.Get("total_tokens").Int() != 17 || !u.Get("estimated").Bool() ||
			!row.TokensEstimated {
			t.Errorf("%s", row.BackendResponseBody)
		}
		if row.TimeToFirstTokenMs == nil || row.BodyTruncatedInRow {
			t.Errorf("%+v", row)
		}
	}
	line.Response.Assembled = json.RawMessage(`{"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}`)
	if row := rowOf(t, logs.Mapper{}, line); row.BackendResponseBody != string(line.Response.Assembled) {
		t.Errorf("the service's own usage was changed: %s", row.BackendResponseBody)
	}
}

func TestBodyKindsBecomeJSON(t *testing.T) {
	for name, c := range map[string]struct {
		body gateway.Body
		want string
	}{
		"text":          {gateway.Body{Text: "first\nsecond \"quoted\""}, `"first\nsecond \"quoted\""`},
		"long text":     {gateway.Body{Text: strings.Repeat("a\n\u2028<é", 90_000)}, ""},
		"binary":        {gateway.Body{Base64: []byte{0xff, 0}, ContentType: "audio/mpeg"}, ""},
		"none":          {gateway.Body{}, ""},
		"metadata only": {gateway.Body{SHA256: "dd"}, ""},
		"blob":          {gateway.Body{SHA256: "dd", Blob: "bodies/r1/response"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			line := endWithRequest("r1", "{}")
			if c.body.Size = int64(len(c.body.Text) + len(c.body.Base64)); name == "metadata only" || name == "blob" {
				c.body.Size = 5 << 20
			}
			line.Response = &c.body
			row := rowOf(t, logs.Mapper{BodyURL: "https://x/audit"}, line)
			if c.want != "" && row.BackendResponseBody != c.want {
				t.Errorf("%s", row.BackendResponseBody)
			}
			if name == "none" {
				if row.BackendResponseBody != "" {
					t.Errorf("%s", row.BackendResponseBody)
				}
				return
			}
			if name == "metadata only" || name == "blob" {
				if gjson.Get(row.BackendResponseBody, "usage.total_tokens").Int() != 17 ||
					gjson.Get(row.BackendResponseBody, "model").Str != "gpt-4o-2024-11-20" {
					t.Errorf("%s", row.BackendResponseBody)
				}
			}
			if want := name == "blob"; (row.BodyURI == "https://x/audit/bodies/r1/response") != want {
				t.Errorf("uri %q", row.BodyURI)
			}
			if row.BodyTruncatedInRow != (name != "text") {
				t.Errorf("truncated: %v", row.BodyTruncatedInRow)
			}
		})
	}
}

func TestTruncatedBodyHasURI(t *testing.T) {
	long := endWithRequest("r1", `{"messages":[{"content":"`+strings.Repeat("long ", 40_000)+`"}]}`)
	row := rowOf(t, logs.Mapper{BodyURL: "https://x/audit"}, long)
	if !row.BodyTruncatedInRow || row.RequestBodyURI != "https://x/audit/2026/11/23/20/p-1.jsonl.gz" || row.BodyURI != "" {
		t.Errorf("%v %q %q", row.BodyTruncatedInRow, row.RequestBodyURI, row.BodyURI)
	}
}

// imageRequest returns a chat request with n bytes of image.
func imageRequest(n int) io.Reader {
	return io.MultiReader(strings.NewReader(`{"model":"gpt-4o","messages":[{"role":"user","content":[{"type":"text","text":"what is `+
		`\"this\"?"},{"type":"image_url","image_url":{"url":"data:image/png;base64,`),
		io.LimitReader(endless{}, int64(n)), strings.NewReader(`"}}]}],"max_tokens":7}`))
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"[i&31]
	}
	return len(p), nil
}

func TestLargeBodyNeedsBoundedMemory(t *testing.T) {
	rows := logs.Mapper{BodyURL: "https://x/audit", Open: func(context.Context, string) (io.ReadCloser, error) {
		return io.NopCloser(imageRequest(20 << 20)), nil
	}}
	line := end("r1")
	line.Request = &gateway.Body{Size: 20 << 20, SHA256: "aa", ContentType: "application/json", Blob: "bodies/r1/request"}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	row := rowOf(t, rows, line)
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 2<<20 {
		t.Errorf("%d bytes allocated for a body of 20 MiB", used)
	}
	if got := gjson.Get(row.BackendRequestBody, "messages.0.content.0.text").Str; got != `what is "this"?` ||
		gjson.Get(row.BackendRequestBody, "max_tokens").Int() != 7 {
		t.Errorf("%.200s", row.BackendRequestBody)
	}
	if row.RequestBodyURI != "https://x/audit/bodies/r1/request" || !row.BodyTruncatedInRow || row.BodyURI != "" {
		t.Errorf("%q %q", row.RequestBodyURI, row.BodyURI)
	}
}

func TestUnreadableBlobLeavesNote(t *testing.T) {
	for _, text := range []string{"", `{"cut":`, "no json", `{"a":"` + strings.Repeat("x", 9<<20), "[" + strings.Repeat("1,", 4<<20)} {
		rows := logs.Mapper{Open: func(context.Context, string) (io.ReadCloser, error) {
			if text == "" {
				return nil, errors.New("away")
			}
			return io.NopCloser(strings.NewReader(text)), nil
		}}
		line := end("r1")
		line.Response = &gateway.Body{Size: 2 << 20, SHA256: "bb", ContentType: "application/json", Blob: "bodies/r1/response"}
		if row := rowOf(t, rows, line); gjson.Get(row.BackendResponseBody, "usage.total_tokens").Int() != 17 || row.BodyURI == "" {
			t.Errorf("%.20q: %s", text, row.BackendResponseBody)
		}
	}
}

func TestLargestRowFitsCall(t *testing.T) {
	worst := strings.Repeat(`\"`, 100_000)
	line := end("r1")
	line.Request.JSON, line.Response.JSON = json.RawMessage(`["`+worst+`"]`), json.RawMessage(`["`+worst+`"]`)
	for _, s := range []*string{
		&line.URL, &line.Name, &line.EndUser, &line.ClientAgent, &line.ErrorMessage, &line.ErrorReason, &line.Model,
		&line.AnsweredModel, &line.Limit, &line.User,
	} {
		*s = strings.Repeat("\x01", 1<<20)
	}
	row := rowOf(t, logs.Mapper{}, line)
	raw, err := json.Marshal(row)
	if err != nil || len(raw) > 450_000 {
		t.Errorf("%d bytes, %v", len(raw), err)
	}
}

func TestColumnsHaveKustoTypes(t *testing.T) {
	want := map[string]string{
		"TimeGenerated": "datetime", "RecordId": "string", "RecordRevision": "int", "Attempts": "dynamic", "PromptTokens": "long",
		"CostAmount": "real", "IsStream": "boolean",
		"BackendResponseBody": "string", "ResponseCode": "int", "FirstByteMs": "long",
	}
	seen := map[string]bool{}
	for _, c := range logs.Columns() {
		lower := strings.ToLower(c.Name)
		if seen[lower] {
			t.Errorf("%s differs from another column in case only", c.Name)
		}
		seen[lower] = true
		if w, ok := want[c.Name]; ok && w != c.Type {
			t.Errorf("%s is %s", c.Name, c.Type)
		}
		for _, reserved := range []string{"type", "tenantid", "id", "title", "subscriptionid", "uniqueid", "mg", "sourcesystem"} {
			if lower == reserved || strings.HasPrefix(lower, "resource") || strings.HasPrefix(lower, "_") {
				t.Errorf("%s is reserved", c.Name)
			}
		}
		if len(c.Name) > 45 {
			t.Errorf("%s is longer than a column's name may be", c.Name)
		}
	}
}
