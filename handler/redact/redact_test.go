package redact_test

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"aoaigateway/handler/redact"
)

var everything = redact.New([]redact.Rule{
	{Name: "email"},
	{Name: "card"},
	{Name: "iban"},
	{Name: "badge", Pattern: regexp.MustCompile(`\bE-[0-9]{6}\b`)},
})

func TestRulesFindPersonalData(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"write to bob.smith+x@mail.example.co.uk.", "write to [email]."},
		{"<jörg@müller.de>,a@b.io", "<[email]>,[email]"},
		{"メールはbob@example.comです", "メールは[email]です"},
		{"bob@localhost, @handle, a@b, x@1.2, bob@ example.com", "bob@localhost, @handle, a@b, x@1.2, bob@ example.com"},
		{"'o'brien@example.org'", "'[email]'"},
		{"mail@a.example1", "mail@a.example1"},
		{"4111111111111111", "[card]"},
		{"pay 4111 1111 1111 1111 by 12 2027", "pay [card] by 12 2027"},
		{"5500-0000-0000-0004,378282246310005", "[card],[card]"},
		{"4111111111111112 and 41111111111111111111", "4111111111111112 and 41111111111111111111"},
		{"0.4111111111111111", "0.4111111111111111"},
		{"4111  1111 1111 1111", "4111  1111 1111 1111"},
		{"to DE89 3704 0044 0532 0130 00 today", "to [iban] today"},
		{"GB82WEST12345698765432, nl91abna0417164300", "[iban], [iban]"},
		{
			"DE89370400440532013001 XX89370400440532013000 ADE89370400440532013000",
			"DE89370400440532013001 XX89370400440532013000 ADE89370400440532013000",
		},
		{"NO9386011117947", "[iban]"},
		{"badge E-123456, E-1234567", "badge [badge], E-1234567"},
		{"E-123456@example.com", "[email]"},
		{"", ""},
	} {
		got, n := everything.Text([]byte(tc.text))
		if string(got) != tc.want || n != strings.Count(tc.want, "[") {
			t.Errorf("%q became %q (%d found), want %q", tc.text, got, n, tc.want)
		}
	}
}

func TestJSONRedactsStringsOnly(t *testing.T) {
	for _, tc := range []struct{ value, want string }{
		{`{"a":"bob@example.com","n":4111111111111111}`, `{"a":"[email]","n":4111111111111111}`},
		{`["bob\u0040example.com","\nbob@example.com\t"]`, `["[email]","\n[email]\t"]`},
		{`{"arguments":"{\"to\":\"bob@example.com\"}"}`, `{"arguments":"{\"to\":\"[email]\"}"}`},
		{`{"bob@example.com": 1}`, `{"[email]": 1}`},
		{`["\ud83d\ude00 x", "\ud83d", "\\u0040", "\u0001\/"]`, "[\"\U0001F600 x\", \"\uFFFD\", \"\\\\u0040\", \"\\u0001/\"]"},
		{"[\n  1.50, true ,null]", "[\n  1.50, true ,null]"},
		{`["4111 1111","1111 1111"]`, `["4111 1111","1111 1111"]`},
	} {
		got, _ := everything.JSON([]byte(tc.value))
		if string(got) != tc.want {
			t.Errorf("%s became %s, want %s", tc.value, got, tc.want)
		}
	}
}

func TestWriterIgnoresChunkBorders(t *testing.T) {
	words := []string{
		"bob@example.com", "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00", "E-123456", "plain", "\n", `"quoted"`, `\`, "日本語", "12345",
		strings.Repeat("lorem ipsum ", 3000), strings.Repeat("x", 5000), "a@b",
	}
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfN(rapid.SampledFrom(words), 1, 12).Draw(t, "words"), " ")
		inJSON := rapid.Bool().Draw(t, "json")
		data := []byte(text)
		if inJSON {
			data, _ = json.Marshal(map[string]string{"content": text})
		}
		whole, count := everything.Text(data)
		if inJSON {
			whole, count = everything.JSON(data)
		}
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		var out bytes.Buffer
		w := everything.Writer(&out, inJSON)
		for rest := data; len(rest) > 0; {
			n := min(1+rng.IntN(9000), len(rest))
			if _, err := w.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(whole), out.String()); d != "" || w.Count() != count {
			t.Errorf("in pieces: %d found, not %d (-whole +pieces):\n%s", w.Count(), count, d)
		}
		if strings.Contains(out.String(), "bob@") || strings.Contains(out.String(), "4111") || strings.Contains(out.String(), "E-1") {
			t.Errorf("left over in %.200s", out.String())
		}
	})
}

func TestWriterNeedsBoundedMemory(t *testing.T) {
	pieces, longest := 0, 0
	w := everything.Writer(writes(func(p []byte) { pieces++; longest = max(longest, len(p)) }), true)
	chunk := []byte(strings.Repeat("QUJD", 4<<10))
	_, _ = w.Write([]byte(`{"image":"`))
	for range 20 << 20 / len(chunk) {
		_, _ = w.Write(chunk)
	}
	_, _ = w.Write([]byte(`"}`))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if longest > 256<<10 || pieces < 80 {
		t.Errorf("20 MB came in %d pieces of up to %d bytes", pieces, longest)
	}
}

type writes func([]byte)

func (f writes) Write(p []byte) (int, error) { f(p); return len(p), nil }

func FuzzJSONStaysValid(f *testing.F) {
	for _, seed := range []string{`{"a":["bob@example.com",1e5,"\ud800x","\u0000"]}`, `"\\\"@a.bc"`, `[4111111111111111,"4111111111111111"]`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		var before any
		if json.Unmarshal(value, &before) != nil {
			return
		}
		got, n := everything.JSON(value)
		var after any
		if err := json.Unmarshal(got, &after); err != nil {
			t.Fatalf("%q became %q: %v", value, got, err)
		}
		if n == 0 && !cmp.Equal(before, after) {
			t.Errorf("nothing was found in %q, and it became %q", value, got)
		}
	})
}

func BenchmarkJSON(b *testing.B) {
	value := []byte(`{"messages":[{"role":"user","content":"` + strings.Repeat("Some words, a number 1234 and more of it. ", 500) + `"}]}`)
	b.SetBytes(int64(len(value)))
	for b.Loop() {
		everything.JSON(value)
	}
}
