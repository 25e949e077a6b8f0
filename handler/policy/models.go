package policy

import (
	"fmt"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"aoaigateway/handler/policy/strictyaml"
)

const (
	maxPriority  = 1000
	millionths   = 6 // decimals of an amount of money
	moneyMeaning = "it must be an amount such as 2 or 0.075, with up to 7 digits before the point and 6 after it"
)

var (
	currencyShape = regexp.MustCompile(`^[A-Z]{3}$`)
	amountShape   = regexp.MustCompile(`^[0-9]{1,7}(\.[0-9]{1,6})?$`)
)

func (p *parser) models(n *yaml.Node, out *Policy) {
	p.Named(n, "models", func(name string, v *yaml.Node) {
		where, m := "models."+name, Model{Name: name}
		if strictyaml.IsNull(v) {
			v = &yaml.Node{Kind: yaml.MappingNode, Line: v.Line, Column: v.Column}
		}
		p.Mapping(v, where, strictyaml.Fields{
			"contextWindow": func(v *yaml.Node) {
				m.ContextWindow, _ = p.Integer(v, where+".contextWindow", 1, maxOutput)
			},
			"firstByteTimeout": func(v *yaml.Node) {
				m.FirstByteTimeout = p.Duration(v, where+".firstByteTimeout", minTimeout, maxTimeout)
			},
			"hedge":   func(v *yaml.Node) { m.Hedge = p.Boolean(v, where+".hedge") },
			"price":   func(v *yaml.Node) { m.Price, m.Priced = p.price(v, where+".price"), true },
			"regions": func(v *yaml.Node) { m.Regions = p.regions(v, where+".regions") },
		})
		if _, taken := out.models[strings.ToLower(name)]; taken {
			p.Fail(v, where, "is declared twice; Azure ignores the case of names")
		}
		out.models[strings.ToLower(name)] = m
	})
}

func (p *parser) price(n *yaml.Node, where string) (price Price) {
	p.noteMoney(n)
	cached := n
	price.CachedInput = -1
	read := func(key string, to *int64) func(*yaml.Node) {
		return func(v *yaml.Node) { *to, _ = p.amount(v, where+"."+key) }
	}
	keys := p.Mapping(n, where, strictyaml.Fields{
		"input":       read("input", &price.Input),
		"cachedInput": func(v *yaml.Node) { cached = v; read("cachedInput", &price.CachedInput)(v) },
		"output":      read("output", &price.Output),
	})
	if keys != nil {
		p.Require(n, where, keys, "input", "output")
	}
	if price.CachedInput < 0 {
		price.CachedInput = price.Input
	}
	if price.CachedInput > price.Input {
		p.Fail(cached, where+".cachedInput",
			"is more than input; it must be at most input, because limits on cost assume that input is the higher price")
	}
	return price
}

func (p *parser) regions(n *yaml.Node, where string) map[string]Route {
	routes := map[string]Route{}
	p.Named(n, where, func(name string, v *yaml.Node) {
		at, r := where+"."+name, Route{}
		number := func(key string, to *int) func(*yaml.Node) {
			return func(v *yaml.Node) {
				i, _ := p.Integer(v, at+"."+key, 1, maxPriority)
				*to = int(i)
			}
		}
		keys := p.Mapping(v, at, strictyaml.Fields{"priority": number("priority", &r.Priority), "weight": number("weight", &r.Weight)})
		if keys != nil && len(keys) == 0 {
			p.Fail(v, at, "has neither priority nor weight; add one of them")
		}
		routes[name] = r
	})
	return routes
}

func (p *parser) currency(n *yaml.Node) string {
	c, ok := p.Text(n, "currency")
	if ok && !currencyShape.MatchString(c) {
		p.Fail(n, "currency", fmt.Sprintf("%q is not a currency; write its three letters, such as USD", strictyaml.Shorten(c)))
	}
	return c
}

// priceVersion reads the price version. It accepts an unquoted date too, which is not a
// text in YAML.
func (p *parser) priceVersion(n *yaml.Node) string {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!timestamp" && strictyaml.NameShape.MatchString(n.Value) {
		return n.Value
	}
	return p.Name(n, "priceVersion")
}

// noteMoney remembers the first node that requires a currency.
func (p *parser) noteMoney(n *yaml.Node) {
	if p.money == nil {
		p.money = n
	}
}

// amount reads a decimal amount of money and returns it in millionths. It does not use
// floating point.
func (p *parser) amount(n *yaml.Node, where string) (int64, bool) {
	number := n.Kind == yaml.ScalarNode && (n.ShortTag() == "!!int" || n.ShortTag() == "!!float")
	if !number || !amountShape.MatchString(n.Value) {
		p.Fail(n, where, "is "+strictyaml.Kind(n)+"; "+moneyMeaning)
		return 0, false
	}
	whole, part, _ := strings.Cut(n.Value, ".")
	var v int64
	for _, digit := range whole + part + strings.Repeat("0", millionths-len(part)) {
		v = v*10 + int64(digit-'0')
	}
	return v, true
}
