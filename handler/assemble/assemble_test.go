package assemble_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"aoaigateway/handler/assemble"
)

func assembled(kind assemble.Kind, events ...string) *assemble.Assembler {
	a := assemble.New(kind)
	for _, e := range events {
		a.Event([]byte(e))
	}
	return a
}

// chunk is a chat chunk as Azure sends it.
func chunk(choices string) string {
	return `{"choices":[` + choices + `],"created":1717,"id":"chatcmpl-1","model":"gpt-4o-2024-08-06",` +
		`"object":"chat.completion.chunk","system_fingerprint":"fp_1","usage":null}`
}

const (
	safe    = `{"hate":{"filtered":false,"severity":"safe"}}`
	head    = `"created":1717,"id":"chatcmpl-1","model":"gpt-4o-2024-08-06","object":"chat.completion","system_fingerprint":"fp_1"`
	filters = `{"choices":[],"created":0,"id":"","model":"","object":"",` +
		`"prompt_filter_results":[{"prompt_index":0,"content_filter_results":` + safe + `}]}`
)

// wholeObjects are the rows of TestAssemblerBuildsWholeObject.
var wholeObjects = []struct {
	what   string
	kind   assemble.Kind
	events []string
	want   string
}{
	{
		"Azure's chat stream: prompt filters first, filters on each chunk, usage last", assemble.Chat,
		[]string{
			filters,
			chunk(
				`{"content_filter_results":{},"delta":{"content":"","refusal":null,"role":"assistant"},"finish_reason":null,"index":0,` +
					`"logprobs":null}`,
			),
			chunk(`{"content_filter_results":` + safe + `,"delta":{"content":"Hel"},"finish_reason":null,"index":0,"logprobs":null}`),
			chunk(
				`{"content_filter_results":{"violence":{"filtered":false}},"delta":{"content":"lo \u00e9\n"},"finish_reason":null,"index":0,` +
					`"logprobs":null}`,
			),
			chunk(`{"content_filter_results":{},"delta":{},"finish_reason":"stop","index":0,"logprobs":null}`),
			strings.Replace(chunk(""), `"usage":null`, `"usage":{"prompt_tokens":5,"total_tokens":7}`, 1),
			"[DONE]",
		},
		`{` + head + `,"prompt_filter_results":[{"prompt_index":0,"content_filter_results":` + safe + `}],
		"choices":[{"index":0,"message":{"role":"assistant","content":"Hello \u00e9\n","refusal":null},"finish_reason":"stop","logprobs":null,
			"content_filter_results":{"hate":{"filtered":false,"severity":"safe"},"violence":{"filtered":false}}}],
		"usage":{"prompt_tokens":5,"total_tokens":7}}`,
	},
	{
		"the asynchronous filter's chunks, which have no delta", assemble.Chat,
		[]string{
			chunk(`{"delta":{"role":"assistant","content":"Hi"},"finish_reason":null,"index":0}`),
			chunk(`{"content_filter_offsets":{"check_offset":1,"start_offset":1,"end_offset":1},` +
				`"content_filter_results":` + safe + `,"finish_reason":null,"index":0}`),
			chunk(`{"delta":{},"finish_reason":"stop","index":0}`),
			chunk(
				`{"content_filter_offsets":{"check_offset":1,"start_offset":1,"end_offset":9},` +
					`"content_filter_results":{"hate":{"filtered":true}},"finish_reason":null,"index":0}`,
			),
		},
		`{` + head + `,"usage":null,"choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop",
			"content_filter_offsets":{"check_offset":1,"start_offset":1,"end_offset":9},"content_filter_results":{"hate":{"filtered":true}}}]}`,
	},
	{
		"several choices, out of order", assemble.Chat,
		[]string{
			chunk(`{"delta":{"content":"b"},"index":1}`), chunk(`{"delta":{"content":"a"},"index":0}`),
			chunk(`{"delta":{"content":"B"},"index":1},{"delta":{"content":"A"},"index":0}`),
		},
		`{` + head + `,"usage":null,"choices":[{"index":0,"message":{"content":"aA"}},{"index":1,"message":{"content":"bB"}}]}`,
	},
	{
		"tool calls and the older function call", assemble.Chat,
		[]string{
			chunk(
				`{"delta":{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"f",` +
					`"arguments":""}}]},"index":0}`,
			),
			chunk(
				`{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":"}},{"index":1,"id":"call_2","type":"custom",` +
					`"custom":{"name":"g","input":"x"}}]},"index":0}`,
			),
			chunk(
				`{"delta":{"tool_calls":[{"index":1,"custom":{"input":"y"}},{"index":0,"function":{"arguments":"1}"}}]},"index":0,` +
					`"finish_reason":"tool_calls"}`,
			),
			chunk(`{"delta":{"function_call":{"name":"old","arguments":"{"}},"index":1}`),
			chunk(`{"delta":{"function_call":{"arguments":"}"}},"index":1}`),
		},
		`{` + head + `,"usage":null,"choices":[
			{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[
				{"id":"call_1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}},
				{"id":"call_2","type":"custom","custom":{"name":"g","input":"xy"}}]},"finish_reason":"tool_calls"},
			{"index":1,"message":{"function_call":{"name":"old","arguments":"{}"}}}]}`,
	},
	{
		"refusal, reasoning, audio, annotations, log probabilities and unknown members", assemble.Chat,
		[]string{
			chunk(
				`{"delta":{"refusal":"I ","reasoning_content":"th","audio":{"id":"a1","data":"AA","transcript":"t"},"annotations":[{"n":1}],` +
					`"mood":"good"},"index":0,"logprobs":{"content":[{"token":"a"}],"refusal":null}}`,
			),
			chunk(
				`{"delta":{"refusal":"can't","reasoning_content":"ink","audio":{"data":"BB","transcript":"u","expires_at":9},"annotations":[ ` +
					`{"n":2} ],"mood":"better"},"index":0,"logprobs":{"content":[],"refusal":[{"token":"r"}]}}`,
			),
			chunk(`{"delta":{},"index":0,"logprobs":{"content":[{"token":"b"},{"token":"c"}]}}`),
			`{"service_tier":"default","obfuscation":"xyz","later":{"x":1}}`,
		},
		`{` + head + `,"usage":null,"service_tier":"default","later":{"x":1},"choices":[{"index":0,
			"message":{"refusal":"I can't","reasoning_content":"think",
			"audio":{"id":"a1","data":"AABB","transcript":"tu","expires_at":9},"annotations":[{"n":1},{"n":2}],"mood":"better"},
			"logprobs":{"content":[{"token":"a"},{"token":"b"},{"token":"c"}],"refusal":[{"token":"r"}]}}]}`,
	},
	{
		"a surrogate pair split between chunks", assemble.Chat,
		[]string{`{"choices":[{"index":0,"delta":{"content":"\ud83d"}}]}`, `{"choices":[{"index":0,"delta":{"content":"\ude00"}}]}`},
		`{"choices":[{"index":0,"message":{"content":"😀"}}]}`,
	},
	{
		"an error instead of a chunk", assemble.Chat,
		[]string{chunk(`{"delta":{"content":"a"},"index":0}`), `{"error":{"code":"500","message":"no"}}`},
		`{` + head + `,"usage":null,"choices":[{"index":0,"message":{"content":"a"}}],"error":{"code":"500","message":"no"}}`,
	},
	{
		"legacy completions", assemble.Completion,
		[]string{
			`{"id":"cmpl-1","object":"text_completion","created":1,"model":"m","choices":[{"text":"a","index":0,"finish_reason":null,` +
				`"logprobs":{"tokens":["a"],"token_logprobs":[-1.5],"top_logprobs":[{"a":-1.5}],"text_offset":[0]}}],"usage":null}`,
			`{"id":"cmpl-1","object":"text_completion","created":1,"model":"m","choices":[{"text":"b","index":0,"finish_reason":"length",` +
				`"logprobs":{"tokens":["b"],"token_logprobs":[-0.50],"top_logprobs":null,"text_offset":[1]}}]}`,
			`{"id":"cmpl-1","object":"text_completion","created":1,"model":"m","choices":[],"usage":{"total_tokens":3}}`,
		},
		`{"id":"cmpl-1","object":"text_completion","created":1,"model":"m","usage":{"total_tokens":3},
			"choices":[{"text":"ab","index":0,"finish_reason":"length",
			"logprobs":{"tokens":["a","b"],"token_logprobs":[-1.5,-0.50],"top_logprobs":[{"a":-1.5}],"text_offset":[0,1]}}]}`,
	},
	{
		"a whole response", assemble.Response,
		[]string{
			`{"type":"response.created","response":{"id":"resp_1","status":"in_progress","output":[]}}`,
			`{"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"Hi"}`,
			`{"type":"response.completed","response":{"id":"resp_1","status":"completed","output":[{"type":"message"}],` +
				`"usage":{"total_tokens":3}}}`,
		},
		`{"id":"resp_1","status":"completed","output":[{"type":"message"}],"usage":{"total_tokens":3}}`,
	},
	{
		"a response that was cut", assemble.Response,
		[]string{
			`{"type":"response.created","response":{"id":"resp_1","status":"queued","output":[],"model":"m"}}`,
			`{"type":"response.in_progress","response":{"id":"resp_1","status":"in_progress","output":[],"model":"m"}}`,
			`{"type":"response.output_item.added","output_index":0,"item":{"id":"rs_1","type":"reasoning","summary":[]}}`,
			`{"type":"response.reasoning_summary_text.delta","output_index":0,"summary_index":0,"delta":"be"}`,
			`{"type":"response.reasoning_summary_text.delta","output_index":0,"summary_index":0,"delta":"cause"}`,
			`{"type":"response.output_item.done","output_index":0,"item":{"id":"rs_1","type":"reasoning","summary":[{"type":"summary_text",` +
				`"text":"because"}]}}`,
			`{"type":"response.output_item.added","output_index":2,"item":{"id":"fc_1","type":"function_call","arguments":"","name":"f"}}`,
			`{"type":"response.function_call_arguments.delta","output_index":2,"delta":"{\"a\""}`,
			`{"type":"response.output_item.added","output_index":1,"item":{"id":"msg_1","type":"message","role":"assistant","content":[]}}`,
			`{"type":"response.content_part.added","output_index":1,"content_index":0,"part":{"type":"output_text","text":""}}`,
			`{"type":"response.output_text.delta","output_index":1,"content_index":0,"delta":"Hel"}`,
			`{"type":"response.output_text.delta","output_index":1,"content_index":0,"delta":"lo"}`,
			`{"type":"response.refusal.delta","output_index":1,"content_index":1,"delta":"no"}`,
			`{"type":"error","code":"server_error","message":"gone"}`,
		},
		`{"id":"resp_1","status":"in_progress","model":"m","output":[
			{"id":"rs_1","type":"reasoning","summary":[{"type":"summary_text","text":"because"}]},
			{"id":"msg_1","type":"message","role":"assistant",
			"content":[{"type":"output_text","text":"Hello","annotations":[]},{"type":"refusal","refusal":"no"}]},
			{"id":"fc_1","type":"function_call","name":"f","arguments":"{\"a\""}],
		"error":{"type":"error","code":"server_error","message":"gone"}}`,
	},
	{
		"deltas alone", assemble.Response,
		[]string{`{"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"Hi"}`},
		`{"object":"response","output":[{"content":[{"type":"output_text","text":"Hi","annotations":[]}]}]}`,
	},
}

