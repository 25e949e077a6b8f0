package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// parser walks YAML nodes, which have their line and column, and collects all mistakes.
type parser struct {
	mistakes []mistake
	money    *yaml.Node // the first node that needs a currency; nil = none
	own      map[string]*regexp.Regexp
}

type mistake struct {
	line, column int
	text         string
}

// fields are the keys that a mapping may have, each with the function that reads its value.
type fields map[string]func(*yaml.Node)

func (p *parser) fail(n *yaml.Node, where, text string) {
	p.failAt(n.Line, n.Column, where+": "+text)
}

func (p *parser) failAt(line, column int, text string) {
	p.mistakes = append(p.mistakes, mistake{line, column, text})
}

// mapping reads a mapping and returns its keys; nil if n is not a mapping.
func (p *parser) mapping(n *yaml.Node, where string, known fields) []string {
	names := make([]string, 0, len(known))
	for name := range known {
		names = append(names, name)
	}
	slices.Sort(names)
	return p.pairs(n, where, "keys "+strings.Join(names, ", "), func(key string, k, v *yaml.Node) {
		read, ok := known[key]
		if !ok {
			p.fail(k, where, fmt.Sprintf("unknown key %q%s", key, suggest(key, names)))
			return
		}
		read(v)
	})
}

// named reads a mapping whose keys are names that the user chose.
func (p *parser) named(n *yaml.Node, where string, read func(name string, v *yaml.Node)) []string {
	if isNull(n) {
		return nil
	}
	return p.pairs(n, where, "names, each with a mapping", func(name string, k, v *yaml.Node) {
		if !nameShape.MatchString(name) {
			p.fail(k, where, fmt.Sprintf("%q is not a valid name; use up to 64 letters, digits, dots, dashes and underscores", name))
			return
		}
		read(name, v)
	})
}

// pairs visits every key once and returns the keys; nil if n is not a mapping.
func (p *parser) pairs(n *yaml.Node, where, right string, visit func(key string, k, v *yaml.Node)) []string {
	if n = resolve(n); n.Kind != yaml.MappingNode {
		p.fail(n, where, "is "+kind(n)+"; it must be a mapping of "+right)
		return nil
	}
	seen := make(map[string]int, len(n.Content)/2)
	keys := []string{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := resolve(n.Content[i]), resolve(n.Content[i+1])
		keys = append(keys, k.Value)
		if k.Kind != yaml.ScalarNode || k.ShortTag() != "!!str" {
			p.fail(k, where, "a key is "+kind(k)+"; it must be text, so put it in quotes")
			continue
		}
		if line, twice := seen[k.Value]; twice {
			p.fail(k, where, fmt.Sprintf("key %q occurs twice, first in line %d; keep one", k.Value, line))
			continue
		}
		seen[k.Value] = k.Line
		visit(k.Value, k, v)
	}
	return keys
}

func (p *parser) require(n *yaml.Node, where string, have []string, want ...string) {
	for _, key := range want {
		if !slices.Contains(have, key) {
			p.fail(n, where, key+" is missing")
		}
	}
}

func (p *parser) sequence(n *yaml.Node, where, right string) ([]*yaml.Node, bool) {
	if n = resolve(n); n.Kind != yaml.SequenceNode {
		p.fail(n, where, "is "+kind(n)+"; "+right)
		return nil, false
	}
	items := make([]*yaml.Node, len(n.Content))
	for i, item := range n.Content {
		items[i] = resolve(item)
	}
	return items, true
}

func (p *parser) text(n *yaml.Node, where string) (string, bool) {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
		p.fail(n, where, "is "+kind(n)+"; it must be text, in quotes if necessary")
		return "", false
	}
	return n.Value, true
}

func (p *parser) name(n *yaml.Node, where string) string {
	name, ok := p.text(n, where)
	if ok && !nameShape.MatchString(name) {
		p.fail(n, where, fmt.Sprintf("%q is not a valid name; use up to 64 letters, digits, dots, dashes and underscores", name))
	}
	return name
}

func (p *parser) integer(n *yaml.Node, where string, least, most int64) (int64, bool) {
	right := fmt.Sprintf("it must be a whole number from %d to %d", least, most)
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" {
		p.fail(n, where, "is "+kind(n)+"; "+right)
		return 0, false
	}
	v, err := strconv.ParseInt(strings.ReplaceAll(n.Value, "_", ""), 10, 64)
	if err != nil || v < least || v > most {
		p.fail(n, where, n.Value+" is out of range; "+right)
		return 0, false
	}
	return v, true
}

func (p *parser) boolean(n *yaml.Node, where string) bool {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" {
		p.fail(n, where, "is "+kind(n)+"; it must be true or false")
		return false
	}
	return strings.EqualFold(n.Value, "true")
}

func (p *parser) duration(n *yaml.Node, where string) time.Duration {
	d, err := time.ParseDuration(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || d < minTimeout || d > maxTimeout {
		p.fail(n, where, fmt.Sprintf("is %s; it must be a time from %v to %v, such as 90s", kind(n), minTimeout, maxTimeout))
		return 0
	}
	return d
}

func oneOf[T ~string](p *parser, n *yaml.Node, where string, values ...T) T {
	names := make([]string, len(values))
	for i, v := range values {
		names[i] = string(v)
	}
	value, ok := p.text(n, where)
	if ok && !slices.Contains(names, value) {
		p.fail(n, where, fmt.Sprintf("%q is not known%s", value, suggest(value, names)))
	}
	return T(value)
}

func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// kind describes a node for the person who wrote it.
func kind(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case isNull(n):
		return "empty"
	case n.ShortTag() == "!!str":
		return fmt.Sprintf("the text %q", shorten(n.Value))
	}
	return shorten(n.Value)
}

func shorten(s string) string {
	if r := []rune(s); len(r) > 40 {
		return string(r[:40]) + "…"
	}
	return s
}
