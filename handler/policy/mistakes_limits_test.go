package policy_test

import "testing"

// Mistakes in limits name their place and the remedy.
func TestParseReportsLimitMistakes(t *testing.T) { limitMistakes.check(t) }

var limitMistakes = mistakes{
	"limits as mapping": {product("    limits: {tokens: 5, per: day}"), []string{
		"4:13: products.a.limits: is a mapping; write a list such as [{tokens: 100000, per: minute}]",
	}},
	"limit without unit": {product("    limits: [{per: day}]"), []string{
		"4:14: products.a.limits[0]: does not say what it counts; add tokens: N, requests: N, cost: N or concurrent: N",
	}},
	"limit without per": {product("    limits: [{tokens: 5}]"), []string{
		"4:14: products.a.limits[0]: lacks a period; add per, such as per: minute",
	}},
	"two units": {product("    limits: [{tokens: 5, requests: 5, per: day}]"), []string{
		"4:36: products.a.limits[0]: counts tokens and requests; write a limit for each",
	}},
	"zero": {product("    limits: [{tokens: 0, per: day}]"), []string{
		"4:23: products.a.limits[0].tokens: 0 is out of range; it must be a whole number from 1 to 10000000000000",
	}},
	"negative": {product("    limits: [{tokens: -5, per: day}]"), []string{
		"4:23: products.a.limits[0].tokens: -5 is out of range; it must be a whole number from 1 to 10000000000000",
	}},
	"overflow": {product("    limits: [{tokens: 9223372036854775807, per: day}]"), []string{
		"4:23: products.a.limits[0].tokens: 9223372036854775807 is out of range; it must be a whole number from 1 to 10000000000000",
	}},
	"fraction": {product("    limits: [{tokens: 1e6, per: day}]"), []string{
		"4:23: products.a.limits[0].tokens: is 1e6; it must be a whole number from 1 to 10000000000000",
	}},
	"per": {product("    limits: [{tokens: 5, per: minutes}]"), []string{
		`4:31: products.a.limits[0].per: "minutes" is not known; did you mean minute?`,
	}},
	"by": {product("    limits: [{tokens: 5, per: day, by: country}]"), []string{
		`4:40: products.a.limits[0].by: "country" is not known; known here: subscription, user, product, model, ip`,
	}},
	"hard": {product("    limits: [{requests: 5, per: day, hard: yes}]"), []string{
		`4:44: products.a.limits[0].hard: is the text "yes"; it must be true or false`,
	}},
	"same limit twice": {product("    limits:\n    - {tokens: 5, per: day}\n    - {name: b, tokens: 6, per: day}"), []string{
		"6:7: products.a.limits[1]: counts the same as limit tokens-per-day; keep the smaller one",
	}},
	"same name twice": {product("    limits:\n    - {tokens: 5, per: day}\n    - {name: tokens-per-day, tokens: 6, per: hour}"), []string{
		"6:7: products.a.limits[1]: two limits have the name tokens-per-day; rename one of them",
	}},
	"hard without a bound": {product("    limits: [{tokens: 5, per: day, hard: true}]"), []string{
		"4:14: products.a.limits[0]: is hard, but the use of a request without an output cap has no upper bound; " +
			"add maxOutputTokens to the product (the gateway writes it into such requests), or remove hard",
	}},
	"hard and too small": {product("    maxOutputTokens: 10\n    limits: [{tokens: 10, per: day, hard: true}]"), []string{
		"5:14: products.a.limits[0]: is hard and allows less than one answer can use (maxOutputTokens 10); " +
			"lower maxOutputTokens or raise the limit",
	}},
}

// priced wraps a model's price and a product's limits in a file that has no other fault;
// the price stands in line 4, the limits in line 6.
func priced(price, limits string) string {
	return "version: 1\ncurrency: USD\nmodels:\n  m: {" + price + "}\nproducts:\n  a: {" + limits + "}\n"
}

// Mistakes about money name their place and the remedy.
func TestParseReportsMoneyMistakes(t *testing.T) { money.check(t) }

const (
	good   = "price: {input: 2, output: 8}"
	amount = "; it must be an amount such as 2 or 0.075, with up to 7 digits before the point and 6 after it"
)

