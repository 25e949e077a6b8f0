// Package strictyaml reads YAML strictly. It collects every unknown key and every wrong
// value as a mistake with its line and column.
package strictyaml

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Reader reads YAML nodes and collects all mistakes.
type Reader struct{ mistakes []mistake }

// NameShape is the form of names of deployments in Azure. Names of products and limits must
// have the same form, because they become parts of table keys and headers.
var NameShape = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// Mistakes returns the number of mistakes found so far.
func (r *Reader) Mistakes() int { return len(r.mistakes) }

type mistake struct {
	line, column int
	text         string
}

// Fields are the keys that a mapping may have, each with the function that reads the key's
// value.
type Fields map[string]func(*yaml.Node)

// Fail adds a mistake at the position of a node.
func (r *Reader) Fail(n *yaml.Node, where, text string) {
	r.failAt(n.Line, n.Column, where+": "+text)
}

func (r *Reader) failAt(line, column int, text string) {
	r.mistakes = append(r.mistakes, mistake{line, column, text})
}

// Mapping reads a mapping and returns the keys that it has; nil = n is not a mapping.
// Unknown keys are mistakes.
func (r *Reader) Mapping(n *yaml.Node, where string, known Fields) []string {
	names := make([]string, 0, len(known))
	for name := range known {
		names = append(names, name)
	}
	slices.Sort(names)
	return r.pairs(n, where, "keys "+strings.Join(names, ", "), func(key string, k, v *yaml.Node) {
		read, ok := known[key]
		if !ok {
			r.Fail(k, where, fmt.Sprintf("unknown key %q%s", key, Suggest(key, names)))
			return
		}
		read(v)
	})
}

// Named reads a mapping whose keys are names that the author of the file has chosen.
func (r *Reader) Named(n *yaml.Node, where string, read func(name string, v *yaml.Node)) []string {
	if IsNull(n) {
		return nil
	}
	return r.pairs(n, where, "names, each with a mapping", func(name string, k, v *yaml.Node) {
		if !NameShape.MatchString(name) {
			r.Fail(k, where, fmt.Sprintf("%q is not a valid name; use up to 64 letters, digits, dots, dashes and underscores", name))
			return
		}
		read(name, v)
	})
}

// pairs calls visit for every key of a mapping and returns the keys; nil = n is not a
// mapping. Keys that occur twice are mistakes.
func (r *Reader) pairs(n *yaml.Node, where, right string, visit func(key string, k, v *yaml.Node)) []string {
	if n = resolve(n); n.Kind != yaml.MappingNode {
		r.Fail(n, where, "is "+Kind(n)+"; it must be a mapping of "+right)
		return nil
	}
	seen := make(map[string]int, len(n.Content)/2)
	keys := []string{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := resolve(n.Content[i]), resolve(n.Content[i+1])
		keys = append(keys, k.Value)
		if k.Kind != yaml.ScalarNode || k.ShortTag() != "!!str" {
			r.Fail(k, where, "a key is "+Kind(k)+"; it must be text, so put it in quotes")
			continue
		}
		if line, twice := seen[k.Value]; twice {
			r.Fail(k, where, fmt.Sprintf("key %q occurs twice, first in line %d; keep one", k.Value, line))
			continue
		}
		seen[k.Value] = k.Line
		visit(k.Value, k, v)
	}
	return keys
}

// Require adds a mistake for each wanted key that have lacks.
func (r *Reader) Require(n *yaml.Node, where string, have []string, want ...string) {
	for _, key := range want {
		if !slices.Contains(have, key) {
			r.Fail(n, where, key+" is missing")
		}
	}
}

// Sequence returns the items of a list; false = n is not a list. right says in the mistake
// what to write.
func (r *Reader) Sequence(n *yaml.Node, where, right string) ([]*yaml.Node, bool) {
	if n = resolve(n); n.Kind != yaml.SequenceNode {
		r.Fail(n, where, "is "+Kind(n)+"; "+right)
		return nil, false
	}
	items := make([]*yaml.Node, len(n.Content))
	for i, item := range n.Content {
		items[i] = resolve(item)
	}
	return items, true
}

// Text returns the value of a text node; false = n is not a text.
func (r *Reader) Text(n *yaml.Node, where string) (string, bool) {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
		r.Fail(n, where, "is "+Kind(n)+"; it must be text, in quotes if necessary")
		return "", false
	}
	return n.Value, true
}

