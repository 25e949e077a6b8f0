package policy

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

const (
	maxAmount  = 10_000_000_000_000 // keeps every sum and product of the counters far from overflow
	maxOutput  = 10_000_000         // tokens of one answer, or of one context window
	minTimeout = time.Second
	maxTimeout = 10 * time.Minute
)

// nameShape is Azure's form of deployment names. Products and limits have the same form,
// because their names become parts of keys and headers.
var nameShape = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// Parse reads a policy file. The error has one line for each mistake, in the form
// "name:line:column: where: what is wrong; what would be right".
func Parse(name string, data []byte) (*Policy, error) {
	p := &parser{}
	result := &Policy{products: map[string]Product{}, models: map[string]Model{}}
	if root := p.document(data); root != nil {
		p.policy(root, result)
	}
	if len(p.mistakes) == 0 {
		return result, nil
	}
	slices.SortStableFunc(p.mistakes, func(a, b mistake) int {
		return cmp.Or(cmp.Compare(a.line, b.line), cmp.Compare(a.column, b.column))
	})
	errs := make([]error, len(p.mistakes))
	for i, m := range p.mistakes {
		errs[i] = fmt.Errorf("%s:%d:%d: %s", name, m.line, m.column, m.text)
	}
	return nil, errors.Join(errs...)
}

func (p *parser) document(data []byte) *yaml.Node {
	d := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	err := d.Decode(&doc)
	switch {
	case errors.Is(err, io.EOF) || err == nil && len(doc.Content) == 0:
		p.failAt(1, 1, "the file is empty; it needs version and products")
	case err != nil:
		p.syntax(err)
	case !errors.Is(d.Decode(&second), io.EOF):
		p.failAt(max(second.Line, 1), max(second.Column, 1), "this is a second document; a file has one policy")
	default:
		return doc.Content[0]
	}
	return nil
}

// syntax takes the line from the YAML library's text. The library gives no column.
func (p *parser) syntax(err error) {
	text, line := strings.TrimPrefix(err.Error(), "yaml: "), 1
	if _, serr := fmt.Sscanf(text, "line %d:", &line); serr == nil {
		_, text, _ = strings.Cut(text, ": ")
	}
	p.failAt(line, 1, "this is not valid YAML: "+text)
}

func (p *parser) policy(n *yaml.Node, out *Policy) {
	var products, patterns *yaml.Node
	keys := p.mapping(n, "policy", fields{
		"version":      func(v *yaml.Node) { p.version(v) },
		"currency":     func(v *yaml.Node) { out.currency = p.currency(v) },
		"priceVersion": func(v *yaml.Node) { out.priceVersion = p.priceVersion(v) },
		"models":       func(v *yaml.Node) { p.models(v, out) },
		// Both are read last: products may name only what models and patterns declare.
		"products": func(v *yaml.Node) { products = v },
		"patterns": func(v *yaml.Node) { patterns = v },
	})
	if keys == nil {
		return
	}
	p.require(n, "policy", keys, "version", "products")
	if patterns != nil {
		p.patterns(patterns)
	}
	if products != nil && len(p.named(products, "products", func(name string, v *yaml.Node) { p.product(name, v, out) })) == 0 {
		p.fail(products, "products", "there is no product; add at least one, such as default")
	}
	if p.money != nil && !slices.Contains(keys, "currency") {
		p.fail(p.money, "policy", "has prices but no currency; add one, such as currency: USD")
	}
}

func (p *parser) version(n *yaml.Node) {
	if v, ok := p.integer(n, "version", 0, maxAmount); ok && v != 1 {
		p.fail(n, "version", fmt.Sprintf("%d is not known; this gateway reads version 1", v))
	}
}

func (p *parser) product(name string, n *yaml.Node, out *Policy) {
	where, product := "products."+name, Product{Name: name, Models: []string{"*"}, Log: LogFull}
	var limits *yaml.Node
	p.mapping(n, where, fields{
		"description":     func(v *yaml.Node) { product.Description, _ = p.text(v, where+".description") },
		"models":          func(v *yaml.Node) { product.Models = p.allowed(v, where+".models", out.models) },
		"maxOutputTokens": func(v *yaml.Node) { product.MaxOutputTokens, _ = p.integer(v, where+".maxOutputTokens", 1, maxOutput) },
		"log":             func(v *yaml.Node) { product.Log = oneOf(p, v, where+".log", LogFull, LogNone) },
		"redact":          func(v *yaml.Node) { product.Redact = p.redactions(v, where+".redact") },
		"limits":          func(v *yaml.Node) { limits = v },
	})
	if limits != nil {
		product.Limits = p.limits(limits, where+".limits", product, out)
	}
	out.products[name] = product
}

// allowed reads a product's list of models.
func (p *parser) allowed(n *yaml.Node, where string, declared map[string]Model) (names []string) {
	const right = `write ["*"] for all models, or deployment names`
	items, ok := p.sequence(n, where, right)
	if !ok {
		return nil
	}
	if len(items) == 0 {
		p.fail(n, where, "allows no model; "+right)
	}
	for i, item := range items {
		at := fmt.Sprintf("%s[%d]", where, i)
		name, ok := p.text(item, at)
		switch {
		case !ok:
			continue
		case name == "*" && len(items) > 1:
			p.fail(item, at, `"*" already allows all models; remove it or the others`)
		case name != "*" && !nameShape.MatchString(name):
			p.fail(item, at, fmt.Sprintf("%q is not a deployment name; %s", name, right))
		case slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) }):
			p.fail(item, at, fmt.Sprintf("%q occurs twice; remove one", name))
		case name != "*" && len(declared) > 0 && declared[strings.ToLower(name)].Name == "":
			p.fail(item, at, fmt.Sprintf("model %q is not declared under models%s", name, suggest(name, modelNames(declared))))
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
