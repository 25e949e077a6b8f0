package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"aoaigateway/handler/policy/strictyaml"
)

const (
	maxAmount  = 10_000_000_000_000 // keeps every sum and product of the counters far from overflow
	maxOutput  = 10_000_000         // largest number of tokens of an answer or of a context window
	minTimeout = time.Second
	maxTimeout = 10 * time.Minute
)

// parser reads a policy file.
type parser struct {
	strictyaml.Reader
	money *yaml.Node                // the first node that requires a currency; nil = none
	own   map[string]*regexp.Regexp // by name: the patterns that the file declares
}

// Parse reads a policy file. name is the file's name in messages. The error has one line
// for each mistake, in the form "name:line:column: where: what is wrong; what would be
// right".
func Parse(name string, data []byte) (*Policy, error) {
	p := &parser{}
	result := &Policy{products: map[string]Product{}, models: map[string]Model{}}
	if root := p.Document(data, "policy", "version and products"); root != nil {
		p.policy(root, result)
	}
	if err := p.Err(name); err != nil {
		return nil, err
	}
	return result, nil
}

func (p *parser) policy(n *yaml.Node, out *Policy) {
	var products, patterns *yaml.Node
	keys := p.Mapping(n, "policy", strictyaml.Fields{
		"version":      func(v *yaml.Node) { p.version(v) },
		"currency":     func(v *yaml.Node) { out.currency = p.currency(v) },
		"priceVersion": func(v *yaml.Node) { out.priceVersion = p.priceVersion(v) },
		"models":       func(v *yaml.Node) { p.models(v, out) },
		// These are read last, because products may refer to models and patterns that stand
		// below them.
		"products": func(v *yaml.Node) { products = v },
		"patterns": func(v *yaml.Node) { patterns = v },
	})
	if keys == nil {
		return
	}
	p.Require(n, "policy", keys, "version", "products")
	if patterns != nil {
		p.patterns(patterns)
	}
	if products != nil && len(p.Named(products, "products", func(name string, v *yaml.Node) { p.product(name, v, out) })) == 0 {
		p.Fail(products, "products", "there is no product; add at least one, such as default")
	}
	if p.money != nil && !slices.Contains(keys, "currency") {
		p.Fail(p.money, "policy", "has prices or limits on cost but no currency; add one, such as currency: USD")
	}
}

func (p *parser) version(n *yaml.Node) {
	if v, ok := p.Integer(n, "version", 0, maxAmount); ok && v != 1 {
		p.Fail(n, "version", fmt.Sprintf("%d is not supported; this gateway reads version 1", v))
	}
}

func (p *parser) product(name string, n *yaml.Node, out *Policy) {
	where, product := "products."+name, Product{Name: name, Models: []string{"*"}, Log: LogFull}
	var limits *yaml.Node
	p.Mapping(n, where, strictyaml.Fields{
		"description":     func(v *yaml.Node) { product.Description, _ = p.Text(v, where+".description") },
		"models":          func(v *yaml.Node) { product.Models = p.allowed(v, where+".models", out.models) },
		"maxOutputTokens": func(v *yaml.Node) { product.MaxOutputTokens, _ = p.Integer(v, where+".maxOutputTokens", 1, maxOutput) },
		"log":             func(v *yaml.Node) { product.Log = strictyaml.OneOf(&p.Reader, v, where+".log", LogFull, LogNone) },
		"redact":          func(v *yaml.Node) { product.Redact = p.redactions(v, where+".redact") },
		"limits":          func(v *yaml.Node) { limits = v },
	})
	if limits != nil {
		product.Limits = p.limits(limits, where+".limits", product, out)
	}
	out.products[name] = product
}

// allowed returns the models that a product may use, and reports names that are not declared.
func (p *parser) allowed(n *yaml.Node, where string, declared map[string]Model) (names []string) {
	const right = `write ["*"] for all models, or deployment names`
	items, ok := p.Sequence(n, where, right)
	if !ok {
		return nil
	}
	if len(items) == 0 {
		p.Fail(n, where, "allows no model; "+right)
	}
	for i, item := range items {
		at := fmt.Sprintf("%s[%d]", where, i)
		name, ok := p.Text(item, at)
		switch {
		case !ok:
			continue
		case name == "*" && len(items) > 1:
			p.Fail(item, at, `"*" already allows all models; remove it or the others`)
		case name != "*" && !strictyaml.NameShape.MatchString(name):
			p.Fail(item, at, fmt.Sprintf("%q is not a deployment name; %s", name, right))
		case slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) }):
			p.Fail(item, at, fmt.Sprintf("%q occurs twice; remove one", name))
		case name != "*" && len(declared) > 0 && declared[strings.ToLower(name)].Name == "":
			p.Fail(item, at, fmt.Sprintf("model %q is not declared under models%s", name, strictyaml.Suggest(name, modelNames(declared))))
		}
		names = append(names, name)
	}
	return names
}

func modelNames(declared map[string]Model) (names []string) {
	for _, m := range declared {
		names = append(names, m.Name)
	}
	slices.Sort(names)
	return names
}