var money = mistakes{
	"no output": {priced("price: {input: 2}", ""), []string{"4:14: models.m.price: output is missing"}},
	"text":      {priced(`price: {input: "2", output: 8}`, ""), []string{`4:22: models.m.price.input: is the text "2"` + amount}},
	"negative":  {priced("price: {input: -2, output: 8}", ""), []string{"4:22: models.m.price.input: is -2" + amount}},
	"exponent":  {priced("price: {input: 2e3, output: 8}", ""), []string{"4:22: models.m.price.input: is 2e3" + amount}},
	"infinite":  {priced("price: {input: .inf, output: 8}", ""), []string{"4:22: models.m.price.input: is .inf" + amount}},
	"too fine":  {priced("price: {input: 0.0000001, output: 8}", ""), []string{"4:22: models.m.price.input: is 0.0000001" + amount}},
	"too much":  {priced("price: {input: 12345678, output: 8}", ""), []string{"4:22: models.m.price.input: is 12345678" + amount}},
	"dear cache": {priced("price: {input: 2, cachedInput: 2.1, output: 8}", ""), []string{
		"4:38: models.m.price.cachedInput: is more than input; " +
			"it must be at most input, because limits on cost assume that input is the higher price",
	}},
	"unknown key": {priced("price: {input: 2, cached: 1, output: 8}", ""), []string{
		`4:25: models.m.price: unknown key "cached"; known here: cachedInput, input, output`,
	}},
	"unpriced": {priced("", "limits: [{cost: 5, per: day}]"), []string{
		"6:16: products.a.limits[0]: limits cost, but the model m has no price; add price to it under models, or leave it out of the product",
	}},
	"nothing": {priced(good, "limits: [{cost: 0.0, per: day}]"), []string{
		"6:23: products.a.limits[0].cost: is 0" + amount + ", and more than 0",
	}},
	"cost without per": {priced(good, "limits: [{cost: 5}]"), []string{
		"6:16: products.a.limits[0]: lacks a period; add per, such as per: minute",
	}},
	"hard, no bound": {
		priced(good, "limits: [{cost: 5, per: day, hard: true}]"),
		[]string{
			"6:16: products.a.limits[0]: is hard, but the use of a request without an output cap has no upper bound; " +
				"add maxOutputTokens to the product (the gateway writes it into such requests), or remove hard",
		},
	},
	"hard, never fits": {
		priced(good, "maxOutputTokens: 1000, limits: [{cost: 0.008, per: day, hard: true}]"),
		[]string{
			"6:39: products.a.limits[0]: is hard and allows less than one answer of m can cost (maxOutputTokens 1000: 0.008); " +
				"lower maxOutputTokens or raise the limit",
		},
	},
	"no currency": {"version: 1\nmodels:\n  m: {" + good + "}\nproducts: {a: {}}", []string{
		"3:14: policy: has prices or limits on cost but no currency; add one, such as currency: USD",
	}},
	"limit, unknown": {"version: 1\nproducts: {a: {limits: [{cost: 5, per: day}]}}", []string{
		"2:32: policy: has prices or limits on cost but no currency; add one, such as currency: USD",
	}},
	"named, undeclared": {"version: 1\ncurrency: USD\nproducts: {a: {models: [b], limits: [{cost: 5, per: day}]}}", []string{
		"3:38: products.a.limits[0]: limits cost, but the model b has no price; add price to it under models, or leave it out of the product",
	}},
	"currency": {"version: 1\ncurrency: dollars\nproducts: {a: {}}", []string{
		`2:11: currency: "dollars" is not a currency; write its three letters, such as USD`,
	}},
	"price version": {"version: 1\npriceVersion: a b\nproducts: {a: {}}", []string{
		`2:15: priceVersion: "a b" is not a valid name; use up to 64 letters, digits, dots, dashes and underscores`,
	}},
}

// Mistakes in concurrency, routes and logging name their place and the remedy.
func TestParseReportsRouteMistakes(t *testing.T) { routeMistakes.check(t) }

var routeMistakes = mistakes{
	"concurrent with per": {product("    limits: [{concurrent: 5, per: day}]"), []string{
		"4:14: products.a.limits[0]: counts requests in flight, which have no period; remove per",
	}},
	"concurrent twice": {product("    limits:\n    - {concurrent: 5}\n    - {name: x, concurrent: 6}"), []string{
		"6:7: products.a.limits[1]: counts the same as limit concurrent; keep the smaller one",
	}},
	"priority": {priced("regions: {r: {priority: 0}}", ""), []string{
		"4:31: models.m.regions.r.priority: 0 is out of range; it must be a whole number from 1 to 1000",
	}},
	"empty route": {priced("regions: {r: {}}", ""), []string{"4:20: models.m.regions.r: has neither priority nor weight; add one of them"}},
	"unknown route": {priced("regions: {r: {prio: 1}}", ""), []string{
		`4:21: models.m.regions.r: unknown key "prio"; known here: priority, weight`,
	}},
	"log": {product("    log: some"), []string{`4:10: products.a.log: "some" is not known; did you mean none?`}},
}

// Mistakes in redactions name their place and the remedy.
func TestParseReportsRedactMistakes(t *testing.T) { redactMistakes.check(t) }

var redactMistakes = mistakes{
	"undeclared": {product("    redact: [emial]"), []string{
		`4:14: products.a.redact[0]: "emial" is neither declared under patterns nor one of email, card and iban; did you mean email?`,
	}},
	"twice": {product("    redact: [card, card]"), []string{`4:20: products.a.redact[1]: "card" occurs twice; remove one`}},
	"no pattern": {"version: 1\npatterns: {a: '('}\nproducts: {a: {}}", []string{
		"2:15: patterns.a: error parsing regexp: missing closing ): `(`; write a regular expression in the syntax of RE2",
	}},
	"empty": {"version: 1\npatterns: {a: 'b?'}\nproducts: {a: {}}", []string{
		"2:15: patterns.a: matches the empty text and so would match everywhere; write a pattern that needs at least one character",
	}},
	"known": {"version: 1\npatterns: {card: 'b'}\nproducts: {a: {}}", []string{
		"2:18: patterns.card: is built in and needs no pattern; choose another name",
	}},
}
