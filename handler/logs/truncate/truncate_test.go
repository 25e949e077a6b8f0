package truncate_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/tidwall/gjson"
	"pgregory.net/rapid"

	"aoaigateway/handler/logs/truncate"
)

const limit = 64_000

// shorten truncates body and checks what every result must satisfy.
func shorten(t testing.TB, body []byte) []byte {
	t.Helper()
	before := bytes.Clone(body)
	short, ok := truncate.JSON(body)
	if !ok {
		t.Fatalf("%.200s is no JSON", body)
	}
	if !bytes.Equal(before, body) {
		t.Fatal("the body was changed")
	}
	wantBounded(t, short)
	return short
}

func wantBounded(t testing.TB, short []byte) {
	t.Helper()
	if !jsontext.Value(short).IsValid() {
		t.Fatalf("not valid: %.300s", short)
	}
	if len(short) > limit || len(utf16.Encode([]rune(string(short)))) > limit {
		t.Fatalf("%d bytes", len(short))
	}
}

func TestTruncateKeepsShortBody(t *testing.T) {
	body := []byte(`{ "model":"gpt-4o",` + "\t" + `"n":12345678901234567890,"s":"\u00e9\n"}`)
	if got := shorten(t, body); !bytes.Equal(got, body) {
		t.Errorf("%s", got)
	}
}

func TestTruncateCutsLongestStrings(t *testing.T) {
	long, middle := strings.Repeat("abc", 100_000), strings.Repeat("x", 3_000)
	body := fmt.Sprintf(`{"id":"chatcmpl-1","model":"gpt-4o","choices":[{"index":0,"message":{"role":"assistant","content":%q}},`+
		`{"index":1,"message":{"content":%q}}],`+
		`"usage":{"prompt_tokens":12,"completion_tokens":34,"total_tokens":46},"n":12345678901234567890.5}`, long, middle)
	short := shorten(t, []byte(body))
	text := gjson.GetBytes(short, "choices.0.message.content").Str
	if len(short) < limit-100 {
		t.Errorf("%d bytes: room was wasted", len(short))
	}
	var left int
	_, after, found := strings.Cut(text, "…[")
	if _, err := fmt.Sscanf(after, "%d bytes left out]…", &left); !found || err != nil {
		t.Fatalf("no mark: %.100s … %v", text, err)
	}
	if whole := len(text) - len(fmt.Sprintf("…[%d bytes left out]…", left)) + left; whole != len(long) {
		t.Errorf("the mark accounts for %d bytes of %d", whole, len(long))
	}
	if !strings.HasPrefix(text, "abcabc") || !strings.HasSuffix(text, "abcabc") {
		t.Error("the beginning or the end is not the string's own")
	}
	for path, want := range map[string]string{
		"id": "chatcmpl-1", "model": "gpt-4o", "usage.total_tokens": "46", "choices.1.message.content": middle, "n": "12345678901234567890.5",
		"choices.0.index": "0",
	} {
		if got := gjson.GetBytes(short, path); got.String() != want && got.Raw != want {
			t.Errorf("%s = %.50s", path, got.Raw)
		}
	}
}

func TestTruncateKeepsCharactersWhole(t *testing.T) {
	for _, unit := range []string{`\ud83d\ude00`, `\"`, `\\`, `\u00e9`, "é", "😀", "漢", `\\u12`, `\n`, "a"} {
		for shift := range 13 {
			body := `{"s":"` + strings.Repeat("x", shift) + strings.Repeat(unit, 90_000/len(unit)) + `"}`
			var s, whole struct{ S string }
			if err := json.Unmarshal(shorten(t, []byte(body)), &s); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(body), &whole); err != nil {
				t.Fatal(err)
			}
			head, rest, _ := strings.Cut(s.S, "…[")
			_, tail, _ := strings.Cut(rest, "]…")
			if !strings.HasPrefix(whole.S, head) || !strings.HasSuffix(whole.S, tail) || head == "" || tail == "" {
				t.Fatalf("%s, shifted by %d, was torn: %q … %q", unit, shift, head[max(0, len(head)-9):], tail[:min(9, len(tail))])
			}
		}
	}
}