func TestAssemblerBuildsWholeObject(t *testing.T) {
	for _, c := range wholeObjects {
		t.Run(c.what, func(t *testing.T) {
			a := assembled(c.kind, c.events...)
			if d := cmp.Diff(decode(t, []byte(c.want)), decode(t, a.Object())); d != "" {
				t.Errorf("object (-want +got):\n%s", d)
			}
			if a.Malformed() != 0 || a.Full() {
				t.Errorf("malformed %d, full %v", a.Malformed(), a.Full())
			}
		})
	}
}

// decode keeps numbers as they are spelled.
func decode(t testing.TB, data []byte) (v any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v: %s", err, data)
	}
	return v
}

func TestAssemblerWithoutEvents(t *testing.T) {
	for _, kind := range []assemble.Kind{assemble.Chat, assemble.Completion, assemble.Response} {
		a := assembled(kind, "[DONE]", "", " ", "{", "[]", "null", `{"a":1} x`)
		if got := a.Object(); got != nil {
			t.Errorf("object %s, want none", got)
		}
		if a.Malformed() != 4 {
			t.Errorf("%d malformed events counted, want 4", a.Malformed())
		}
	}
}

func TestAssemblerSkipsMalformed(t *testing.T) {
	a := assembled(
		assemble.Chat, `{"choices":[{"index":0,"delta":{"content":"a"}}]}`, `{"choices":[{"index":0,"delta":{"content":"b`,
		`{"choices":[{"index":0,"delta":{"content":"c"}}]}`,
	)
	if got := string(a.Object()); got != `{"choices":[{"index":0,"message":{"content":"ac"}}]}` || a.Malformed() != 1 {
		t.Errorf("%s with %d malformed", got, a.Malformed())
	}
}

