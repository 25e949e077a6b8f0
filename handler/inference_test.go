package main

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
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/openai"
)

const (
	chatPath = "/openai/deployments/chat/chat/completions?api-version=2024-10-21"
	chatBody = `{"messages":[{"role":"user","content":"say something [tokens:6]"}],"seed":1}`
	// Without stream_options the gateway asks for usage and takes the extra chunk out again.
	chatStream = `{"messages":[{"role":"user","content":"say something [tokens:6]"}],"seed":1,"stream":true}`
)

// metered are the four metered operations on both surfaces, and whether they stream.
var metered = []struct {
	path, body, operation string
	streams               bool
}{
	{chatPath, chatBody, "ChatCompletions_Create", true},
	{"/openai/deployments/modelname/completions?api-version=2024-10-21", `{"prompt":"once upon [tokens:6]","seed":1}`, "completions_create", true},
	{"/openai/deployments/emb/embeddings?api-version=2024-10-21", `{"input":"a text"}`, "embeddings_create", false},
	{"/openai/responses?api-version=2025-03-01-preview", `{"model":"chat","input":"hello [tokens:6]"}`, "Create_Response", true},
	{"/openai/v1/chat/completions", `{"model":"chat","messages":[{"role":"user","content":"hi [tokens:6]"}]}`, "createChatCompletion", true},
	{"/openai/v1/completions", `{"model":"modelname","prompt":"once [tokens:6]"}`, "createCompletion", true},
	{"/openai/v1/embeddings", `{"model":"emb","input":["a","b"]}`, "createEmbedding", false},
	{"/openai/v1/responses", `{"model":"chat","input":"hello [tokens:6]"}`, "createResponse", true},
}

