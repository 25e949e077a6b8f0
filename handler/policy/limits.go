package policy

import (
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"

	"aoaigateway/handler/policy/strictyaml"
)

// limits reads a product's limits. It reports limits that the gateway could not enforce as
// mistakes.
func (p *parser) limits(n *yaml.Node, where string, product Product, pol *Policy) (limits []Limit) {
	items, _ := p.Sequence(n, where, "write a list such as [{tokens: 100000, per: minute}]")
	for i, item := range items {
		at := fmt.Sprintf("%s[%d]", where, i)
		l, ok := p.limit(item, at)
		if !ok {
			continue
		}
		p.conflict(item, at, l, limits)
		p.enforceable(item, at, l, product)
		p.affordable(item, at, l, product, pol)
		limits = append(limits, l)
	}
	return limits
}

func (p *parser) limit(n *yaml.Node, where string) (l Limit, ok bool) {
	before := p.Mistakes()
	l.By = BySubscription
	amount := func(u Unit, read func(v *yaml.Node, where string) int64) func(*yaml.Node) {
		return func(v *yaml.Node) {
			if l.Unit != "" {
				p.Fail(v, where, fmt.Sprintf("counts %s and %s; write a limit for each", l.Unit, u))
			}
			l.Unit, l.Amount = u, read(v, where+"."+string(u))
		}
	}
	keys := p.Mapping(n, where, strictyaml.Fields{
		"name":       func(v *yaml.Node) { l.Name = p.Name(v, where+".name") },
		"tokens":     amount(Tokens, p.count),
		"requests":   amount(Requests, p.count),
		"concurrent": amount(Concurrent, p.count),
		"cost":       amount(Cost, p.cost),
		"per": func(v *yaml.Node) {
			l.Per = strictyaml.OneOf(&p.Reader, v, where+".per", Minute, Hour, Day, Week, Month, Year)
		},
		"by": func(v *yaml.Node) {
			l.By = strictyaml.OneOf(&p.Reader, v, where+".by", BySubscription, ByUser, ByProduct, ByModel, ByIP)
		},
		"hard": func(v *yaml.Node) { l.Hard = p.Boolean(v, where+".hard") },
	})
	per := slices.Contains(keys, "per")
	switch {
	case keys == nil:
	case l.Unit == "":
		p.Fail(n, where, "does not say what it counts; add tokens: N, requests: N, cost: N or concurrent: N")
	case l.Unit == Concurrent && per:
		p.Fail(n, where, "counts requests in flight, which have no period; remove per")
	case l.Unit != Concurrent && !per:
		p.Fail(n, where, "lacks a period; add per, such as per: minute")
	}
	if l.Name == "" {
		l.Name = defaultName(l)
	}
	return l, p.Mistakes() == before
}

func (p *parser) count(v *yaml.Node, where string) int64 {
	n, _ := p.Integer(v, where, 1, maxAmount)
	return n
}

func (p *parser) cost(v *yaml.Node, where string) int64 {
	p.noteMoney(v)
	n, ok := p.amount(v, where)
	if ok && n == 0 {
		p.Fail(v, where, "is 0; "+moneyMeaning+", and more than 0")
	}
	return n
}

func defaultName(l Limit) string {
	name := string(l.Unit)
	if l.Unit != Concurrent {
		name += "-per-" + string(l.Per)
	}
	if l.By != BySubscription {
		name += "-by-" + string(l.By)
	}
	return name
}

// conflict reports two limits of a product that have the same name or count the same.
func (p *parser) conflict(n *yaml.Node, where string, l Limit, others []Limit) {
	for _, o := range others {
		switch {
		case o.Unit == l.Unit && o.Per == l.Per && o.By == l.By && o.Hard == l.Hard:
			p.Fail(n, where, fmt.Sprintf("counts the same as limit %s; keep the smaller one", o.Name))
			return
		case o.Name == l.Name:
			p.Fail(n, where, fmt.Sprintf("two limits have the name %s; rename one of them", l.Name))
			return
		}
	}
}

// enforceable reports hard limits on tokens or cost whose requests have no upper bound, and
// hard limits that are smaller than the largest answer.
func (p *parser) enforceable(n *yaml.Node, where string, l Limit, product Product) {
	switch {
	case !l.Hard || l.Unit != Tokens && l.Unit != Cost:
	case product.MaxOutputTokens == 0:
		p.Fail(n, where, "is hard, but the use of a request without an output cap has no upper bound; "+
			"add maxOutputTokens to the product (the gateway writes it into such requests), or remove hard")
	case l.Unit == Tokens && product.MaxOutputTokens >= l.Amount:
		p.Fail(n, where, fmt.Sprintf("is hard and allows less than one answer can use (maxOutputTokens %d); "+
			"lower maxOutputTokens or raise the limit", product.MaxOutputTokens))
	}
}

// affordable reports a limit on cost if a model of the product has no price, or if the
// limit is hard and one answer can cost more than it allows.
func (p *parser) affordable(n *yaml.Node, where string, l Limit, product Product, pol *Policy) {
	if l.Unit != Cost {
		return
	}
	for _, m := range product.among(pol) {
		answer := m.Price.Most(product.MaxOutputTokens, product.MaxOutputTokens)
		switch {
		case !m.Priced:
			p.Fail(n, where, fmt.Sprintf("limits cost, but the model %s has no price; "+
				"add price to it under models, or leave it out of the product", m.Name))
		case l.Hard && product.MaxOutputTokens > 0 && answer >= l.Amount:
			p.Fail(n, where, fmt.Sprintf("is hard and allows less than one answer of %s can cost (maxOutputTokens %d: %s); "+
				"lower maxOutputTokens or raise the limit", m.Name, product.MaxOutputTokens, Decimal(answer)))
		}
	}
}

// among returns the models declared in the file that a product may use.
func (p Product) among(pol *Policy) (models []Model) {
	if slices.Equal(p.Models, []string{"*"}) {
		return pol.Models()
	}
	for _, name := range p.Models {
		m, ok := pol.Model(name)
		if !ok {
			m.Name = name
		}
		models = append(models, m)
	}
	return models
}