func TestAssemblerBearsOtherTypes(t *testing.T) {
	a := assembled(
		assemble.Chat,
		`{"choices":{"a":1}}`, `{"choices":[1,null,{"delta":"x"},{"delta":{"content":5,"tool_calls":{}}}]}`,
		`{"choices":[{"index":2,"delta":{"content":"a","tool_calls":[7]}}]}`, `{"choices":null}`,
	)
	decode(t, a.Object())
	if !strings.Contains(string(a.Object()), `"content":"a"`) {
		t.Errorf("object %s lost the content", a.Object())
	}
}

func TestAssemblerStopsAtLimit(t *testing.T) {
	for kind, event := range map[assemble.Kind]string{
		assemble.Chat:       `{"choices":[{"index":%d,"delta":{"content":"0123456789"}}],"k%[1]d":1}`,
		assemble.Completion: `{"choices":[{"index":%d,"text":"0123456789"}],"k%[1]d":1}`,
		assemble.Response:   `{"type":"response.output_text.delta","output_index":%d,"delta":"0123456789"}`,
	} {
		a := assemble.New(kind)
		a.Limit = 20_000
		for i := range 10_000 {
			a.Event(fmt.Appendf(nil, event, i))
		}
		if n := len(a.Object()); !a.Full() || n > a.Limit || n < a.Limit/20 { // nodes count for more than their bytes
			t.Errorf("kind %d: full %v with %d bytes of at most %d", kind, a.Full(), n, a.Limit)
		}
		decode(t, a.Object())
	}
}

