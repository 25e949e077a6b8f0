package jsonscan_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"

	"aoaigateway/handler/jsonscan"
)

// scan returns all tokens of a text in one line each, and the error.
func scan(s *jsonscan.Scanner) (tokens []string, err error) {
	for {
		t, err := s.Next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return tokens, nil
			}
			return tokens, err
		}
		tokens = append(tokens, fmt.Sprintf("%c %v %d %d-%d %q %v", t.Kind, t.IsName, t.Depth, t.Start, t.End, t.Text, t.Hides))
	}
}

// reference scans the text with package jsontext.
func reference(text []byte) (tokens int, err error) {
	d := jsontext.NewDecoder(bytes.NewReader(text))
	for {
		_, err := d.ReadToken()
		if errors.Is(err, io.EOF) {
			return tokens, nil
		}
		if err != nil {
			return tokens, err
		}
		tokens++
	}
}

// place is where and why a text is refused.
type place struct {
	offset  int64
	pointer string
	twice   bool
}

func placeOf(t *rapid.T, err error) (p place) {
	switch e := err.(type) { //nolint:errorlint // both parsers return them unwrapped
	case *jsontext.SyntacticError:
		return place{e.ByteOffset, string(e.JSONPointer), errors.Is(e, jsontext.ErrDuplicateName)}
	case *jsonscan.Error:
		return place{e.Offset, e.Pointer, e.Mistake == jsonscan.DuplicateName}
	}
	t.Fatalf("error %T %v", err, err)
	return p
}

// compare checks that the scanner accepts exactly the objects that package json accepts, and
// refuses other text at the same place, however the text arrives.
func compare(t *rapid.T, text []byte) {
	var fields struct {
		X jsontext.Value `json:"x"`
	}
	want := json.Unmarshal(text, &fields)
	tokens, err := scan(jsonscan.NewBytes(text, 1<<10))
	for name, r := range map[string]io.Reader{"reader": bytes.NewReader(text), "bytes": iotest.OneByteReader(bytes.NewReader(text))} {
		again, err2 := scan(jsonscan.New(r, 1<<10))
		if fmt.Sprint(err) != fmt.Sprint(err2) || strings.Join(tokens, "\n") != strings.Join(again, "\n") {
			t.Fatalf("%q as %s: %v, %v", text, name, err, err2)
		}
	}
	if _, ok := errors.AsType[*json.SemanticError](want); ok { // it is no object, and was not read to its end
		return
	}
	if (want == nil) != (err == nil) {
		t.Fatalf("%q: %v, want %v", text, err, want)
	}
	if want == nil {
		if n, _ := reference(text); n != len(tokens) {
			t.Fatalf("%q: %d tokens, want %d", text, len(tokens), n)
		}
		return
	}
	got, expected := placeOf(t, err), placeOf(t, want)
	if same := got.pointer == "" || expected.pointer == got.pointer; same && int(got.offset) < len(text) && text[got.offset] != '"' &&
		expected.offset >= got.offset {
		expected = got // where a name must be, package json may read a value of another kind first
	}
	if int(got.offset) < len(text) && strings.IndexByte("]},:", text[got.offset]) >= 0 && expected.offset <= got.offset {
		// Where punctuation stands for a value, package json may name the comma before it and the
		// value around it.
		expected = got
	}
	if got != expected {
		t.Fatalf("%q is refused at %+v, want %+v", text, got, expected)
	}
}

// pieces are parts of which texts are made, valid and invalid.
var pieces = []string{
	"{", "}", "[", "]", ",", ":", "\"", "\\", " ", "\n", "\t", "\ufeff", "\xff", "\xc3", "ü", "𝄞", "\x00", "\x7f",
	`"a"`, `"b"`, `"x"`, `"\u0061"`, `"\ud834\udd1e"`, `"\ud834"`, `"\udd1e\ud834"`, `"\ud834\u0061"`, `"\uD8`, `"\/"`, `"\x"`, `"𝄞"`,
	`"a":1`, `"a":{"a":[`, `{"x":[{"a":1,"b":[]}]}`, `{"a":1,"\u0061":2}`, `[[[[`, `{"a/~b":{"c":[1,2,`,
	"1", "-1", "0", "01", "1.5e+9", "1.", "-",
	"1e", "1e999", "12345678901234567890", "true", "false", "null", "tru", "nulL", `""`, `"a`, `{"":{}}`, `"\"`,
}

func TestScannerLikePackageJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := []byte(strings.Join(rapid.SliceOfN(rapid.SampledFrom(pieces), 0, 12).Draw(t, "pieces"), ""))
		if rapid.Bool().Draw(t, "object") {
			text = append([]byte(`{"x":`), text...)
		}
		compare(t, text)
	})
}

// valid draws a JSON value.
func valid(depth int) *rapid.Generator[string] {
	space := rapid.SampledFrom([]string{"", "", " ", "\n", "\t\r\n "})
	name := rapid.SampledFrom([]string{`"a"`, `"b"`, `"\u0063"`, `"d/~"`, `"ü"`, `"𝄞"`, `"\ud834\udd1e"`, `""`})
	return rapid.Custom(func(t *rapid.T) string {
		kinds := 4
		if depth == 0 {
			kinds = 2
		}
		sp := space.Draw(t, "space")
		switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
		case 0:
			return sp + rapid.SampledFrom([]string{"1", "-0.5e-3", "true", "false", "null", "1e400"}).Draw(t, "scalar") + sp
		case 1:
			return sp + rapid.SampledFrom([]string{`"text"`, `"\n\u00e9 ü"`, `"\\\""`, `"` + strings.Repeat("long ", 500) + `"`}).Draw(t, "string")
		case 2:
			return "[" + sp + strings.Join(rapid.SliceOfN(valid(depth-1), 0, 4).Draw(t, "elements"), ",") + "]" + sp
		}
		var members []string
		for _, n := range rapid.SliceOfNDistinct(name, 0, 5, rapid.ID[string]).Draw(t, "names") {
			members = append(members, sp+n+sp+":"+valid(depth-1).Draw(t, "value"))
		}
		return "{" + strings.Join(members, ",") + "}"
	})
}

// A valid object is accepted; cut off or with one byte changed, it is refused where package
// json refuses it.
func TestScannerOfDamagedObjects(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := []byte(`{"x":` + valid(4).Draw(t, "value") + `}`)
		compare(t, text)
		at := rapid.IntRange(0, len(text)-1).Draw(t, "at")
		compare(t, text[:at])
		damaged := bytes.Clone(text)
		damaged[at] = rapid.SampledFrom([]byte("\"\\{}[],: a0u\xff")).Draw(t, "byte")
		compare(t, damaged)
	})
}

func FuzzScanner(f *testing.F) {
	f.Add([]byte(`{"x":[{"a":1,"\u0061":"\ud834\udd1e"}]}`))
	for _, p := range pieces {
		f.Add([]byte(`{"x":` + p))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		_, err := scan(jsonscan.NewBytes(text, 1<<10))
		_, err2 := scan(jsonscan.New(iotest.OneByteReader(bytes.NewReader(text)), 1<<10))
		if valid := jsontext.Value(text).IsValid(); valid != (err == nil) || fmt.Sprint(err) != fmt.Sprint(err2) {
			t.Fatalf("%q: %v, %v, valid %v", text, err, err2, valid)
		}
	})
}

func TestScannerLimits(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	members := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `"%d":0,`, i)
		}
		return b.String()
	}
	for name, c := range map[string]struct {
		text string
		ok   bool
		what jsonscan.Mistake
	}{
		"deep":           {deep(10_000), true, 0},
		"too deep":       {deep(10_001), false, jsonscan.Syntax},
		"many names":     {`{"x":[{` + members(60_000) + `"y":0}, {` + members(60_000) + `"y":0}]}`, true, 0},
		"too many names": {`{"x":{` + members(1<<16) + `"y":0}}`, false, jsonscan.TooManyNames},
		"late duplicate": {`{"x":{` + members(60_000) + `"1":0}}`, false, jsonscan.DuplicateName},
		"long names":     {`{"` + strings.Repeat("n", 1<<20) + `1":0,"` + strings.Repeat("n", 1<<20) + `2":0}`, true, 0},
		"long, twice": {
			`{"` + strings.Repeat("n", 1<<20) + `":0,"\u006e` + strings.Repeat("n", 1<<20-1) + `":0}`, false, jsonscan.DuplicateName,
		},
	} {
		_, err := scan(jsonscan.New(strings.NewReader(c.text), 100))
		e, failed := errors.AsType[*jsonscan.Error](err)
		if failed == c.ok || failed && e.Mistake != c.what {
			t.Errorf("%s: %v", name, err)
		}
	}
}
