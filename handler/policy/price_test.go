package policy_test

import (
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/policy"
)

var nano = policy.Price{Input: 100_000, CachedInput: 25_000, Output: 400_000} // 0.10, 0.025 and 0.40 for a million

// An answer costs what the price list says.
func TestPriceOf(t *testing.T) {
	for name, tc := range map[string]struct {
		usage gateway.Usage
		want  int64
	}{
		"nothing":                {gateway.Usage{}, 0},
		"a million of each":      {gateway.Usage{Prompt: 1_000_000, Completion: 1_000_000, Total: 2_000_000}, 500_000},
		"half of it cached":      {gateway.Usage{Prompt: 1_000_000, Cached: 500_000, Completion: 1_000_000, Total: 2_000_000}, 462_500},
		"reasoning is output":    {gateway.Usage{Prompt: 10, Completion: 1000, Reasoning: 900, Total: 1010}, 401},
		"one token is rounded":   {gateway.Usage{Prompt: 1, Total: 1}, 1},
		"rounded once, not each": {gateway.Usage{Prompt: 5, Cached: 2, Completion: 1, Total: 6}, 1},
		"only a total":           {gateway.Usage{Total: 10}, 4},
		"more cached than asked": {gateway.Usage{Prompt: 100, Cached: 900, Total: 100}, 3},
		"nonsense":               {gateway.Usage{Prompt: -5, Cached: -5, Completion: -5, Total: -5}, 0},
	} {
		if got := nano.Of(tc.usage); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
}

// Cost is exact at any size and never more than the most.
func TestPriceIsExactAtAnySize(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := func(name string, most int64) int64 { return rapid.Int64Range(0, most).Draw(t, name) }
		p := policy.Price{Input: n("input", 1e13), Output: n("output", 1e13)}
		p.CachedInput = n("cachedInput", p.Input)
		u := gateway.Usage{Prompt: n("prompt", 1<<50), Completion: n("completion", 1<<50)}
		u.Cached, u.Total = n("cached", u.Prompt), u.Prompt+u.Completion
		want := new(big.Int)
		for _, part := range [][2]int64{{u.Prompt - u.Cached, p.Input}, {u.Cached, p.CachedInput}, {u.Completion, p.Output}} {
			want.Add(want, new(big.Int).Mul(big.NewInt(part[0]), big.NewInt(part[1])))
		}
		want.Add(want, big.NewInt(999_999)).Div(want, big.NewInt(1_000_000))
		if !want.IsInt64() {
			want.SetInt64(math.MaxInt64)
		}
		got := p.Of(u)
		if got != want.Int64() {
			t.Fatalf("%+v at %+v: %d, want %v", u, p, got, want)
		}
		if most := p.Most(u.Total, u.Completion); u.Completion > 0 && most < got {
			t.Fatalf("%+v at %+v: %d, but the most was said to be %d", u, p, got, most)
		}
		if most := p.Most(u.Total, 0); most < got {
			t.Fatalf("%+v at %+v: %d, but the most was said to be %d, whatever is output", u, p, got, most)
		}
	})
}

// Money is written as people do.
func TestDecimal(t *testing.T) {
	for millionths, want := range map[int64]string{
		0: "0.00", 1: "0.000001", 75_000: "0.075", 500_000: "0.50", 12_000_000: "12.00", 12_345_678: "12.345678",
	} {
		if got := policy.Decimal(millionths); got != want {
			t.Errorf("%d is written %q, want %q", millionths, got, want)
		}
	}
}

// The policy prices an answer and names its price list.
func TestPolicyCost(t *testing.T) {
	p := parse(t, whole)
	got, ok := p.Cost(gateway.Usage{Prompt: 1000, Cached: 600, Completion: 100, Total: 1100}, "GPT-4.1")
	want := policy.Money{Millionths: 1900, Currency: "USD", PriceVersion: "2027-01-15"}
	if got != want || !ok || got.String() != "0.0019 USD" {
		t.Errorf("Cost: %+v (%v), %v; want %+v", got, got, ok, want)
	}
	for _, model := range []string{"embed", "unknown", ""} {
		if got, ok := p.Cost(gateway.Usage{Total: 5}, model); ok {
			t.Errorf("a model without a price, %q, costs %v", model, got)
		}
	}
}