func TestAssemblerBoundsIndexes(t *testing.T) {
	a := assemble.New(assemble.Chat)
	for i := range 100_000 {
		a.Event(fmt.Appendf(nil, `{"choices":[{"index":%d}]}`, i))
	}
	if !a.Full() {
		t.Error("100,000 choices were all kept")
	}
}

// A whole response replaces what was collected, even when the assembler is full.
func TestResponseEndsAssembly(t *testing.T) {
	a := assemble.New(assemble.Response)
	a.Limit = 1000
	for range 100 {
		a.Event([]byte(`{"type":"response.output_text.delta","output_index":0,"delta":"0123456789"}`))
	}
	if !a.Full() {
		t.Error("not full")
	}
	a.Event([]byte(`{"type":"response.completed","response":{"id":"resp_1"}}`))
	if got := string(a.Object()); got != `{"id":"resp_1"}` || a.Full() {
		t.Errorf("object %s, full %v", got, a.Full())
	}
}

func TestEventCopiesItsData(t *testing.T) {
	for kind, events := range map[assemble.Kind][]string{
		assemble.Chat: {
			filters, chunk(`{"delta":{"role":"assistant","content":"a"},"index":0}`), chunk(`{"delta":{"content":"b"},"index":0}`),
		},
		assemble.Response: {
			`{"type":"response.created","response":{"id":"resp_1"}}`, `{"type":"response.output_text.delta","output_index":0,"delta":"0"}`,
		},
	} {
		want := string(assembled(kind, events...).Object())
		a := assemble.New(kind)
		buf := make([]byte, 0, 4096)
		for _, e := range events {
			buf = append(buf[:0], e...)
			a.Event(buf)
			clear(buf)
		}
		if got := string(a.Object()); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// Whatever is sent, the object is valid JSON.
func FuzzAssembler(f *testing.F) {
	f.Add(
		0,
		filters+"\n"+chunk(`{"delta":{"role":"assistant","content":"a"},"index":0}`)+"\n"+chunk(
			`{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{"}}]},"index":0,"logprobs":{"content":[1]}}`,
		),
	)
	f.Add(
		1,
		`{"choices":[{"text":"a","index":0,"logprobs":{"tokens":["a"]}}]}`+"\n"+`{"choices":[{"text":null,"index":0,"logprobs":{"tokens":[ ]}}]}`,
	)
	f.Add(2, `{"type":"response.created","response":{"output":[]}}`+"\n"+
		`{"type":"response.output_text.delta","delta":"\"\\"}`+"\n"+`{"type":"error"}`)
	f.Add(0, `{"choices":[{"delta":{"content":null}}]}`+"\n"+`{ "choices" : [ { "delta" : { "content" : "x\\" } } , { } ] }`)
	for _, quirk := range []string{ // client libraries have failed on each
		filters + "\n[DONE]",
		chunk(`{"content_filter_offsets":{"check_offset":1,"start_offset":1,"end_offset":9},` +
			`"content_filter_results":` + safe + `,"finish_reason":null,"index":0}`),
		chunk(`{"delta":null,"index":0,"finish_reason":"content_filter"}`) + "\n" + chunk(`{"delta":{"content":"late"},"index":0}`),
		chunk(`{"delta":{"tool_calls":[{"function":{"arguments":"{}"}}]}}`) + "\n" + chunk(
			`{"delta":{"tool_calls":[{"index":0,"id":"","function":{"name":"","arguments":""}}]},"index":0}`,
		),
		chunk(``) + "\n" + `{"choices":null,"usage":{"prompt_tokens":1,"completion_tokens":0,"total_tokens":1}}`,
		chunk(`{"delta":{"content":"a"},"index":0}`) + "\n" +
			`{"error":{"message":"The server had an error","type":"server_error","param":null,"code":null}}`,
		chunk(`{"delta":{"content":"\ud83d"},"index":0}`) + "\n" + chunk(`{"delta":{"content":"\ude00"},"index":0}`),
	} {
		f.Add(0, quirk)
		f.Add(1, quirk)
		f.Add(2, quirk)
	}
	f.Fuzz(func(t *testing.T, kind int, stream string) {
		a := assemble.New(assemble.Kind(min(max(kind, 0), 2)))
		a.Limit = 1 << 16
		for e := range strings.SplitSeq(stream, "\n") {
			a.Event([]byte(e))
			if obj := a.Object(); obj != nil && !json.Valid(obj) {
				t.Fatalf("object %q after %q", obj, e)
			}
		}
	})
}

func BenchmarkEvent(b *testing.B) {
	for name, c := range map[string]struct {
		kind  assemble.Kind
		event string
	}{
		"chat": {
			assemble.Chat,
			chunk(`{"content_filter_results":{"hate":{"filtered":false,"severity":"safe"},"self_harm":{"filtered":false,"severity":"safe"}},` +
				`"delta":{"content":" hello"},"finish_reason":null,"index":0,"logprobs":null}`),
		},
		"chat plain": {assemble.Chat, chunk(`{"delta":{"content":" hello"},"finish_reason":null,"index":0}`)},
		"response": {
			assemble.Response,
			`{"type":"response.output_text.delta","item_id":"msg_68a1","output_index":0,"content_index":0,"delta":" hello","logprobs":[],` +
				`"sequence_number":17,"obfuscation":"abcdefgh"}`,
		},
	} {
		b.Run(name, func(b *testing.B) {
			a := assemble.New(c.kind)
			a.Limit = 1 << 40
			event := []byte(c.event)
			b.SetBytes(int64(len(event)))
			b.ReportAllocs()
			for b.Loop() {
				a.Event(event)
			}
		})
	}
}
