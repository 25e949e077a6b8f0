package policy

import (
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"
)

// limits reads a product's limits and refuses what could not be kept.
func (p *parser) limits(n *yaml.Node, where string, product Product) (limits []Limit) {
	items, _ := p.sequence(n, where, "write a list such as [{tokens: 100000, per: minute}]")
	for i, item := range items {
		at := fmt.Sprintf("%s[%d]", where, i)
		l, ok := p.limit(item, at)
		if !ok {
			continue
		}
		p.conflict(item, at, l, limits)
		p.enforceable(item, at, l, product)
		limits = append(limits, l)
	}
	return limits
}

func (p *parser) limit(n *yaml.Node, where string) (l Limit, ok bool) {
	before := len(p.mistakes)
	l.By = BySubscription
	amount := func(u Unit) func(*yaml.Node) {
		return func(v *yaml.Node) {
			if l.Unit != "" {
				p.fail(v, where, "counts tokens and requests; write two limits")
			}
			l.Unit = u
			l.Amount, _ = p.integer(v, where+"."+string(u), 1, maxAmount)
		}
	}
	keys := p.mapping(n, where, fields{
		"name":     func(v *yaml.Node) { l.Name = p.name(v, where+".name") },
		"tokens":   amount(Tokens),
		"requests": amount(Requests),
		"per":      func(v *yaml.Node) { l.Per = oneOf(p, v, where+".per", Minute, Hour, Day, Week, Month, Year) },
		"by":       func(v *yaml.Node) { l.By = oneOf(p, v, where+".by", BySubscription, ByUser, ByProduct, ByModel, ByIP) },
		"hard":     func(v *yaml.Node) { l.Hard = p.boolean(v, where+".hard") },
	}, "cost", "concurrent")
	if keys != nil && l.Unit == "" && !slices.Contains(keys, "cost") && !slices.Contains(keys, "concurrent") {
		p.fail(n, where, "says not what it counts; add tokens: N or requests: N")
	}
	if keys != nil && !slices.Contains(keys, "concurrent") {
		p.require(n, where, keys, "per")
	}
	if l.Name == "" {
		l.Name = defaultName(l)
	}
	return l, len(p.mistakes) == before
}

func defaultName(l Limit) string {
	name := string(l.Unit) + "-per-" + string(l.Per)
	if l.By != BySubscription {
		name += "-by-" + string(l.By)
	}
	return name
}

// conflict refuses a second limit of the same name or the same meaning.
func (p *parser) conflict(n *yaml.Node, where string, l Limit, others []Limit) {
	for _, o := range others {
		switch {
		case o.Unit == l.Unit && o.Per == l.Per && o.By == l.By && o.Hard == l.Hard:
			p.fail(n, where, fmt.Sprintf("counts the same as limit %s; keep the smaller one", o.Name))
			return
		case o.Name == l.Name:
			p.fail(n, where, fmt.Sprintf("two limits are called %s; give one another name", l.Name))
			return
		}
	}
}

// enforceable refuses hard token limits that no request, or only some, could be held to.
func (p *parser) enforceable(n *yaml.Node, where string, l Limit, product Product) {
	switch {
	case !l.Hard || l.Unit != Tokens:
	case product.MaxOutputTokens == 0:
		p.fail(n, where, "is hard, but a request that names no output cap has no bound; "+
			"add maxOutputTokens to the product (it is put into such requests), or drop hard")
	case product.MaxOutputTokens >= l.Amount:
		p.fail(n, where, fmt.Sprintf("is hard and smaller than one answer may be (maxOutputTokens %d); "+
			"lower maxOutputTokens or raise the limit", product.MaxOutputTokens))
	}
}
