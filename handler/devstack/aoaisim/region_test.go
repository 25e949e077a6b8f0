package aoaisim_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/devstack/aoaisim/wire"
)

const key = "region-key"

// start runs a kind region with one deployment of each sort.
func start(t *testing.T, change func(*aoaisim.Options)) (r *aoaisim.Region, url, control string) {
	t.Helper()
	o := aoaisim.Options{
		Key: key, Token: "entra-token", Wire: wire.Options{Plain: true},
		Deployments: map[string]aoaisim.Deployment{
			"chat": {Model: "gpt-4o-mini"}, "embed": {Model: "text-embedding-3-small"},
			"instruct": {Model: "gpt-35-turbo-instruct"},
			"tight":    {Model: "gpt-4o-mini", TokensPerMinute: 1000, RequestsPerMinute: 12},
		},
	}
	if change != nil {
		change(&o)
	}
	r = aoaisim.New(o)
	url, control, err := r.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r, url, control
}

func newRequest(t *testing.T, method, url, body string) *http.Request {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("api-key", key)
	return req
}

// fresh has no connections to reuse, so that resets are not retried behind the test's back.
func fresh() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}
}

type reply struct {
	StatusCode    int
	Header        http.Header
	ContentLength int64
}

func send(t *testing.T, req *http.Request) (*reply, []byte, error) {
	t.Helper()
	resp, err := fresh().Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return &reply{resp.StatusCode, resp.Header, resp.ContentLength}, body, err
}

const (
	chatPath = "/openai/deployments/chat/chat/completions?api-version=2024-10-21"
	hello    = `{"messages":[{"role":"user","content":"hello"}]`
)

// errorCases are requests that the service refuses, and a part of its answer.
var errorCases = []struct {
	name, path, body, key string
	status                int
	want                  string
}{
	{
		"no api-version", "/openai/deployments/chat/chat/completions", hello + "}", key, 404,
		`{"error":{"code":"404","message":"Resource not found"}}`,
	},
	{
		"retired api-version", "/openai/deployments/chat/chat/completions?api-version=2023-03-15-preview", hello + "}", key, 404,
		"Resource not found",
	},
	{
		"unknown deployment", "/openai/deployments/nix/chat/completions?api-version=2024-10-21", hello + "}", key, 404,
		`"code":"DeploymentNotFound"`,
	},
	{"unknown deployment on v1", "/openai/v1/chat/completions", hello + `,"model":"nix"}`, key, 404, `"code":"DeploymentNotFound"`},
	{"wrong key", chatPath, hello + "}", "wrong", 401, "Access denied due to invalid subscription key"},
	{"not JSON", chatPath, "{", key, 400, "could not parse the JSON body"},
	{"stream_options before its time", "/openai/deployments/chat/chat/completions?api-version=2024-06-01", hello +
		`,"stream":true,"stream_options":{"include_usage":true}}`, key, 400, "Unknown parameter: 'stream_options'."},
	{
		"stream_options without stream", chatPath, hello + `,"stream_options":{"include_usage":true}}`, key, 400,
		"only allowed when 'stream' is enabled",
	},
	{"no messages", chatPath, `{}`, key, 400, "Missing required parameter: 'messages'."},
}

func TestErrorBodies(t *testing.T) {
	_, url, _ := start(t, nil)
	for _, c := range errorCases {
		t.Run(c.name, func(t *testing.T) {
			req := newRequest(t, http.MethodPost, url+c.path, c.body)
			req.Header.Set("api-key", c.key)
			resp, body, err := send(t, req)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != c.status || !strings.Contains(string(body), c.want) {
				t.Errorf("got %d %s, want %d with %s", resp.StatusCode, body, c.status, c.want)
			}
			if resp.Header.Get("apim-request-id") == "" || resp.Header.Get("x-ms-region") != "East US 2" {
				t.Errorf("headers %v", resp.Header)
			}
		})
	}
}

func TestBearerCredentials(t *testing.T) {
	_, url, _ := start(t, nil)
	for bearer, want := range map[string]int{"entra-token": 200, key: 200, "other": 401, "": 401} {
		req := newRequest(t, http.MethodPost, url+chatPath, hello+"}")
		req.Header.Del("api-key")
		req.Header.Set("Authorization", "Bearer "+bearer)
		resp, _, err := send(t, req)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != want {
			t.Errorf("bearer %q: %d, want %d", bearer, resp.StatusCode, want)
		}
	}
}

type chunk struct {
	Choices []struct {
		Delta struct {
			Content string `json:"content"`
			Role    string `json:"role"`
		} `json:"delta"`
		FinishReason *string         `json:"finish_reason"`
		Filters      json.RawMessage `json:"content_filter_results"`
	} `json:"choices"`
	PromptFilters json.RawMessage `json:"prompt_filter_results"`
	Usage         json.RawMessage `json:"usage"`
}

