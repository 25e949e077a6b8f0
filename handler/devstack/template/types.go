package template

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
)

//go:embed types.json
var typesJSON []byte

// azureTypes are Azure's types by lower-case type@version, as types.json describes them. They are read once.
var azureTypes = sync.OnceValues(func() (map[string]any, error) {
	var slice struct{ Types map[string]any }
	if err := json.Unmarshal(typesJSON, &slice); err != nil {
		return nil, fmt.Errorf("types.json: %w", err)
	}
	types := map[string]any{}
	for name, t := range slice.Types {
		types[strings.ToLower(name)] = t
	}
	return types, nil
})

// Properties that the language itself has on every resource.
var envelope = []string{"parent", "dependsOn", "scope", "name", "location", "tags"}

type typeChecker struct {
	file     string
	source   *file
	findings []Finding
}

func (c *typeChecker) add(line int, format string, args ...any) {
	c.findings = append(c.findings, Finding{c.file, line, fmt.Sprintf(format, args...)})
}

// checkTypes says where a template does not parse, or does not fit Azure's types.
func checkTypes(all templates) ([]Finding, error) {
	types, err := azureTypes()
	if err != nil {
		return nil, err
	}
	c := &typeChecker{}
	for _, name := range all.names() {
		for _, b := range all[name].Broken {
			c.file = all[name].path
			c.add(b.Line, "does not parse near %q", b.Text)
		}
	}
	all.each("resource", func(f *file, d *declaration) {
		c.file, c.source = f.path, f
		t, ok := types[strings.ToLower(d.Target)].(map[string]any)
		if !ok {
			c.add(d.Line, "%s is not in types.json", d.Target)
			return
		}
		if d.Existing {
			return
		}
		body := d.body()
		if body == nil {
			c.add(d.Line, "%s has no body", d.Name)
			return
		}
		for _, p := range body.Props {
			switch want, known := t[p.Name]; {
			case slices.Contains(envelope, p.Name):
			case !known:
				c.add(p.Line, "%s.%s: unknown property", d.resourceType(), p.Name)
			default:
				c.check(p.Value, want, d.Name+"."+p.Name)
			}
		}
	})
	return c.findings, nil
}

func (c *typeChecker) check(e *expr, want any, where string) {
	if want == nil || want == "any" {
		return
	}
	if value := c.source.resolve(e); value != e {
		c.check(value, want, where)
		return
	}
	switch e.Kind {
	case "if":
		for _, branch := range e.Items {
			c.check(branch, want, where)
		}
	case "call":
		if list, ok := want.([]any); ok && e.Name == "map" && len(e.Items) == 2 && e.Items[1].Kind == "lambda" {
			c.check(e.Items[1].Items[0], list[0], where+"[]")
		}
	case "for":
		if list, ok := want.([]any); ok {
			c.check(e.Items[0], list[0], where+"[]")
		}
	case "object":
		c.object(e, want, where)
	case "array":
		list, ok := want.([]any)
		if !ok {
			c.add(e.Line, "%s: an array where %s belongs", where, describe(want))
			return
		}
		for _, item := range e.Items {
			c.check(item, list[0], where+"[]")
		}
	case "string", "template", "number", "boolean":
		c.scalar(e, want, where)
	}
}

func (c *typeChecker) object(e *expr, want any, where string) {
	fields, ok := want.(map[string]any)
	if !ok {
		c.add(e.Line, "%s: an object where %s belongs", where, describe(want))
		return
	}
	for _, p := range e.Props {
		t, known := fields[p.Name]
		if !known {
			t, known = fields["*"]
		}
		if !known {
			c.add(p.Line, "%s.%s: unknown property", where, p.Name)
			continue
		}
		c.check(p.Value, t, where+"."+p.Name)
	}
}

func (c *typeChecker) scalar(e *expr, want any, where string) {
	t, ok := want.(string)
	if !ok {
		c.add(e.Line, "%s: a %s where %s belongs", where, e.Kind, describe(want))
		return
	}
	kinds := map[string]string{"i": "number", "b": "boolean"}
	is := map[string]string{"number": "number", "boolean": "boolean"}[e.Kind]
	if kinds[t] != is {
		c.add(e.Line, "%s: %s where %s belongs", where, e.Text, describe(want))
		return
	}
	if e.Kind == "string" && strings.Contains(t, "|") && !strings.HasPrefix(t, "~") && !slices.Contains(strings.Split(t, "|"), e.Text) {
		c.add(e.Line, "%s: %q is not one of %s", where, e.Text, t)
	}
	// Unions that Azure leaves open still name all that it takes today, with few exceptions.
	if e.Kind == "string" && strings.HasPrefix(t, "~") && !slices.Contains(strings.Split(t[1:], "|"), e.Text) &&
		!slices.Contains(beyondTypes, e.Text) && !strings.HasPrefix(e.Text, "Custom-") {
		c.add(e.Line, "%s: %q is not one of %s", where, e.Text, t[1:])
	}
}

// beyondTypes are values that Azure documents and its types do not list; streams of custom tables begin with Custom-.
var beyondTypes = []string{"Direct"}

func describe(t any) string {
	switch t := t.(type) {
	case string:
		if name, ok := map[string]string{"s": "a string", "i": "a number", "b": "a boolean"}[t]; ok {
			return name
		}
		return "one of " + strings.TrimPrefix(t, "~")
	case []any:
		return "an array"
	default:
		return "an object"
	}
}
