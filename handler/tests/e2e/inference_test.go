package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"aoaigateway/handler/app/settings"
	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/openai"
	"aoaigateway/handler/tests/harness"
)

// metered are the four metered operations on both surfaces. streams says whether they have
// streams.
var metered = []struct {
	path, body, operation string
	streams               bool
}{
	{harness.ChatPath, harness.ChatBody, "ChatCompletions_Create", true},
	{
		"/openai/deployments/modelname/completions?api-version=2024-10-21", `{"prompt":"once upon [tokens:6]","seed":1}`, "completions_create",
		true,
	},
	{"/openai/deployments/emb/embeddings?api-version=2024-10-21", `{"input":"a text"}`, "embeddings_create", false},
	{"/openai/responses?api-version=2025-03-01-preview", `{"model":"chat","input":"hello [tokens:6]"}`, "Create_Response", true},
	{"/openai/v1/chat/completions", `{"model":"chat","messages":[{"role":"user","content":"hi [tokens:6]"}]}`, "createChatCompletion", true},
	{"/openai/v1/completions", `{"model":"modelname","prompt":"once [tokens:6]"}`, "createCompletion", true},
	{"/openai/v1/embeddings", `{"model":"emb","input":["a","b"]}`, "createEmbedding", false},
	{"/openai/v1/responses", `{"model":"chat","input":"hello [tokens:6]"}`, "createResponse", true},
}

func TestMeteredOperations(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1})
	for _, c := range metered {
		for _, stream := range []bool{false, true} {
			if stream && !c.streams {
				continue
			}
			t.Run(fmt.Sprintf("%s stream %t", c.operation, stream), func(t *testing.T) {
				body := c.body
				if stream {
					body = strings.Replace(body, "{", `{"stream":true,`, 1)
				}
				r.Regions[0].ResetCounts()
				a := r.Post(c.path, body)
				if a.Status != 200 || a.Err != nil {
					t.Fatalf("%d, %v: %s", a.Status, a.Err, a.Body)
				}
				rec := r.RecordOf(a)
				seen := r.Regions[0].Counts().Usage
				got := rec.Usage
				if got.Total != seen.Total || got.Prompt != seen.Prompt || got.Completion != seen.Completion || got.Total == 0 || got.Estimated {
					t.Errorf("recorded %+v, the region counted %+v", got, seen)
				}
				if rec.Operation != c.operation || rec.Outcome != gateway.Complete || rec.Region != "a" || rec.Subscription != "team-a" ||
					rec.Stream != stream || rec.AnsweredModel == "" {
					t.Errorf("record %+v", rec)
				}
				if rec.Request == nil || rec.Request.SHA256 != sum([]byte(body)) {
					t.Errorf("request body %+v", rec.Request)
				}
				if !stream && (rec.Response.SHA256 != sum(a.Body) || !sameJSON(rec.Response.JSON, a.Body)) {
					t.Errorf("response body %+v", rec.Response)
				}
				if stream && len(rec.Response.Assembled) == 0 {
					t.Errorf("no whole object in %+v", rec.Response)
				}
			})
		}
	}
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func sameJSON(a, b []byte) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}

func TestStreamIsNotBuffered(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1})
	region := r.Regions[0]
	region.Fault(aoaisim.Fault{Do: aoaisim.DoStep})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.URL+harness.ChatPath, strings.NewReader(harness.ChatStream))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Api-Key", r.Key)
	const held = 3 // the first event with output, and the two before it
	region.Step(held)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	in := bufio.NewReader(resp.Body)
	var seen int64
	for {
		event := readEvent(t, in)
		seen++
		if strings.Contains(event, "[DONE]") {
			break
		}
		if seen < held {
			continue
		}
		if sent := region.Counts().Events; sent > seen { // the region counts an event after it has sent it
			t.Fatalf("the client has %d events, the region sent %d", seen, sent)
		}
		region.Step(1)
		if strings.Contains(event, `"finish_reason":"stop"`) || strings.Contains(event, `"finish_reason":"length"`) {
			region.Step(1) // the usage chunk, which the gateway removes
			seen++
		}
	}
	if seen < 8 {
		t.Errorf("only %d events", seen)
	}
}

func readEvent(t *testing.T, in *bufio.Reader) string {
	t.Helper()
	var event strings.Builder
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatalf("after %q: %v", event.String(), err)
		}
		event.WriteString(line)
		if line == "\n" {
			return event.String()
		}
	}
}

// direct sends the request to the region without the gateway, to get the bytes to compare
// with.
func direct(r *harness.Gateway, body string) []byte {
	r.T.Helper()
	req, err := http.NewRequestWithContext(r.T.Context(), http.MethodPost,
		r.Endpoint()+"/openai/deployments/chat-a/chat/completions?api-version=2024-10-21", strings.NewReader(body))
	if err != nil {
		r.T.Fatal(err)
	}
	req.Header.Set("Api-Key", "key-of-a")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.T.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.T.Fatal(err)
	}
	return b
}

