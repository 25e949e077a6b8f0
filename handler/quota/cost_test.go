package quota_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/policy"
	"aoaigateway/handler/quota"
	"aoaigateway/handler/table"
)

// costHarness returns a harness with a product that may use two models with prices and one
// without.
func costHarness(t reporter, limits string) *harness {
	t.Helper()
	rules, err := policy.Parse("test", []byte(`
version: 1
currency: USD
models:
  gpt: {price: {input: 2.00, cachedInput: 0.50, output: 8.00}}
  embed: {price: {input: 0.10, output: 0}}
products:
  p:
    maxOutputTokens: 1000
    models: [gpt, embed]
    limits: [`+limits+`]
`))
	if err != nil {
		t.Fatal(err)
	}
	return &harness{t: t, mem: table.NewMem(), rules: rules}
}

// answered is the usage of an answer with half of its prompt cached.
func answered(prompt, completion int64) gateway.Usage {
	return gateway.Usage{Prompt: prompt, Cached: prompt / 2, Completion: completion, Total: prompt + completion}
}

// A prompt of 1,000 tokens, half of them cached, with an answer of 100 costs
// 500 × 2.00 + 500 × 0.50 + 100 × 8.00 for a million: 0.00205. Its bound is 0.010.
func TestCostLimitStops(t *testing.T) {
	for _, tc := range []struct {
		budget  string
		granted int
	}{
		{"0.01", 1},       // the bound fits, and then no more
		{"0.012049", 1},   // one millionth short of a second one
		{"0.01205", 2},    //
		{"0.100", 44},     // 0.1 - 44 × 0.00205 = 0.0098 is less than a bound
		{"0.100200", 45},  // 0.1002 - 44 × 0.00205 = 0.01 is not
		{"0.100199", 44},  //
		{"1.000", 483},    // 1 - 483 × 0.00205 = 0.00985
		{"1.999999", 971}, // 1.999999 - 970 × 0.00205 = 0.011499, - 971 × 0.00205 = 0.009449
	} {
		r := costHarness(t, "{name: budget, cost: "+tc.budget+", per: month, hard: true}")
		l, granted := r.limiter(), 0
		for ; granted < 2000; granted++ {
			res, err := l.Reserve(t.Context(), alice, "GPT", quota.Cost{Bound: 2000, BoundOutput: 1000})
			if err != nil {
				e, ok := errors.AsType[*gateway.Error](err)
				said := ok && strings.HasPrefix(e.Message, "Cost quota is exceeded. Try again in ")
				if !said || e.Kind != gateway.QuotaExceeded || e.Limit != "budget" {
					t.Errorf("%+v", e)
				}
				break
			}
			if err := res.Settle(t.Context(), answered(1000, 100)); err != nil {
				t.Fatal(err)
			}
		}
		if granted != tc.granted {
			t.Errorf("a budget of %s let %d requests pass, want %d", tc.budget, granted, tc.granted)
		}
	}
}

// A budget of one price counts each model at its own.
func TestCostLimitPricesEachModel(t *testing.T) {
	bubble(t, nil, func(t *testing.T, _ *harness) {
		r := costHarness(t, "{cost: 1, per: day, hard: true}")
		l := r.limiter()
		for model, want := range map[string]int64{"gpt": 2_050, "embed": 100} {
			before := r.spentMoney(l)
			res, err := l.Reserve(t.Context(), alice, model, quota.Cost{Bound: 2000, BoundOutput: 1000})
			if err != nil {
				t.Fatal(err)
			}
			usage := answered(1000, 100)
			if model == "embed" {
				usage = gateway.Usage{Prompt: 1000, Total: 1000}
			}
			if err := res.Settle(t.Context(), usage); err != nil {
				t.Error(err)
			}
			if got := r.spentMoney(l) - before; got != want {
				t.Errorf("%s: %d millionths charged, want %d", model, got, want)
			}
		}
	})
}

