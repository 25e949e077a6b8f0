package policy_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"aoaigateway/handler/policy"
)

// product wraps the body of one product in a file that has no other fault; the body's
// first line is line 4.
func product(body string) string {
	return "version: 1\nproducts:\n  a:\n" + body + "\n"
}

type mistakes map[string]struct {
	text string
	want []string // "line:column: text", in order
}

func (m mistakes) check(t *testing.T) {
	for name, tc := range m {
		t.Run(name, func(t *testing.T) {
			_, err := policy.Parse("p", []byte(tc.text))
			if err == nil {
				t.Fatal("no mistake found")
			}
			want := "p:" + strings.Join(tc.want, "\np:")
			if diff := cmp.Diff(want, err.Error()); diff != "" {
				t.Errorf("mistakes (-want +got):\n%s", diff)
			}
		})
	}
}

// Mistakes in the file name their place and the remedy.
func TestParseReportsFileMistakes(t *testing.T) { fileMistakes.check(t) }

var fileMistakes = mistakes{
	"empty file":    {"", []string{"1:1: the file is empty; it needs version and products"}},
	"comment only":  {"# nothing", []string{"1:1: the file is empty; it needs version and products"}},
	"no YAML":       {"version: 1\nproducts: [\n", []string{"2:1: this is not valid YAML: did not find expected node content"}},
	"a tab":         {"version: 1\n\tproducts: 1", []string{"2:1: this is not valid YAML: found a tab character that violates indentation"}},
	"two documents": {whole + "---\nversion: 1\n", []string{"22:1: a second document begins here; a file must have only one policy"}},
	"a list": {"- 1", []string{
		"1:1: policy: is a list; it must be a mapping of keys currency, models, patterns, priceVersion, products, version",
	}},
	"nothing in it": {"version: 1", []string{"1:1: policy: products is missing"}},
	"no product":    {"version: 1\nproducts: {}", []string{"2:11: products: there is no product; add at least one, such as default"}},
	"version":       {"version: 2\nproducts: {a: {}}", []string{"1:10: version: 2 is not supported; this gateway reads version 1"}},
	"version as text": {`version: "1"` + "\nproducts: {a: {}}", []string{
		`1:10: version: is the text "1"; it must be a whole number from 0 to 10000000000000`,
	}},
	"all at once": {"version: 3\nproducts:\n  a: {limitz: []}\n  b: {models: [x, x]}\nfoo: 1", []string{
		"1:10: version: 3 is not supported; this gateway reads version 1",
		`3:7: products.a: unknown key "limitz"; did you mean limits?`,
		`4:19: products.b.models[1]: "x" occurs twice; remove one`,
		`5:1: policy: unknown key "foo"; known here: currency, models, patterns, priceVersion, products, version`,
	}},
}

// Mistakes in products name their place and the remedy.
func TestParseReportsProductMistakes(t *testing.T) { productMistakes.check(t) }

var productMistakes = mistakes{
	"unknown key, near": {product("    maxOutputToken: 4"), []string{
		`4:5: products.a: unknown key "maxOutputToken"; did you mean maxOutputTokens?`,
	}},
	"unknown key, case": {product("    Limits: []"), []string{`4:5: products.a: unknown key "Limits"; did you mean limits?`}},
	"unknown key, far": {product("    colour: red"), []string{
		`4:5: products.a: unknown key "colour"; known here: description, limits, log, maxOutputTokens, models, redact`,
	}},
	"duplicate key": {product("    models: [a]\n    models: [b]"), []string{
		`5:5: products.a: key "models" occurs twice, first in line 4; keep one`,
	}},
	"duplicate product": {"version: 1\nproducts:\n  a: {}\n  a: {}", []string{
		`4:3: products: key "a" occurs twice, first in line 3; keep one`,
	}},
	"product's name": {"version: 1\nproducts:\n  a/b: {}", []string{
		`3:3: products: "a/b" is not a valid name; use up to 64 letters, digits, dots, dashes and underscores`,
	}},
	"number as name": {"version: 1\nproducts:\n  7: {}", []string{`3:3: products: a key is 7; it must be text, so put it in quotes`}},
	"empty product": {"version: 1\nproducts:\n  a:\n", []string{
		"3:5: products.a: is empty; it must be a mapping of keys description, limits, log, maxOutputTokens, models, redact",
	}},
	"description": {product("    description: 5"), []string{
		"4:18: products.a.description: is 5; it must be text, in quotes if necessary",
	}},
	"models as text": {product(`    models: "*"`), []string{
		`4:13: products.a.models: is the text "*"; write ["*"] for all models, or deployment names`,
	}},
	"no model": {product("    models: []"), []string{
		`4:13: products.a.models: allows no model; write ["*"] for all models, or deployment names`,
	}},
	"pattern": {product(`    models: ["gpt*"]`), []string{
		`4:14: products.a.models[0]: "gpt*" is not a deployment name; write ["*"] for all models, or deployment names`,
	}},
	"star and more": {product(`    models: [b, "*"]`), []string{
		`4:17: products.a.models[1]: "*" already allows all models; remove it or the others`,
	}},
	"model twice": {product("    models: [b, B]"), []string{`4:17: products.a.models[1]: "B" occurs twice; remove one`}},
	"undeclared model": {"version: 1\nmodels: {gpt-4.1: {}}\nproducts: {a: {models: [gpt-41]}}", []string{
		`3:25: products.a.models[0]: model "gpt-41" is not declared under models; did you mean gpt-4.1?`,
	}},
	"model twice by case": {"version: 1\nmodels:\n  b: {}\n  B: {}\nproducts: {a: {}}", []string{
		"4:6: models.B: is declared twice; Azure ignores the case of names",
	}},
	"timeout": {"version: 1\nmodels: {m: {firstByteTimeout: 90}}\nproducts: {a: {}}", []string{
		"2:32: models.m.firstByteTimeout: is 90; it must be a time from 1s to 10m0s, such as 90s",
	}},
}