func TestStreamBytesAreUnchanged(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1})
	for _, size := range []int{0, 1, 2, 3, 7, 64, 1000} {
		r.Regions[0].ClearFaults()
		if size > 0 {
			r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoSplit, Bytes: size})
		}
		asked := strings.Replace(harness.ChatStream, "}]", `}],"stream_options":{"include_usage":true}`, 1)
		own := r.Post(harness.ChatPath, asked)
		rec := r.RecordOf(own)
		if rec.Response.SHA256 != sum(own.Body) {
			t.Errorf("pieces of %d: the client's bytes are not those the region sent", size)
		}
		if d := diffStreams(normalize(own.Body), normalize(direct(r, asked))); d != "" {
			t.Errorf("pieces of %d, usage asked for by the client: %s", size, d)
		}
		// Without stream_options in the request, the gateway removes the usage chunk and
		// nothing else.
		injected := r.Post(harness.ChatPath, harness.ChatStream)
		want := slices.DeleteFunc(harness.Events(normalize(direct(r, asked))), func(e string) bool {
			return strings.Contains(e, `"choices":[]`) && strings.Contains(e, `"usage":{`)
		})
		if d := diffStreams(normalize(injected.Body), []byte(strings.Join(want, "\n\n")+"\n\n")); d != "" {
			t.Errorf("pieces of %d, usage injected: %s", size, d)
		}
		if rec := r.RecordOf(injected); rec.Usage.Total == 0 || rec.Usage.Estimated {
			t.Errorf("usage %+v", rec.Usage)
		}
	}
}

// normalize removes the parts that differ between two answers: ids and times.
func normalize(stream []byte) []byte {
	for _, name := range []string{"id", "created"} {
		out := make([]byte, 0, len(stream))
		mark := []byte(`"` + name + `":`)
		for rest := stream; ; {
			i := bytes.Index(rest, mark)
			if i < 0 {
				out = append(out, rest...)
				break
			}
			out = append(out, rest[:i+len(mark)]...)
			rest = rest[i+len(mark):]
			rest = rest[bytes.IndexAny(rest, ",}"):]
		}
		stream = out
	}
	return stream
}

func diffStreams(got, want []byte) string {
	if bytes.Equal(got, want) {
		return ""
	}
	g, w := harness.Events(got), harness.Events(want)
	for i := range max(len(g), len(w)) {
		if i >= len(g) || i >= len(w) || g[i] != w[i] {
			return fmt.Sprintf("event %d of %d/%d differs:\n got %s\nwant %s", i, len(g), len(w), at(g, i), at(w, i))
		}
	}
	return "framing differs"
}

func at(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return "(none)"
}

func TestHeadersToRegion(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1})
	a := r.Post(harness.ChatPath+"&subscription-key=dummy&code=x", harness.ChatBody,
		"Authorization=Bearer dummy", "Cookie=c=1", "X-Functions-Key=f", "X-Forwarded-For=1.2.3.4", "Client-Ip=9.9.9.9:123",
		"X-Gateway-Client-Ip=8.8.8.8", "X-Ms-Client-Principal=p", "X-Arr-Log-Id=l", "Disguised-Host=h", "X-Stainless-Lang=python")
	if a.Status != 200 {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	last := lastOf(r)
	if last.Header.Get("Api-Key") != "key-of-a" || last.Header.Get("X-Stainless-Lang") != "python" {
		t.Errorf("header %v", last.Header)
	}
	for _, name := range []string{
		"Authorization", "Cookie", "X-Functions-Key", "X-Forwarded-For", "Client-Ip", "X-Gateway-Client-Ip",
		"X-Ms-Client-Principal", "X-Arr-Log-Id", "Disguised-Host",
	} {
		if v := last.Header.Get(name); v != "" {
			t.Errorf("the region saw %s: %s", name, v)
		}
	}
	rec := r.RecordOf(a)
	if strings.Contains(last.URL, "dummy") || strings.Contains(rec.URL, "dummy") || strings.Contains(last.URL, "code=") ||
		strings.Contains(rec.URL, "code=") {
		t.Errorf("keys in %s or %s", last.URL, rec.URL)
	}
	if rec.IP != "9.9.9.9" {
		t.Errorf("caller's address %q", rec.IP)
	}
}

func TestVersionFloorIsRecorded(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1})
	a := r.Post("/openai/deployments/modelname/completions?api-version=2023-03-15-preview", `{"prompt":"hello"}`)
	rec := r.RecordOf(a)
	if a.Status != 200 || rec.APIVersion != "2023-03-15-preview" || rec.BackendAPIVersion != "2024-10-21" {
		t.Errorf("%d, %s, %s", a.Status, rec.APIVersion, rec.BackendAPIVersion)
	}
}

