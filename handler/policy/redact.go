package policy

import (
	"fmt"
	"maps"
	"regexp"
	"slices"

	"go.yaml.in/yaml/v3"

	"aoaigateway/handler/policy/strictyaml"
)

// builtin are the kinds of personal data that are recognized without a pattern in the file.
var builtin = []string{"email", "card", "iban"}

const maxPattern = 1000 // bytes

// patterns reads the patterns that the file declares.
func (p *parser) patterns(n *yaml.Node) {
	p.own = map[string]*regexp.Regexp{}
	p.Named(n, "patterns", func(name string, v *yaml.Node) {
		where := "patterns." + name
		text, ok := p.Text(v, where)
		if !ok {
			return
		}
		expr, err := regexp.Compile(text)
		switch {
		case slices.Contains(builtin, name):
			p.Fail(v, where, "is built in and needs no pattern; choose another name")
		case err != nil:
			p.Fail(v, where, fmt.Sprintf("%v; write a regular expression in the syntax of RE2", err))
		case len(text) > maxPattern:
			p.Fail(v, where, fmt.Sprintf("is longer than %d bytes; write a shorter pattern", maxPattern))
		case expr.MatchString(""):
			p.Fail(v, where, "matches the empty text and so would match everywhere; write a pattern that needs at least one character")
		}
		p.own[name] = expr
	})
}

func (p *parser) redactions(n *yaml.Node, where string) (list []Redaction) {
	items, _ := p.Sequence(n, where, "write a list such as [email, card]")
	for i, item := range items {
		at := fmt.Sprintf("%s[%d]", where, i)
		name, ok := p.Text(item, at)
		expr, own := p.own[name]
		switch {
		case !ok:
			continue
		case !own && !slices.Contains(builtin, name):
			p.Fail(item, at, fmt.Sprintf("%q is neither declared under patterns nor one of email, card and iban%s",
				name, strictyaml.Suggest(name, p.kinds())))
		case slices.ContainsFunc(list, func(r Redaction) bool { return r.Name == name }):
			p.Fail(item, at, fmt.Sprintf("%q occurs twice; remove one", name))
		}
		list = append(list, Redaction{name, expr})
	}
	return list
}

func (p *parser) kinds() []string {
	return append(slices.Sorted(maps.Keys(p.own)), builtin...)
}