func TestTruncateRefusesInvalidJSON(t *testing.T) {
	for _, body := range []string{
		"", "{", `{"a":1}x`, `{"a":1,"a":2}`, "\"\xff\"", `"\ud800"`,
		strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000),
	} {
		if short, ok := truncate.JSON([]byte(body)); ok {
			t.Errorf("%.40s became %.40s", body, short)
		}
	}
}

// hostile has bodies whose length is not in their strings.
func hostile() map[string]string {
	const tail = `,"id":"x-1","object":"list","model":"gpt-4o","usage":{"prompt_tokens":7,"completion_tokens":0,"total_tokens":7,` +
		`"prompt_tokens_details":{"cached_tokens":3}}}`
	numbers := strings.TrimSuffix(strings.Repeat("-0.0123456789,", 3072), ",")
	vectors := strings.Repeat(`{"object":"embedding","index":0,"embedding":[`+numbers+`]},`, 50)
	var keys, members strings.Builder
	for i := range 40_000 {
		fmt.Fprintf(&members, `"k%d":%d,`, i, i)
	}
	for i := range 40 {
		fmt.Fprintf(&keys, `"%s%d":1,`, strings.Repeat("k", 10_000), i)
	}
	return map[string]string{
		"numbers":      `{"data":[` + strings.TrimSuffix(strings.Repeat("1234567,", 200_000), ",") + `]` + tail,
		"vectors":      `{"data":[` + strings.TrimSuffix(vectors, ",") + `]` + tail,
		"depth":        `{"data":` + strings.Repeat(`[{"a":`, 4_900) + strings.Repeat(" ", 90_000) + `1` + strings.Repeat("}]", 4_900) + tail,
		"wide depth":   `{"data":` + strings.Repeat(`{"aaaaaaaaaaaaaaaa":[1,2,3,`, 4_000) + `1` + strings.Repeat("]}", 4_000) + tail,
		"huge names":   `{` + keys.String() + `"data":1` + tail,
		"members":      `{` + members.String() + `"data":1` + tail,
		"short texts":  `{"data":[` + strings.TrimSuffix(strings.Repeat(`"abcdefgh",`, 100_000), ",") + `]` + tail,
		"a big number": `{"data":` + strings.Repeat("9", 100_000) + tail,
		"white space":  `{"data":[` + strings.Repeat(" ", 100_000) + `]` + tail,
		"empty":        `{"data":[` + strings.TrimSuffix(strings.Repeat(`{},[],"",`, 60_000), ",") + `]` + tail,
	}
}

func TestTruncateKeepsQueriedFields(t *testing.T) {
	for name, body := range hostile() {
		t.Run(name, func(t *testing.T) {
			short := shorten(t, []byte(body))
			for path, want := range map[string]string{
				"id": "x-1", "object": "list", "model": "gpt-4o", "usage.prompt_tokens": "7",
				"usage.prompt_tokens_details.cached_tokens": "3",
			} {
				if got := gjson.GetBytes(short, path).String(); got != want {
					t.Errorf("%s = %q", path, got)
				}
			}
		})
	}
}

func TestTruncateNonObjects(t *testing.T) {
	for _, body := range []string{
		`"` + strings.Repeat("a", 1<<20) + `"`,
		"[" + strings.TrimSuffix(strings.Repeat("1,", 1<<19), ",") + "]",
		strings.Repeat("7", 1<<20),
		strings.Repeat("[", 9_000) + `"` + strings.Repeat("é", 60_000) + `"` + strings.Repeat("]", 9_000),
	} {
		shorten(t, []byte(body))
	}
}

