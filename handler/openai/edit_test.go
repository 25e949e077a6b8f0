package openai_test

import (
	"io"
	"strings"
	"testing"

	"aoaigateway/handler/body"
	"aoaigateway/handler/body/bodytest"
	"aoaigateway/handler/openai"
)

// edited returns a chat request after the edits that edit returns for it.
func edited(t *testing.T, in string, edit func(r *openai.Request) []body.Edit) string {
	t.Helper()
	b := bodytest.Of([]byte(in))
	r, err := openai.ParseRequest(openai.Chat, b)
	if err != nil {
		t.Fatalf("%s: %v", in, err)
	}
	out := b.With(edit(&r)...)
	got, err := io.ReadAll(out.Reader())
	if err != nil || int64(len(got)) != out.Size() {
		t.Fatalf("%s: %q, %v; announced %d bytes", in, got, err, out.Size())
	}
	return string(got)
}

func withModel(r *openai.Request) []body.Edit { return []body.Edit{r.WithModel("b")} }

func withUsage(r *openai.Request) []body.Edit {
	edit, ok := r.WithUsage()
	if !ok {
		return nil
	}
	return []body.Edit{edit}
}

func withMost(r *openai.Request) []body.Edit {
	edit, _ := r.WithMaxOutput(openai.Chat, 9)
	return []body.Edit{edit}
}

func withAll(r *openai.Request) []body.Edit {
	return append(append(withMost(r), withUsage(r)...), withModel(r)...)
}

func TestEditsKeepOtherBytes(t *testing.T) {
	in := `{ "big":12345678901234567890,  "model" : "a","stream":true }`
	if got := edited(t, in, withModel); got != strings.Replace(in, `"a"`, `"b"`, 1) {
		t.Error(got)
	}
	for _, c := range [][2]string{
		{`{"stream":true}`, `{"stream":true,"stream_options":{"include_usage":true}}`},
		{`{"stream":true } `, `{"stream":true,"stream_options":{"include_usage":true} } `},
		{`{"stream_options":null}`, `{"stream_options":{"include_usage":true}}`},
		{`{"stream_options":{}}`, `{"stream_options":{"include_usage":true}}`},
		{`{"stream_options":{"y":[1] }}`, `{"stream_options":{"y":[1],"include_usage":true }}`},
		{`{"stream_options":{"include_usage":false,"x":1}}`, `{"stream_options":{"include_usage":true,"x":1}}`},
		{`{"stream_options":{"include_usage":{"a":[]},"x":1}}`, `{"stream_options":{"include_usage":true,"x":1}}`},
		{`{"stream_options":{"x":{"include_usage":false}}}`, `{"stream_options":{"x":{"include_usage":false},"include_usage":true}}`},
		{`{"stream_options":7}`, `{"stream_options":7}`},
		{`{"stream\u005foptions":{"include_usage":false}}`, `{"stream\u005foptions":{"include_usage":true}}`},
	} {
		if got := edited(t, c[0], withUsage); got != c[1] {
			t.Errorf("%s; want %s", got, c[1])
		}
	}
	for _, c := range [][2]string{
		{`{}`, `{"max_completion_tokens":9}`},
		{` { "max_completion_tokens" : null, "x":1}`, ` { "max_completion_tokens" : 9, "x":1}`},
		{`{"a":[1]}`, `{"a":[1],"max_completion_tokens":9}`},
	} {
		if got := edited(t, c[0], withMost); got != c[1] {
			t.Errorf("%s; want %s", got, c[1])
		}
	}
	got := edited(t, `{"mod\u0065l":"a","stream":true}`, withAll)
	want := `{"mod\u0065l":"b","stream":true,"max_completion_tokens":9,"stream_options":{"include_usage":true}}`
	if got != want {
		t.Errorf("%s; want %s", got, want)
	}
}
