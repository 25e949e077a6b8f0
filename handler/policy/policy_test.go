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
    {contextWindow: 1047576, firstByteTimeout: 90s, price: {input: 2.00, cachedInput: 0.5, output: 8},
    regions: {swedencentral: {priority: 2}}}
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

// A product's redactions come with their patterns.
func TestProductRedactions(t *testing.T) {
	p, _ := parse(t, "version: 1\nproducts: {a: {redact: [staff, email]}}\npatterns: {staff: 'E-[0-9]+'}").Product("a")
	if len(p.Redact) != 2 || p.Redact[0].Name != "staff" || !p.Redact[0].Pattern.MatchString("E-1") ||
		p.Redact[1].Name != "email" || p.Redact[1].Pattern != nil {
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