func TestTruncateBoundsAnyValue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var build func(depth int) string
		build = func(depth int) string {
			kind := rapid.IntRange(0, 5).Draw(t, "kind")
			if depth > 4 && kind > 3 {
				kind = 0
			}
			switch kind {
			case 0, 1:
				unit := rapid.SampledFrom([]string{"a", `\n`, `\ud83d\ude00`, "é", `\"`, "𝕏"}).Draw(t, "unit")
				return `"` + strings.Repeat(unit, rapid.IntRange(0, 30_000).Draw(t, "times")) + `"`
			case 2:
				return "-1.5e300"
			case 3:
				return "null"
			case 4:
				parts := make([]string, rapid.IntRange(0, 9).Draw(t, "n"))
				for i := range parts {
					parts[i] = build(depth + 1)
				}
				return "[" + strings.Join(parts, " , ") + "]"
			default:
				parts := make([]string, rapid.IntRange(0, 9).Draw(t, "n"))
				for i := range parts {
					parts[i] = fmt.Sprintf(`"k%d" : %s`, i, build(depth+1))
				}
				return "{" + strings.Join(parts, ",") + "}"
			}
		}
		body := []byte(build(0))
		short, ok := truncate.JSON(body)
		if !ok || !jsontext.Value(short).IsValid() || len(short) > limit {
			t.Fatalf("%v: %d bytes of %d: %.200s", ok, len(short), len(body), short)
		}
	})
}

// quirks has answers of Azure that clients failed to read.
var quirks = []string{
	`{"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0,` +
		`"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}}}]}`,
	`{"choices":[{"content_filter_offsets":{"check_offset":44,"start_offset":44,"end_offset":198},` +
		`"content_filter_results":{"error":{"code":"content_filter_error","message":"The contents are not filtered"}},"finish_reason":null,` +
		`"index":0}],"id":"","model":"","object":""}`,
	`{"choices":[{"delta":{},"finish_reason":"content_filter","index":0,"logprobs":null}],"usage":null}`,
	`{"error":{"message":"The response was filtered","type":null,"param":"prompt","code":"content_filter","status":400,` +
		`"innererror":{"code":"ResponsibleAIPolicyViolation","content_filter_result":{"jailbreak":{"filtered":true,"detected":true}}}}}`,
	`{"choices":[{"message":{"content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"f",` +
		`"arguments":"{\"a\":\"\\u00e9\\\"\"}"}}]}}]}`,
	`{"choices":[{"delta":{"content":"\ud83d\ude00"}}],"system_fingerprint":"fp_\u0000"}`,
	`{"id":"resp_1","object":"response","output":[{"type":"reasoning","summary":[],"encrypted_content":"gAAAA"}],` +
		`"usage":{"input_tokens":1,"output_tokens":2,"total_tokens":3}}`,
	"\ufeff{\"a\":1}", `{"object":"list","data":[{"embedding":"AACAPwAAgD8="}]}`, `""`, `[]`, "0",
}

func FuzzTruncate(f *testing.F) {
	for _, q := range quirks {
		f.Add([]byte(q), uint16(1))
		f.Add([]byte(q), uint16(4000))
	}
	f.Add([]byte(`"\ud83d\ude00\\\"\u00e9`+"é😀"), uint16(9000))
	f.Fuzz(func(t *testing.T, seed []byte, times uint16) {
		if len(seed) > 1024 {
			return
		}
		n := min(int(times), (90<<10)/(len(seed)+1))
		// The value as it is, whether valid or not, and many times as a list and inside one string.
		if short, ok := truncate.JSON(seed); ok {
			wantBounded(t, short)
			list := append([]byte("["), bytes.Repeat(append(bytes.Clone(seed), ','), n)...)
			shorten(t, append(append(list, seed...), ']'))
		}
		quoted, err := jsontext.AppendQuote(nil, bytes.Repeat(seed, n))
		if err == nil {
			shorten(t, quoted)
		}
	})
}

func BenchmarkTruncateOneMiB(b *testing.B) {
	body := []byte(`{"model":"gpt-4o","messages":[` +
		strings.TrimSuffix(strings.Repeat(`{"role":"user","content":"`+strings.Repeat("words and ", 400)+`"},`, 255), ",") + `]}`)
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		truncate.JSON(body)
	}
}