func TestEveryMeteredOperationIsAnsweredCountedAndRecorded(t *testing.T) {
	r := newRig(t, rigOptions{regions: 1})
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
				r.regions[0].ResetCounts()
				a := r.post(c.path, body)
				if a.status != 200 || a.err != nil {
					t.Fatalf("%d, %v: %s", a.status, a.err, a.body)
				}
				rec := r.recordOf(a)
				seen := r.regions[0].Counts().Usage
				got := rec.Usage
				if got.Total != seen.Total || got.Prompt != seen.Prompt || got.Completion != seen.Completion || got.Total == 0 || got.Estimated {
					t.Errorf("recorded %+v, the region counted %+v", got, seen)
				}
				if rec.Operation != c.operation || rec.Outcome != gateway.Complete || rec.Region != "a" || rec.Subscription != "team-a" || rec.Stream != stream || rec.AnsweredModel == "" {
					t.Errorf("record %+v", rec)
				}
				if rec.Request == nil || rec.Request.SHA256 != sum([]byte(body)) {
					t.Errorf("request body %+v", rec.Request)
				}
				if !stream && (rec.Response.SHA256 != sum(a.body) || !sameJSON(rec.Response.JSON, a.body)) {
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

func TestTheClientReadsEventKBeforeTheRegionSendsTheNext(t *testing.T) {
	r := newRig(t, rigOptions{regions: 1})
	region := r.regions[0]
	region.Fault(aoaisim.Fault{Do: aoaisim.DoStep})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+chatPath, strings.NewReader(chatStream))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Api-Key", r.key)
	region.Step(1)
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
		if sent := region.Counts().Events; sent > seen { // it counts an event when it has sent it
			t.Fatalf("the client has %d events, the region sent %d", seen, sent)
		}
		region.Step(1)
		if strings.Contains(event, `"finish_reason":"stop"`) || strings.Contains(event, `"finish_reason":"length"`) {
			region.Step(1) // the usage chunk, which is not for the client
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

// direct asks the region without the gateway, for bytes to compare with.
func (r *rig) direct(body string) []byte {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, r.endpoint()+"/openai/deployments/chat-a/chat/completions?api-version=2024-10-21", strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Api-Key", "key-of-a")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

func TestAStreamsBytesAreTheRegionsWhateverTheSplits(t *testing.T) {
	r := newRig(t, rigOptions{regions: 1})
	for _, size := range []int{0, 1, 2, 3, 7, 64, 1000} {
		r.regions[0].ClearFaults()
		if size > 0 {
			r.regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoSplit, Bytes: size})
		}
		asked := strings.Replace(chatStream, "}]", `}],"stream_options":{"include_usage":true}`, 1)
		own := r.post(chatPath, asked)
		rec := r.recordOf(own)
		if rec.Response.SHA256 != sum(own.body) {
			t.Errorf("pieces of %d: the client's bytes are not those the region sent", size)
		}
		if d := diffStreams(normalize(own.body), normalize(r.direct(asked))); d != "" {
			t.Errorf("pieces of %d, usage asked for by the client: %s", size, d)
		}
		// Without it, the chunk we asked for is taken out, and nothing else.
		injected := r.post(chatPath, chatStream)
		want := slices.DeleteFunc(events(normalize(r.direct(asked))), func(e string) bool {
			return strings.Contains(e, `"choices":[]`) && strings.Contains(e, `"usage":{`)
		})
		if d := diffStreams(normalize(injected.body), []byte(strings.Join(want, "\n\n")+"\n\n")); d != "" {
			t.Errorf("pieces of %d, usage injected: %s", size, d)
		}
		if rec := r.recordOf(injected); rec.Usage.Total == 0 || rec.Usage.Estimated {
			t.Errorf("usage %+v", rec.Usage)
		}
	}
}

// normalize blanks what differs from one answer to the next: ids and times.
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
	g, w := events(got), events(want)
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

func TestTheRegionGetsItsOwnKeyAndNothingOfTheCallers(t *testing.T) {
	r := newRig(t, rigOptions{regions: 1})
	a := r.post(chatPath+"&subscription-key=dummy&code=x", chatBody,
		"Authorization=Bearer dummy", "Cookie=c=1", "X-Functions-Key=f", "X-Forwarded-For=1.2.3.4", "Client-Ip=9.9.9.9:123",
		"X-Gateway-Client-Ip=8.8.8.8", "X-Ms-Client-Principal=p", "X-Arr-Log-Id=l", "Disguised-Host=h", "X-Stainless-Lang=python")
	if a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	last := r.regions[0].Counts().Last
	if last.Header.Get("Api-Key") != "key-of-a" || last.Header.Get("X-Stainless-Lang") != "python" {
		t.Errorf("header %v", last.Header)
	}
	for _, name := range []string{"Authorization", "Cookie", "X-Functions-Key", "X-Forwarded-For", "Client-Ip", "X-Gateway-Client-Ip", "X-Ms-Client-Principal", "X-Arr-Log-Id", "Disguised-Host"} {
		if v := last.Header.Get(name); v != "" {
			t.Errorf("the region saw %s: %s", name, v)
		}
	}
	rec := r.recordOf(a)
	if strings.Contains(last.URL, "dummy") || strings.Contains(rec.URL, "dummy") || strings.Contains(last.URL, "code=") || strings.Contains(rec.URL, "code=") {
		t.Errorf("keys in %s or %s", last.URL, rec.URL)
	}
	if rec.IP != "9.9.9.9" {
		t.Errorf("caller's address %q", rec.IP)
	}
}

func TestAnOldAPIVersionIsLiftedAndBothAreRecorded(t *testing.T) {
	r := newRig(t, rigOptions{regions: 1})
	a := r.post("/openai/deployments/modelname/completions?api-version=2023-03-15-preview", `{"prompt":"hello"}`)
	rec := r.recordOf(a)
	if a.status != 200 || rec.APIVersion != "2023-03-15-preview" || rec.BackendAPIVersion != "2024-10-21" {
		t.Errorf("%d, %s, %s", a.status, rec.APIVersion, rec.BackendAPIVersion)
	}
}

func TestTheProductsOutputCapIsPutIntoRequestsThatNameNone(t *testing.T) {
	r := newRig(t, rigOptions{regions: 1})
	r.key = r.subscribe("capped", "capped")
	for body, want := range map[string]int64{chatBody: 7, strings.Replace(chatBody, "{", `{"max_tokens":3,`, 1): 0} {
		if a := r.post(chatPath, body); a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
		if got := gjson.GetBytes(r.regions[0].Counts().Last.Body, "max_completion_tokens").Int(); got != want {
			t.Errorf("%s: the region was asked for at most %d", body, got)
		}
	}
}

// Every operation of the table reaches a region under its own id; what the host cannot
// carry is refused with the reason.
func TestEveryOperationIsRoutedNamedKeyedAndLogged(t *testing.T) {
	r := newRig(t, rigOptions{regions: 1})
	for _, op := range openai.Operations() {
		path := "/openai" + map[string]string{openai.Classic: "", openai.V1: "/v1"}[op.Surface]
		path += strings.NewReplacer("{deployment}", "chat", "{response_id}", r.storedResponse(), "{", "x_", "}", "").Replace(op.Path)
		if op.Surface == openai.Classic {
			path += "?api-version=2025-03-01-preview"
		}
		body := ""
		if op.Method == http.MethodPost {
			body = `{"model":"chat","messages":[{"role":"user","content":"x"}],"input":"x","prompt":"x"}`
		}
		if a := r.do(op.Method, path, body); a.status != 401 {
			t.Errorf("%s %s without a key: %d", op.Method, path, a.status)
		}
		a := r.do(op.Method, path, body, "api-key="+r.key, "Content-Type=application/json")
		if want := op.Kind == openai.WebSocket; (a.status == 501) != want || !want && a.status >= 300 {
			t.Errorf("%s %s: %d %s", op.Method, path, a.status, a.body)
			continue
		}
		if rec := r.recordOf(a); rec.Operation != op.ID || rec.Surface != op.Surface || rec.Subscription != "team-a" {
			t.Errorf("%s %s: record %+v", op.Method, path, rec)
		}
	}
}

// storedResponse makes a response and returns its id: only known ones are found again.
func (r *rig) storedResponse() string {
	r.t.Helper()
	a := r.post("/openai/v1/responses", `{"model":"chat","input":"hi"}`)
	id, _ := a.event(r.t, "id").(string)
	if id == "" {
		r.t.Fatalf("%d %s", a.status, a.body)
	}
	return id
}

func TestAWholeAnswerIsWithheldUntilItsEndIsDurable(t *testing.T) {
	r := newRig(t, rigOptions{regions: 1})
	gate := make(chan struct{})
	defer close(gate)
	r.fault.Store(noAppends(gate))
	a := r.post(chatPath, chatBody)
	if a.status != 503 || !strings.Contains(string(a.body), "could not be recorded") || bytes.Contains(a.body, []byte("choices")) {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestAStreamsTerminalEventIsHeldUntilItsEndIsDurable(t *testing.T) {
	r := newRig(t, rigOptions{regions: 1})
	r.regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoStep})
	r.regions[0].Step(1)
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+chatPath, strings.NewReader(chatStream))
	req.Header.Set("Api-Key", r.key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	in := bufio.NewReader(resp.Body)
	readEvent(t, in) // its begin is durable
	gate := make(chan struct{})
	defer close(gate)
	r.fault.Store(noAppends(gate))
	r.regions[0].Step(1000)
	rest, err := io.ReadAll(in)
	if err == nil || bytes.Contains(rest, []byte("[DONE]")) || !bytes.Contains(rest, []byte(`"error"`)) || !bytes.Contains(rest, []byte(`"finish_reason":"stop"`)) {
		t.Errorf("a stream whose end could not be recorded ended with %v:\n%s", err, rest)
	}
}

func TestNoByteOfAStreamLeavesBeforeItsBeginIsDurable(t *testing.T) {
	r := newRig(t, rigOptions{regions: 1})
	gate := make(chan struct{})
	defer close(gate)
	r.fault.Store(noAppends(gate))
	a := r.post(chatPath, chatStream)
	if a.status != 503 || bytes.Contains(a.body, []byte("choices")) {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestABodyOverOneMiBIsPassedOnWholeAndRecordedAsABlob(t *testing.T) {
	r := newRig(t, rigOptions{regions: 1, settings: func(s *settings) { s.MaxBodyMB = 8 }})
	long := `{"input":["` + strings.Repeat("x", 2<<20) + `"]}`
	r.regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoStatus, Status: 200, Times: 1, Body: `{"data":"` + strings.Repeat("y", 3<<20) + `","model":"text-embedding-3-small","usage":{"prompt_tokens":9,"total_tokens":9}}`})
	a := r.post("/openai/deployments/emb/embeddings?api-version=2024-10-21", long)
	if a.err != nil || a.status != 200 || len(a.body) < 3<<20 {
		t.Fatalf("%d, %d bytes, %v", a.status, len(a.body), a.err)
	}
	rec := r.recordOf(a)
	if rec.Usage.Total != 9 || rec.Response.SHA256 != sum(a.body) || rec.Request.SHA256 != sum([]byte(long)) {
		t.Errorf("usage %+v, bodies %+v %+v", rec.Usage, rec.Request, rec.Response)
	}
	for blob, want := range map[string]string{rec.Request.Blob: long, rec.Response.Blob: string(a.body)} {
		f, err := r.blobs.Open(t.Context(), blob, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(f); err != nil || string(got) != want {
			t.Errorf("%s: %d bytes, %v; want %d", blob, len(got), err, len(want))
		}
	}
}

func TestAClientThatLeavesIsRecordedAndItsCallCancelled(t *testing.T) {
	r := newRig(t, rigOptions{regions: 1})
	r.regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoSlow, Millis: 50})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, r.url+chatPath, strings.NewReader(strings.Replace(chatStream, "tokens:6", "tokens:200", 1)))
	req.Header.Set("Api-Key", r.key)
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
	rec := r.record(resp.Header.Get("X-Gateway-Request-Id"))
	if rec.Outcome != gateway.ClientLeft || !rec.Usage.Estimated || rec.Usage.Completion == 0 {
		t.Errorf("outcome %s, usage %+v", rec.Outcome, rec.Usage)
	}
	deadline := time.Now().Add(5 * time.Second)
	for r.regions[0].Counts().Open > 0 {
		if time.Now().After(deadline) {
			t.Fatal("the region is still answering")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestASilentStreamIsKeptAliveByCommentsBetweenEvents(t *testing.T) {
	r := newRig(t, rigOptions{regions: 1, settings: func(s *settings) { s.Heartbeat = 20 * time.Millisecond }})
	r.regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoSlow, Millis: 100})
	a := r.post(chatPath, chatStream)
	list := events(a.body)
	comments := slices.DeleteFunc(slices.Clone(list), func(e string) bool { return !strings.HasPrefix(e, ":") })
	if a.err != nil || len(comments) < 5 || list[len(list)-1] != "data: [DONE]" {
		t.Errorf("%v, %d comments in\n%s", a.err, len(comments), a.body)
	}
	for _, e := range list {
		if !strings.HasPrefix(e, "data: ") && e != ": keep-alive" {
			t.Errorf("event %q", e)
		}
	}
}