// spentMoney is what the table says was charged to the product's cost limit.
func (r *harness) spentMoney(l *quota.Limiter) int64 {
	r.t.Helper()
	if err := l.Close(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	seen := newWindows()
	for e := range r.mem.Scan(r.t.Context(), "p|subscription|alice") {
		seen.note(e)
	}
	var sum int64
	for _, n := range seen.most {
		sum += n
	}
	return sum
}

// A soft budget holds the estimate's price.
func TestSoftCostHoldsEstimate(t *testing.T) {
	bubble(t, nil, func(t *testing.T, _ *harness) {
		r := costHarness(t, "{name: spend, cost: 0.01, per: day}")
		l := r.limiter()
		cost := quota.Cost{Estimate: 1100, EstimateOutput: 100, Bound: 1_000_000}
		res, err := l.Reserve(t.Context(), alice, "gpt", cost) // 1000 × 2.00 + 100 × 8.00
		if err != nil {
			t.Fatal(err)
		}
		if got := r.spentMoney(l); got != 2_800 {
			t.Errorf("%d millionths held, want 2800", got)
		}
		r.settle(res, 3000) // a usage of which only the total is known costs the dearer price
		if got := r.spentMoney(l); got != 24_000 {
			t.Errorf("%d millionths charged, want 24000", got)
		}
		if _, err := l.Reserve(t.Context(), alice, "gpt", cost); gateway.KindOf(err) != gateway.QuotaExceeded {
			t.Errorf("a second request: %v, want it refused", err)
		}
	})
}

// What a budget cannot count or never pay is refused.
func TestCostLimitRefuses(t *testing.T) {
	r := costHarness(t, "{name: budget, cost: 0.01, per: minute, hard: true}")
	l := r.limiter()
	for name, tc := range map[string]struct {
		model string
		cost  quota.Cost
		kind  gateway.Kind
		says  string
	}{
		"no price": {"other", quota.Cost{Bound: 10}, gateway.Forbidden, `no price for the model "other"`},
		"too dear": {
			"gpt",
			quota.Cost{Bound: 2001, BoundOutput: 1001},
			gateway.RateLimited,
			"may cost up to 0.010008, but budget allows 0.01 per minute",
		},
		"all may be out": {"gpt", quota.Cost{Bound: 1251}, gateway.RateLimited, "0.010008"},
	} {
		_, err := l.Reserve(t.Context(), alice, tc.model, tc.cost)
		if gateway.KindOf(err) != tc.kind || err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := l.Reserve(t.Context(), alice, "", quota.Cost{}); err != nil {
		t.Errorf("an operation that uses no tokens: %v", err)
	}
}

// Whatever was reserved and used, what a hard budget says was spent is the sum of the
// answers' prices, and never more than it.
func TestCostLimitIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.Int64Range(10_000, 1_000_000).Draw(t, "limit")
		r := costHarness(t, fmt.Sprintf("{cost: %s, per: year, hard: true}", policy.Decimal(limit)))
		l := r.limiter()
		price, _ := r.rules.Model("gpt")
		var spent int64
		for range rapid.IntRange(1, 60).Draw(t, "requests") {
			prompt, output := rapid.Int64Range(1, 3000).Draw(t, "prompt"), rapid.Int64Range(1, 1000).Draw(t, "output")
			res, err := l.Reserve(t.Context(), alice, "gpt", quota.Cost{Bound: prompt + output, BoundOutput: output})
			if err != nil {
				if most := price.Price.Most(prompt+output, output); spent+most <= limit {
					t.Fatalf("refused with %d of %d spent, and %d needed: %v", spent, limit, most, err)
				}
				continue
			}
			u := answered(rapid.Int64Range(0, prompt).Draw(t, "used"), rapid.Int64Range(0, output).Draw(t, "answered"))
			if err := res.Settle(t.Context(), u); err != nil {
				t.Fatal(err)
			}
			spent += price.Price.Of(u)
		}
		if spent > limit {
			t.Fatalf("%d spent of %d", spent, limit)
		}
		if got := r.spentMoney(l); got != spent {
			t.Fatalf("%d charged, want %d", got, spent)
		}
	})
}
