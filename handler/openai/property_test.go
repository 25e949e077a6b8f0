package openai_test

import (
	"bytes"
	"encoding/json"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"aoaigateway/handler/body"
	"aoaigateway/handler/body/bodytest"
	"aoaigateway/handler/openai"
)

// members are what a request's body may contain.
var members = map[string][]string{
	`"model"`:       {`"a"`, `"\u0061"`, `"ü𝄞\ud834\udd1e"`, `7`, `null`, `"` + strings.Repeat("m", 3000) + `"`},
	`"str\u0065am"`: {`true`, `false`, `"true"`, `null`},
	`"stream_options"`: {
		`null`, `{}`, ` { "x" : [1] } `, `{"include_usage":true}`, `{"x":{"include_usage":true},"include_usage" : false }`, `5`,
	},
	`"max_tokens"`:            {`5`, `5.5`, `-1`, `0`, `1e999`, `null`, `"5"`, strings.Repeat("9", 2000)},
	`"max_completion_tokens"`: {`7`, `null`, `{}`},
	`"n"`:                     {`2`, `0`, `[2]`},
	`"best_of"`:               {`3`, `1e400`},
	`"user"`:                  {`"u"`, `""`, `[]`},
	`"safety_identifier"`:     {`"s"`, `""`},
	`"store"`:                 {`false`, `true`},
	`"background"`:            {`true`, `1`},
	`"previous_response_id"`:  {`"resp_1"`, `null`},
	`"messages"`:              {`[]`, `[{"role":"user","content":"hi"},{}]`, `"text"`, `{"a":[[],{}]}`},
	`"input"`:                 {`["a","b"]`, `"a"`, `[[1,2],[3]]`},
	`"prompt"`:                {`[1,2,3]`, `["a","b"]`, `"p"`},
	`"other"`:                 {`{"model":"inner","stream":true}`, `[[[[{"max_tokens":1}]]]]`, `"\"model\":"`},
}

// drawBody draws a request's body.
func drawBody(t *rapid.T) string {
	var names []string
	for name := range members {
		names = append(names, name)
	}
	slices.Sort(names)
	space := rapid.SampledFrom([]string{"", " ", "\n\t"})
	var parts []string
	for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, 8, rapid.ID[string]).Draw(t, "names") {
		value := rapid.SampledFrom(members[name]).Draw(t, "value")
		parts = append(parts, space.Draw(t, "space")+name+space.Draw(t, "space")+":"+value)
	}
	return space.Draw(t, "space") + "{" + strings.Join(parts, ",") + space.Draw(t, "space") + "}" + space.Draw(t, "space")
}

// decode is what package json reads in a body. Numbers keep their digits.
func decode(t *rapid.T, text string) (fields map[string]any) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&fields); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return fields
}

func TestParseRequestLikePackageJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := drawBody(t)
		r, err := openai.ParseRequest(openai.Chat, bodytest.Of([]byte(text)))
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		fields := decode(t, text)
		model, _ := fields["model"].(string)
		user, _ := fields["user"].(string)
		if id, _ := fields["safety_identifier"].(string); id != "" {
			user = id
		}
		previous, _ := fields["previous_response_id"].(string)
		options, _ := fields["stream_options"].(map[string]any)
		if !strings.HasPrefix(model, r.Model) || len(model) <= 1000 && r.Model != model || r.EndUser != user || r.Previous != previous ||
			r.Stream != (fields["stream"] == true) || r.Background != (fields["background"] == true) || r.Unstored != (fields["store"] == false) ||
			r.IncludeUsage != (options["include_usage"] == true) {
			t.Fatalf("%q is read as %+v", text, r)
		}
		if list, ok := fields["messages"].([]any); ok && fields["input"] == nil && r.Messages != max(1, int64(len(list))) {
			t.Fatalf("%q has %d messages", text, r.Messages)
		}
	})
}

// After the edits the body has the edited members, all others are as before, and no name
// stands there twice.
func TestEditsLikePackageJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := drawBody(t)
		b := bodytest.Of([]byte(text))
		r, err := openai.ParseRequest(openai.Chat, b)
		if err != nil {
			t.Fatal(err)
		}
		want, edits := decode(t, text), []body.Edit{}
		if rapid.Bool().Draw(t, "cap") {
			edit, _ := r.WithMaxOutput(openai.Chat, 9)
			edits, want["max_completion_tokens"] = append(edits, edit), json.Number("9")
		}
		if rapid.Bool().Draw(t, "usage") {
			if edit, ok := r.WithUsage(); ok {
				options, _ := want["stream_options"].(map[string]any)
				if options == nil {
					options = map[string]any{}
				}
				options["include_usage"], want["stream_options"] = true, options
				edits = append(edits, edit)
			}
		}
		if _, named := want["model"]; named && rapid.Bool().Draw(t, "model") {
			edits, want["model"] = append(edits, r.WithModel(`de"ployment`)), `de"ployment`
		}
		got, err := io.ReadAll(b.With(edits...).Reader())
		if err != nil || !reflect.DeepEqual(decode(t, string(got)), want) {
			t.Fatalf("%q becomes %q", text, got)
		}
		if _, err := openai.ParseRequest(openai.Chat, bodytest.Of(got)); err != nil {
			t.Fatalf("%q becomes %q: %v", text, got, err)
		}
		if len(edits) == 0 && !bytes.Equal(got, []byte(text)) {
			t.Fatalf("%q becomes %q without edits", text, got)
		}
	})
}