func TestOutputCapIsInserted(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1})
	r.Key = r.Subscribe("capped", "capped")
	for body, want := range map[string]int64{harness.ChatBody: 7, strings.Replace(harness.ChatBody, "{", `{"max_tokens":3,`, 1): 0} {
		if a := r.Post(harness.ChatPath, body); a.Status != 200 {
			t.Fatalf("%d %s", a.Status, a.Body)
		}
		if got := gjson.GetBytes(lastOf(r).Body, "max_completion_tokens").Int(); got != want {
			t.Errorf("%s: the region was asked for at most %d", body, got)
		}
	}
}

// Each operation in the table reaches a region, and its record has the operation's id.
// Operations that the host does not support are refused with the reason.
func TestOperationsAreRoutedAndLogged(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1, Profile: aoaisim.Kind}) // its objects do not exist
	data, err := os.ReadFile("../../openai/operations.json")
	if err != nil {
		t.Fatal(err)
	}
	var operations []openai.Operation
	if err := json.Unmarshal(data, &operations); err != nil || len(operations) == 0 {
		t.Fatal(len(operations), err)
	}
	for _, op := range operations {
		path := "/openai" + map[string]string{openai.Classic: "", openai.V1: "/v1"}[op.Surface]
		path += strings.NewReplacer("{deployment}", "chat", "{response_id}", storedResponse(r), "{", "x_", "}", "").Replace(op.Path)
		if op.Surface == openai.Classic {
			path += "?api-version=2025-03-01-preview"
		}
		body := ""
		if op.Method == http.MethodPost {
			body = `{"model":"chat","messages":[{"role":"user","content":"x"}],"input":"x","prompt":"x"}`
		}
		if a := r.Do(op.Method, path, body); a.Status != 401 {
			t.Errorf("%s %s without a key: %d", op.Method, path, a.Status)
		}
		a := r.Do(op.Method, path, body, "api-key="+r.Key, "Content-Type=application/json")
		if want := op.Kind == openai.WebSocket; (a.Status == 501) != want || !want && a.Status >= 300 {
			t.Errorf("%s %s: %d %s", op.Method, path, a.Status, a.Body)
			continue
		}
		if rec := r.RecordOf(a); rec.Operation != op.ID || rec.Surface != op.Surface || rec.Subscription != "team-a" {
			t.Errorf("%s %s: record %+v", op.Method, path, rec)
		}
	}
}

// storedResponse creates a response and returns its id, because operations on unknown ids
// fail.
func storedResponse(r *harness.Gateway) string {
	r.T.Helper()
	a := r.Post("/openai/v1/responses", `{"model":"chat","input":"hi"}`)
	id, _ := a.Event(r.T, "id").(string)
	if id == "" {
		r.T.Fatalf("%d %s", a.Status, a.Body)
	}
	return id
}

func TestClientLeftIsRecorded(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1})
	r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoSlow, Millis: 50})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, r.URL+harness.ChatPath,
		strings.NewReader(strings.Replace(harness.ChatStream, "tokens:6", "tokens:200", 1)))
	req.Header.Set("Api-Key", r.Key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(resp.Body)
	for range 5 {
		readEvent(t, in)
	}
	cancel()
	_ = resp.Body.Close()
	rec := r.Record(resp.Header.Get("X-Gateway-Request-Id"))
	if rec.Outcome != gateway.ClientLeft || !rec.Usage.Estimated || rec.Usage.Completion == 0 {
		t.Errorf("outcome %s, usage %+v", rec.Outcome, rec.Usage)
	}
	deadline := time.Now().Add(5 * time.Second)
	for r.Regions[0].Counts().Open > 0 {
		if time.Now().After(deadline) {
			t.Fatal("the region is still answering")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestHeartbeatsDuringSilence(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1, Settings: func(s *settings.Values) { s.Heartbeat = 20 * time.Millisecond }})
	r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoSlow, Millis: 100})
	a := r.Post(harness.ChatPath, harness.ChatStream)
	list := harness.Events(a.Body)
	comments := slices.DeleteFunc(slices.Clone(list), func(e string) bool { return !strings.HasPrefix(e, ":") })
	if a.Err != nil || len(comments) < 5 || list[len(list)-1] != "data: [DONE]" {
		t.Errorf("%v, %d comments in\n%s", a.Err, len(comments), a.Body)
	}
	for _, e := range list {
		if !strings.HasPrefix(e, "data: ") && e != ": keep-alive" {
			t.Errorf("event %q", e)
		}
	}
}