func TestChatStreamSequence(t *testing.T) {
	r, url, _ := start(t, nil)
	_, body, err := send(t, newRequest(t, http.MethodPost, url+chatPath,
		`{"messages":[{"role":"user","content":"[tokens:5] go"}],"stream":true,"stream_options":{"include_usage":true}}`))
	if err != nil {
		t.Fatal(err)
	}
	events := strings.Split(strings.TrimSuffix(string(body), "\n\n"), "\n\n")
	if len(events) != 1+1+5+1+1+1 || events[len(events)-1] != "data: [DONE]" {
		t.Fatalf("%d events:\n%s", len(events), body)
	}
	var text string
	chunks := make([]chunk, len(events)-1)
	for i := range chunks {
		if err := json.Unmarshal([]byte(strings.TrimPrefix(events[i], "data: ")), &chunks[i]); err != nil {
			t.Fatalf("event %d: %v", i, err)
		}
		if len(chunks[i].Choices) > 0 {
			text += chunks[i].Choices[0].Delta.Content
		}
		if last := i == len(chunks)-1; i > 0 && !last && string(chunks[i].Usage) != "null" {
			t.Errorf("event %d has no \"usage\":null: %s", i, events[i])
		}
	}
	first, role, finish, usage := chunks[0], chunks[1], chunks[7], chunks[8]
	switch {
	case len(first.Choices) != 0 || first.PromptFilters == nil:
		t.Errorf("first event: %s", events[0])
	case role.Choices[0].Delta.Role != "assistant":
		t.Errorf("role event: %s", events[1])
	case !strings.Contains(string(chunks[2].Choices[0].Filters), "self_harm"):
		t.Errorf("content event: %s", events[2])
	case finish.Choices[0].FinishReason == nil || *finish.Choices[0].FinishReason != "stop":
		t.Errorf("finish event: %s", events[7])
	case len(usage.Choices) != 0 || !strings.Contains(string(usage.Usage), `"completion_tokens":5`):
		t.Errorf("usage event: %s", events[8])
	case len(strings.Fields(text)) != 5:
		t.Errorf("text %q", text)
	}
	if c := r.Counts(); c.Answered != 1 || c.Usage.Completion != 5 || c.Deployments["chat"].Usage.Total != c.Usage.Total || c.Events != 10 {
		t.Errorf("counts %+v", c)
	}
}

func TestStreamWithoutUsage(t *testing.T) {
	_, url, _ := start(t, nil)
	for _, path := range []string{chatPath, "/openai/deployments/instruct/completions?api-version=2024-10-21"} {
		_, body, err := send(t, newRequest(t, http.MethodPost, url+path,
			`{"prompt":"x","messages":[{"role":"user","content":"x"}],"stream":true}`))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(body, []byte("usage")) || !bytes.HasSuffix(body, []byte("data: [DONE]\n\n")) {
			t.Errorf("%s: %s", path, body)
		}
	}
}

func TestAnswersAreDeterministic(t *testing.T) {
	_, url, _ := start(t, nil)
	ask := func(prompt string, seed int) string {
		_, body, err := send(t, newRequest(t, http.MethodPost, url+"/openai/v1/completions",
			fmt.Sprintf(`{"model":"instruct","prompt":%q,"seed":%d}`, prompt, seed)))
		if err != nil {
			t.Fatal(err)
		}
		var answer struct {
			Choices []struct{ Text string }
		}
		if err := json.Unmarshal(body, &answer); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
		return answer.Choices[0].Text
	}
	if first, again := ask("a", 1), ask("a", 1); first != again {
		t.Error("the same prompt and seed gave two answers")
	}
	if ask("a", 1) == ask("a", 2) || ask("a", 1) == ask("b", 1) {
		t.Error("another prompt or seed gave the same answer")
	}
}

func TestUsageDetails(t *testing.T) {
	_, url, _ := start(t, nil)
	_, body, err := send(t, newRequest(t, http.MethodPost, url+chatPath,
		`{"messages":[{"role":"user","content":"[tokens:50][reasoning:4][cached:3]"}],"max_completion_tokens":10}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"finish_reason":"length"`, `"completion_tokens":10`, `"reasoning_tokens":4`, `"cached_tokens":3`} {
		if !strings.Contains(string(body), want) {
			t.Errorf("no %s in %s", want, body)
		}
	}
}

func TestResponsesStreamEvents(t *testing.T) {
	_, url, _ := start(t, nil)
	for _, path := range []string{"/openai/responses?api-version=2025-03-01-preview", "/openai/v1/responses"} {
		_, body, err := send(t, newRequest(t, http.MethodPost, url+path, `{"model":"chat","input":"[tokens:3]","stream":true}`))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for line := range strings.Lines(string(body)) {
			if name, ok := strings.CutPrefix(line, "event: "); ok {
				names = append(names, strings.TrimPrefix(strings.TrimSpace(name), "response."))
			} else if data, ok := strings.CutPrefix(line, "data: "); ok && !json.Valid([]byte(data)) {
				t.Errorf("not JSON: %s", data)
			}
		}
		want := "created in_progress output_item.added content_part.added output_text.delta output_text.delta output_text.delta " +
			"output_text.done content_part.done output_item.done completed"
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: events %s", path, got)
		}
		if strings.Contains(string(body), "[DONE]") || !strings.Contains(string(body), `"output_tokens":3`) {
			t.Errorf("%s: %s", path, body)
		}
	}
}