// Name returns a text that is a valid name, or "" after a mistake.
func (r *Reader) Name(n *yaml.Node, where string) string {
	name, ok := r.Text(n, where)
	if ok && !NameShape.MatchString(name) {
		r.Fail(n, where, fmt.Sprintf("%q is not a valid name; use up to 64 letters, digits, dots, dashes and underscores", name))
	}
	return name
}

// Integer returns a whole number from least to most; false = n is none.
func (r *Reader) Integer(n *yaml.Node, where string, least, most int64) (int64, bool) {
	right := fmt.Sprintf("it must be a whole number from %d to %d", least, most)
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" {
		r.Fail(n, where, "is "+Kind(n)+"; "+right)
		return 0, false
	}
	v, err := strconv.ParseInt(strings.ReplaceAll(n.Value, "_", ""), 10, 64)
	if err != nil || v < least || v > most {
		r.Fail(n, where, n.Value+" is out of range; "+right)
		return 0, false
	}
	return v, true
}

// Boolean returns the value of true or false. Any other value is a mistake, for which it
// returns false.
func (r *Reader) Boolean(n *yaml.Node, where string) bool {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" {
		r.Fail(n, where, "is "+Kind(n)+"; it must be true or false")
		return false
	}
	return strings.EqualFold(n.Value, "true")
}

// Duration returns a duration from least to most, or 0 after a mistake.
func (r *Reader) Duration(n *yaml.Node, where string, least, most time.Duration) time.Duration {
	d, err := time.ParseDuration(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || d < least || d > most {
		r.Fail(n, where, fmt.Sprintf("is %s; it must be a time from %v to %v, such as 90s", Kind(n), least, most))
		return 0
	}
	return d
}

// OneOf returns the value if it is one of values. Any other value is a mistake, for which
// it returns "".
func OneOf[T ~string](r *Reader, n *yaml.Node, where string, values ...T) T {
	names := make([]string, len(values))
	for i, v := range values {
		names[i] = string(v)
	}
	value, ok := r.Text(n, where)
	if ok && !slices.Contains(names, value) {
		r.Fail(n, where, fmt.Sprintf("%q is not known%s", value, Suggest(value, names)))
	}
	return T(value)
}

func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

// IsNull reports whether a node has no value.
func IsNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// Kind describes a node in the words of messages, such as "a list".
func Kind(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case IsNull(n):
		return "empty"
	case n.ShortTag() == "!!str":
		return fmt.Sprintf("the text %q", Shorten(n.Value))
	}
	return Shorten(n.Value)
}

// Shorten cuts text that is too long for a message.
func Shorten(s string) string {
	if r := []rune(s); len(r) > 40 {
		return string(r[:40]) + "…"
	}
	return s
}

// Document returns the root node of a file that has exactly one document; nil = it has not.
// Messages use what for the content of the file and needs for what it must have.
func (r *Reader) Document(data []byte, what, needs string) *yaml.Node {
	d := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	err := d.Decode(&doc)
	switch {
	case errors.Is(err, io.EOF) || err == nil && len(doc.Content) == 0:
		r.failAt(1, 1, "the file is empty; it needs "+needs)
	case err != nil:
		r.syntax(err)
	case !errors.Is(d.Decode(&second), io.EOF):
		r.failAt(max(second.Line, 1), max(second.Column, 1), "a second document begins here; a file must have only one "+what)
	default:
		return doc.Content[0]
	}
	return nil
}

// syntax adds a mistake for an error of the YAML library. It takes the line from the
// error's text, which has no column.
func (r *Reader) syntax(err error) {
	text, line := strings.TrimPrefix(err.Error(), "yaml: "), 1
	if _, serr := fmt.Sscanf(text, "line %d:", &line); serr == nil {
		_, text, _ = strings.Cut(text, ": ")
	}
	r.failAt(line, 1, "this is not valid YAML: "+text)
}

// Err returns an error with one line "name:line:column: text" for each mistake; nil = there
// are none.
func (r *Reader) Err(name string) error {
	slices.SortStableFunc(r.mistakes, func(a, b mistake) int {
		return cmp.Or(cmp.Compare(a.line, b.line), cmp.Compare(a.column, b.column))
	})
	errs := make([]error, len(r.mistakes))
	for i, m := range r.mistakes {
		errs[i] = fmt.Errorf("%s:%d:%d: %s", name, m.line, m.column, m.text)
	}
	return errors.Join(errs...)
}
