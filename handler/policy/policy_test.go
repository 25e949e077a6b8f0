package policy_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"aoaigateway/handler/policy"
)

const whole = `
version: 1
currency: USD
priceVersion: 2027-01-15
models:
  gpt-4.1:
    {contextWindow: 1047576, firstByteTimeout: 90s, price: {input: 2.00, cachedInput: 0.5, output: 8}, regions: {swedencentral: {priority: 2}}}
  embed:
products:
  default:
    description: all
    models: ["*"]
    maxOutputTokens: 4096
    limits:
      - {name: tpm, tokens: 100000, per: minute}
      - {tokens: 50000000, per: month, hard: true}
      - {requests: 600, per: minute, by: user}
      - {concurrent: 20, by: user, hard: true}
  small: {models: [GPT-4.1], log: none, limits: [{cost: 0.075, per: day}]}
  open: {}
`

func parse(t *testing.T, text string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse("p.yaml", []byte(text))
	if err != nil {
		t.Fatalf("Parse:\n%v", err)
	}
	return p
}

// A whole file is read with its defaults.
func TestParseReadsWholeFile(t *testing.T) {
	p := parse(t, whole)
	got, _ := p.Product("default")
	want := policy.Product{
		Name: "default", Description: "all", Models: []string{"*"}, MaxOutputTokens: 4096, Log: policy.LogFull,
		Limits: []policy.Limit{
			{Name: "tpm", Unit: policy.Tokens, Amount: 100000, Per: policy.Minute, By: policy.BySubscription},
			{Name: "tokens-per-month", Unit: policy.Tokens, Amount: 50000000, Per: policy.Month, By: policy.BySubscription, Hard: true},
			{Name: "requests-per-minute-by-user", Unit: policy.Requests, Amount: 600, Per: policy.Minute, By: policy.ByUser},
			{Name: "concurrent-by-user", Unit: policy.Concurrent, Amount: 20, By: policy.ByUser, Hard: true},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("default (-want +got):\n%s", diff)
	}
	small, _ := p.Product("small")
	budget := []policy.Limit{{Name: "cost-per-day", Unit: policy.Cost, Amount: 75_000, Per: policy.Day, By: policy.BySubscription}}
	if diff := cmp.Diff(budget, small.Limits); diff != "" || small.Log != policy.LogNone {
		t.Errorf("small logs %q (-want +got):\n%s", small.Log, diff)
	}
	m, _ := p.Model("GPT-4.1")
	wantModel := policy.Model{
		Name: "gpt-4.1", ContextWindow: 1047576, FirstByteTimeout: 90 * time.Second, Priced: true,
		Price:   policy.Price{Input: 2_000_000, CachedInput: 500_000, Output: 8_000_000},
		Regions: map[string]policy.Route{"swedencentral": {Priority: 2}},
	}
	if diff := cmp.Diff(wantModel, m); diff != "" {
		t.Errorf("Model (-want +got):\n%s", diff)
	}
	if models := p.Models(); len(models) != 2 || models[0].Name != "embed" || models[0].Priced || p.Currency() != "USD" {
		t.Errorf("Models: %+v, currency %q", models, p.Currency())
	}
	if _, ok := p.Product("none"); ok {
		t.Error("an unknown product was found")
	}
	var names []string
	for _, product := range p.Products() {
		names = append(names, product.Name)
	}
	if diff := cmp.Diff([]string{"default", "open", "small"}, names); diff != "" {
		t.Errorf("Products (-want +got):\n%s", diff)
	}
}

// A product allows the models it names.
func TestProductAllows(t *testing.T) {
	p := parse(t, whole)
	for _, tc := range []struct {
		product, model string
		want           bool
	}{
		{"default", "anything", true},
		{"open", "anything", true},
		{"small", "gpt-4.1", true},
		{"small", "Gpt-4.1", true},
		{"small", "embed", false},
		{"small", "", false},
	} {
		product, _ := p.Product(tc.product)
		if got := product.Allows(tc.model); got != tc.want {
			t.Errorf("%s allows %q: %v, want %v", tc.product, tc.model, got, tc.want)
		}
	}
}

// HardTokens is about hard limits on tokens and their cost.
func TestHardTokens(t *testing.T) {
	p := parse(t, `
version: 1
products:
  soft: {limits: [{tokens: 5, per: day}]}
  calls: {limits: [{requests: 5, per: day, hard: true}]}
  hard: {maxOutputTokens: 4, limits: [{requests: 5, per: day}, {tokens: 5, per: day, hard: true}]}
  spend: {limits: [{cost: 5, per: day}]}
  budget: {maxOutputTokens: 4, limits: [{cost: 5, per: day, hard: true}, {concurrent: 4, hard: true}]}
currency: EUR
`)
	for name, want := range map[string]struct{ hard, cost bool }{
		"soft": {}, "calls": {}, "hard": {hard: true}, "spend": {cost: true}, "budget": {true, true},
	} {
		product, _ := p.Product(name)
		if product.HardTokens() != want.hard || product.LimitsCost() != want.cost {
			t.Errorf("%s: HardTokens is %v, LimitsCost %v", name, product.HardTokens(), product.LimitsCost())
		}
	}
}

// The shipped policy is good and names no model.
func TestShippedPolicyIsValid(t *testing.T) {
	data, err := os.ReadFile("../../infra/policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Parse("policy.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"default", "unlimited"} {
		product, ok := p.Product(name)
		if !ok || !product.Allows("any-model") || product.HardTokens() {
			t.Errorf("product %s: %+v, %v", name, product, ok)
		}
		if (name == "unlimited") != (len(product.Limits) == 0) {
			t.Errorf("product %s has %d limits", name, len(product.Limits))
		}
	}
}

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
func TestParseReportsFileMistakes(t *testing.T) {
	mistakes{
		"empty file":      {"", []string{"1:1: the file is empty; it needs version and products"}},
		"comment only":    {"# nothing", []string{"1:1: the file is empty; it needs version and products"}},
		"no YAML":         {"version: 1\nproducts: [\n", []string{"2:1: no valid YAML: did not find expected node content"}},
		"a tab":           {"version: 1\n\tproducts: 1", []string{"2:1: no valid YAML: found a tab character that violates indentation"}},
		"two documents":   {whole + "---\nversion: 1\n", []string{"21:1: a second document; one file holds one policy"}},
		"a list":          {"- 1", []string{"1:1: policy: is a list; it must be a mapping of keys currency, models, patterns, priceVersion, products, version"}},
		"nothing in it":   {"version: 1", []string{"1:1: policy: products is missing"}},
		"no product":      {"version: 1\nproducts: {}", []string{"2:11: products: no product; name at least one, such as default"}},
		"version":         {"version: 2\nproducts: {a: {}}", []string{"1:10: version: 2 is not known; this gateway reads version 1"}},
		"version as text": {`version: "1"` + "\nproducts: {a: {}}", []string{`1:10: version: is the text "1"; it must be a whole number from 0 to 10000000000000`}},
		"all at once": {"version: 3\nproducts:\n  a: {limitz: []}\n  b: {models: [x, x]}\nfoo: 1", []string{
			"1:10: version: 3 is not known; this gateway reads version 1",
			`3:7: products.a: unknown key "limitz"; did you mean limits?`,
			`4:19: products.b.models[1]: "x" is named twice; drop one`,
			`5:1: policy: unknown key "foo"; known here: currency, models, patterns, priceVersion, products, version`,
		}},
	}.check(t)
}

// Mistakes in products name their place and the remedy.
func TestParseReportsProductMistakes(t *testing.T) {
	mistakes{
		"unknown key, near": {product("    maxOutputToken: 4"), []string{
			`4:5: products.a: unknown key "maxOutputToken"; did you mean maxOutputTokens?`,
		}},
		"unknown key, case": {product("    Limits: []"), []string{`4:5: products.a: unknown key "Limits"; did you mean limits?`}},
		"unknown key, far": {product("    colour: red"), []string{
			`4:5: products.a: unknown key "colour"; known here: description, limits, log, maxOutputTokens, models, redact`,
		}},
		"duplicate key": {product("    models: [a]\n    models: [b]"), []string{
			`5:5: products.a: key "models" stands twice, first in line 4; keep one`,
		}},
		"duplicate product": {"version: 1\nproducts:\n  a: {}\n  a: {}", []string{`4:3: products: key "a" stands twice, first in line 3; keep one`}},
		"product's name":    {"version: 1\nproducts:\n  a/b: {}", []string{`3:3: products: "a/b" is no name; use up to 64 letters, digits, dots, dashes and underscores`}},
		"number as name":    {"version: 1\nproducts:\n  7: {}", []string{`3:3: products: a key is 7; it must be text, so put it in quotes`}},
		"empty product":     {"version: 1\nproducts:\n  a:\n", []string{"3:5: products.a: is empty; it must be a mapping of keys description, limits, log, maxOutputTokens, models, redact"}},
		"description":       {product("    description: 5"), []string{"4:18: products.a.description: is 5; it must be text, in quotes if need be"}},
		"models as text":    {product(`    models: "*"`), []string{`4:13: products.a.models: is the text "*"; write ["*"] for all models, or deployment names`}},
		"no model":          {product("    models: []"), []string{`4:13: products.a.models: allows no model; write ["*"] for all models, or deployment names`}},
		"pattern":           {product(`    models: ["gpt*"]`), []string{`4:14: products.a.models[0]: "gpt*" is no deployment name; write ["*"] for all models, or deployment names`}},
		"star and more":     {product(`    models: [b, "*"]`), []string{`4:17: products.a.models[1]: "*" allows all models already; drop it or the others`}},
		"model twice":       {product("    models: [b, B]"), []string{`4:17: products.a.models[1]: "B" is named twice; drop one`}},
		"undeclared model": {"version: 1\nmodels: {gpt-4.1: {}}\nproducts: {a: {models: [gpt-41]}}", []string{
			`3:25: products.a.models[0]: model "gpt-41" is not declared under models; did you mean gpt-4.1?`,
		}},
		"model twice by case": {"version: 1\nmodels:\n  b: {}\n  B: {}\nproducts: {a: {}}", []string{"4:6: models.B: is declared twice; Azure does not tell names apart by case"}},
		"timeout":             {"version: 1\nmodels: {m: {firstByteTimeout: 90}}\nproducts: {a: {}}", []string{"2:32: models.m.firstByteTimeout: is 90; it must be a time from 1s to 10m0s, such as 90s"}},
	}.check(t)
}

// Mistakes in limits name their place and the remedy.
func TestParseReportsLimitMistakes(t *testing.T) {
	mistakes{
		"limits as mapping":  {product("    limits: {tokens: 5, per: day}"), []string{"4:13: products.a.limits: is a mapping; write a list such as [{tokens: 100000, per: minute}]"}},
		"limit without unit": {product("    limits: [{per: day}]"), []string{"4:14: products.a.limits[0]: says not what it counts; add tokens: N, requests: N, cost: N or concurrent: N"}},
		"limit without per":  {product("    limits: [{tokens: 5}]"), []string{"4:14: products.a.limits[0]: per is missing"}},
		"two units":          {product("    limits: [{tokens: 5, requests: 5, per: day}]"), []string{"4:36: products.a.limits[0]: counts tokens and requests; write two limits"}},
		"zero":               {product("    limits: [{tokens: 0, per: day}]"), []string{"4:23: products.a.limits[0].tokens: 0 is out of range; it must be a whole number from 1 to 10000000000000"}},
		"negative":           {product("    limits: [{tokens: -5, per: day}]"), []string{"4:23: products.a.limits[0].tokens: -5 is out of range; it must be a whole number from 1 to 10000000000000"}},
		"overflow":           {product("    limits: [{tokens: 9223372036854775807, per: day}]"), []string{"4:23: products.a.limits[0].tokens: 9223372036854775807 is out of range; it must be a whole number from 1 to 10000000000000"}},
		"fraction":           {product("    limits: [{tokens: 1e6, per: day}]"), []string{"4:23: products.a.limits[0].tokens: is 1e6; it must be a whole number from 1 to 10000000000000"}},
		"per":                {product("    limits: [{tokens: 5, per: minutes}]"), []string{`4:31: products.a.limits[0].per: "minutes" is not known; did you mean minute?`}},
		"by":                 {product("    limits: [{tokens: 5, per: day, by: country}]"), []string{`4:40: products.a.limits[0].by: "country" is not known; known here: subscription, user, product, model, ip`}},
		"hard":               {product("    limits: [{requests: 5, per: day, hard: yes}]"), []string{`4:44: products.a.limits[0].hard: is the text "yes"; it must be true or false`}},
		"same limit twice": {product("    limits:\n    - {tokens: 5, per: day}\n    - {name: b, tokens: 6, per: day}"), []string{
			"6:7: products.a.limits[1]: counts the same as limit tokens-per-day; keep the smaller one",
		}},
		"same name twice": {product("    limits:\n    - {tokens: 5, per: day}\n    - {name: tokens-per-day, tokens: 6, per: hour}"), []string{
			"6:7: products.a.limits[1]: two limits are called tokens-per-day; give one another name",
		}},
		"hard without a bound": {product("    limits: [{tokens: 5, per: day, hard: true}]"), []string{
			"4:14: products.a.limits[0]: is hard, but a request that names no output cap has no bound; add maxOutputTokens to the product (it is put into such requests), or drop hard",
		}},
		"hard and too small": {product("    maxOutputTokens: 10\n    limits: [{tokens: 10, per: day, hard: true}]"), []string{
			"5:14: products.a.limits[0]: is hard and smaller than one answer may be (maxOutputTokens 10); lower maxOutputTokens or raise the limit",
		}},
	}.check(t)
}

// priced wraps a model's price and a product's limits in a file that has no other fault;
// the price stands in line 4, the limits in line 6.
func priced(price, limits string) string {
	return "version: 1\ncurrency: USD\nmodels:\n  m: {" + price + "}\nproducts:\n  a: {" + limits + "}\n"
}

// Mistakes about money name their place and the remedy.
func TestParseReportsMoneyMistakes(t *testing.T) {
	const good = "price: {input: 2, output: 8}"
	const amount = "; it must be an amount such as 2 or 0.075, with up to 7 digits before the point and 6 after it"
	mistakes{
		"no output":         {priced("price: {input: 2}", ""), []string{"4:14: models.m.price: output is missing"}},
		"text":              {priced(`price: {input: "2", output: 8}`, ""), []string{`4:22: models.m.price.input: is the text "2"` + amount}},
		"negative":          {priced("price: {input: -2, output: 8}", ""), []string{"4:22: models.m.price.input: is -2" + amount}},
		"exponent":          {priced("price: {input: 2e3, output: 8}", ""), []string{"4:22: models.m.price.input: is 2e3" + amount}},
		"infinite":          {priced("price: {input: .inf, output: 8}", ""), []string{"4:22: models.m.price.input: is .inf" + amount}},
		"too fine":          {priced("price: {input: 0.0000001, output: 8}", ""), []string{"4:22: models.m.price.input: is 0.0000001" + amount}},
		"too much":          {priced("price: {input: 12345678, output: 8}", ""), []string{"4:22: models.m.price.input: is 12345678" + amount}},
		"dear cache":        {priced("price: {input: 2, cachedInput: 2.1, output: 8}", ""), []string{"4:38: models.m.price.cachedInput: is more than input; what is held before a request counts none as cached"}},
		"unknown key":       {priced("price: {input: 2, cached: 1, output: 8}", ""), []string{`4:25: models.m.price: unknown key "cached"; known here: cachedInput, input, output`}},
		"unpriced":          {priced("", "limits: [{cost: 5, per: day}]"), []string{"6:16: products.a.limits[0]: limits cost, but the model m has no price; add price to it under models, or leave it out of the product"}},
		"nothing":           {priced(good, "limits: [{cost: 0.0, per: day}]"), []string{"6:23: products.a.limits[0].cost: is 0" + amount + ", and more than nothing"}},
		"cost without per":  {priced(good, "limits: [{cost: 5}]"), []string{"6:16: products.a.limits[0]: per is missing"}},
		"hard, no bound":    {priced(good, "limits: [{cost: 5, per: day, hard: true}]"), []string{"6:16: products.a.limits[0]: is hard, but a request that names no output cap has no bound; add maxOutputTokens to the product (it is put into such requests), or drop hard"}},
		"hard, never fits":  {priced(good, "maxOutputTokens: 1000, limits: [{cost: 0.008, per: day, hard: true}]"), []string{"6:39: products.a.limits[0]: is hard and smaller than one answer of m may cost (maxOutputTokens 1000: 0.008); lower maxOutputTokens or raise the limit"}},
		"no currency":       {"version: 1\nmodels:\n  m: {" + good + "}\nproducts: {a: {}}", []string{"3:14: policy: has prices and no currency; add one, such as currency: USD"}},
		"limit, unknown":    {"version: 1\nproducts: {a: {limits: [{cost: 5, per: day}]}}", []string{"2:32: policy: has prices and no currency; add one, such as currency: USD"}},
		"named, undeclared": {"version: 1\ncurrency: USD\nproducts: {a: {models: [b], limits: [{cost: 5, per: day}]}}", []string{"3:38: products.a.limits[0]: limits cost, but the model b has no price; add price to it under models, or leave it out of the product"}},
		"currency":          {"version: 1\ncurrency: dollars\nproducts: {a: {}}", []string{`2:11: currency: "dollars" is no currency; write its three letters, such as USD`}},
		"price version":     {"version: 1\npriceVersion: a b\nproducts: {a: {}}", []string{`2:15: priceVersion: "a b" is no name; use up to 64 letters, digits, dots, dashes and underscores`}},
	}.check(t)
}

// Mistakes in concurrency, routes and logging name their place and the remedy.
func TestParseReportsRouteMistakes(t *testing.T) {
	mistakes{
		"concurrent with per": {product("    limits: [{concurrent: 5, per: day}]"), []string{"4:14: products.a.limits[0]: counts requests under way, at any one time; drop per"}},
		"concurrent twice": {product("    limits:\n    - {concurrent: 5}\n    - {name: x, concurrent: 6}"), []string{
			"6:7: products.a.limits[1]: counts the same as limit concurrent; keep the smaller one",
		}},
		"priority":      {priced("regions: {r: {priority: 0}}", ""), []string{"4:31: models.m.regions.r.priority: 0 is out of range; it must be a whole number from 1 to 1000"}},
		"empty route":   {priced("regions: {r: {}}", ""), []string{"4:20: models.m.regions.r: replaces nothing; add priority or weight"}},
		"unknown route": {priced("regions: {r: {prio: 1}}", ""), []string{`4:21: models.m.regions.r: unknown key "prio"; known here: priority, weight`}},
		"log":           {product("    log: some"), []string{`4:10: products.a.log: "some" is not known; did you mean none?`}},
	}.check(t)
}

// Mistakes in redactions name their place and the remedy.
func TestParseReportsRedactMistakes(t *testing.T) {
	mistakes{
		"undeclared": {product("    redact: [emial]"), []string{`4:14: products.a.redact[0]: "emial" is not declared under patterns, nor one of email, card and iban; did you mean email?`}},
		"twice":      {product("    redact: [card, card]"), []string{`4:20: products.a.redact[1]: "card" is named twice; drop one`}},
		"no pattern": {"version: 1\npatterns: {a: '('}\nproducts: {a: {}}", []string{"2:15: patterns.a: error parsing regexp: missing closing ): `(`; write a regular expression of RE2"}},
		"empty":      {"version: 1\npatterns: {a: 'b?'}\nproducts: {a: {}}", []string{"2:15: patterns.a: matches nothing at all, so everywhere; it must match a character at least"}},
		"known":      {"version: 1\npatterns: {card: 'b'}\nproducts: {a: {}}", []string{"2:18: patterns.card: is known without a pattern; choose another name"}},
	}.check(t)
}

// A product's redactions come with their patterns.
func TestProductRedactions(t *testing.T) {
	p, _ := parse(t, "version: 1\nproducts: {a: {redact: [staff, email]}}\npatterns: {staff: 'E-[0-9]+'}").Product("a")
	if len(p.Redact) != 2 || p.Redact[0].Name != "staff" || !p.Redact[0].Pattern.MatchString("E-1") || p.Redact[1].Name != "email" || p.Redact[1].Pattern != nil {
		t.Errorf("redact %+v", p.Redact)
	}
}

func TestParseFollowsAnchors(t *testing.T) {
	p := parse(t, "version: 1\nproducts:\n  a: &x {limits: [&l {tokens: 5, per: day}]}\n  b: *x\n  c: {limits: [*l]}")
	for _, name := range []string{"a", "b", "c"} {
		if product, _ := p.Product(name); len(product.Limits) != 1 || product.Name != name {
			t.Errorf("%s: %+v", name, product)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(whole)
	f.Add("a: &a [*a]\nversion: *a\nproducts: {x: *a}")
	f.Add("version: 1\nproducts: &p\n  a: {models: *p, limits: [*p]}")
	f.Add("<<: {version: 1}\n? [k]\n: v\n---\n...")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := policy.Parse("p", []byte(text))
		if (p == nil) == (err == nil) {
			t.Fatalf("policy %v and error %v", p, err)
		}
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\np:") {
				if !strings.Contains(line, ": ") {
					t.Errorf("mistake without a place: %q", line)
				}
			}
			return
		}
		for _, product := range p.Products() {
			for _, l := range product.Limits {
				if l.Amount <= 0 || l.Name == "" || (l.Per == "") != (l.Unit == policy.Concurrent) || l.By == "" || l.Unit == "" {
					t.Errorf("a limit that says nothing was accepted: %+v", l)
				}
			}
		}
	})
}