func TestEmbeddingFormats(t *testing.T) {
	_, url, _ := start(t, nil)
	path := "/openai/deployments/embed/embeddings?api-version=2024-10-21"
	_, body, err := send(t, newRequest(t, http.MethodPost, url+path, `{"input":["a","b"],"dimensions":8}`))
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Data []struct{ Embedding []float64 }
	}
	if err := json.Unmarshal(body, &list); err != nil || len(list.Data) != 2 || len(list.Data[0].Embedding) != 8 {
		t.Errorf("%v: %s", err, body)
	}
	_, body, err = send(t, newRequest(t, http.MethodPost, url+path, `{"input":"a","dimensions":8,"encoding_format":"base64"}`))
	if err != nil {
		t.Fatal(err)
	}
	var packed struct {
		Data []struct{ Embedding []byte }
	}
	if err := json.Unmarshal(body, &packed); err != nil || len(packed.Data[0].Embedding) != 32 {
		t.Errorf("%v: %s", err, body)
	}
}

func TestOtherOperations(t *testing.T) {
	_, url, _ := start(t, func(o *aoaisim.Options) { o.Profile = aoaisim.Kind }) // its objects do not exist
	for _, op := range []string{
		"GET /openai/v1/models", "GET /openai/files?api-version=2024-10-21", "POST /openai/v1/files", "GET /openai/v1/responses/resp_1",
		"POST /openai/deployments/dalle/images/generations?api-version=2024-10-21", "POST /openai/v1/batches",
		"DELETE /openai/v1/vector_stores/vs_1",
	} {
		method, path, _ := strings.Cut(op, " ")
		resp, body, err := send(t, newRequest(t, method, url+path, ""))
		if err != nil || resp.StatusCode != http.StatusOK || !json.Valid(body) {
			t.Errorf("%s: %v %v %s", op, resp, err, body)
		}
	}
}

func TestResponsesOfOneRegion(t *testing.T) {
	_, here, _ := start(t, nil)
	_, elsewhere, _ := start(t, nil)
	_, body, err := send(t, newRequest(t, http.MethodPost, here+"/openai/v1/responses", `{"model":"chat","input":"x"}`))
	if err != nil {
		t.Fatal(err)
	}
	var made struct{ ID string }
	if err := json.Unmarshal(body, &made); err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]int{here: 200, elsewhere: 404} {
		resp, _, err := send(t, newRequest(t, http.MethodGet, url+"/openai/v1/responses/"+made.ID, ""))
		if err != nil || resp.StatusCode != want {
			t.Errorf("%s: %v %v", url, resp, err)
		}
	}
}

func TestDeploymentLimits(t *testing.T) {
	_, url, _ := start(t, nil)
	path := url + "/openai/deployments/tight/chat/completions?api-version=2024-10-21"
	resp, _, err := send(t, newRequest(t, http.MethodPost, path, hello+`,"max_tokens":100}`))
	if err != nil || resp.Header.Get("x-ratelimit-limit-tokens") != "1000" || resp.Header.Get("x-ratelimit-remaining-requests") != "11" {
		t.Fatalf("%v %v", resp, err)
	}
	if left := resp.Header.Get("x-ratelimit-remaining-tokens"); left != "894" { // 1000 - 6 of prompt - 100
		t.Errorf("remaining tokens %s", left)
	}
	resp, body, err := send(t, newRequest(t, http.MethodPost, path, hello+`,"max_tokens":950}`))
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusTooManyRequests || !strings.Contains(string(body), "exceeded the token rate limit") ||
		resp.Header.Get("Retry-After") == "" || resp.Header.Get("retry-after-ms") == "" {
		t.Errorf("%d %v %s", resp.StatusCode, resp.Header, body)
	}
}

func TestRandomFaultsAreSeeded(t *testing.T) {
	_, url, _ := start(t, func(o *aoaisim.Options) { o.Random, o.Seed = true, 3 })
	bad := 0
	for range 200 {
		resp, _, err := send(t, newRequest(t, http.MethodPost, url+chatPath, hello+"}"))
		if err != nil || resp.StatusCode != http.StatusOK {
			bad++
		}
	}
	if bad == 0 || bad > 40 {
		t.Errorf("%d of 200 went wrong", bad)
	}
}
