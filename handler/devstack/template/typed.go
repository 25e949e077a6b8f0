package template

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

var (
	typeField = regexp.MustCompile(`(?m)^  (\w+): `)
	modelUse  = regexp.MustCompile(`\bd\.(\w+)`)
)

// checkTyped holds what the compiler is told of lists, and what it is not told: the zones and the deployments that other
// modules get are objects to it, and a misspelt key is null at run time.
func checkTyped(root string, all templates) (found []Finding) {
	text, err := os.ReadFile(filepath.Join(root, "infra", "types.bicep"))
	if err != nil {
		return []Finding{{"infra/types.bicep", 0, err.Error()}}
	}
	main := all["main.bicep"]
	for _, c := range []struct {
		name, param, kind string
		fields            []string
	}{
		{"model", "models", "model[]", fields(model{})},
		{"account", "accounts", "account[]", fields(account{})},
	} {
		if d := main.find("parameter", c.param); d == nil || d.Type != c.kind {
			found = append(found, Finding{main.path, d.lineOf(), c.param + " must be of type " + c.kind})
		}
		_, body, _ := strings.Cut(string(text), "\ntype "+c.name+" = {\n")
		body, _, _ = strings.Cut(body, "\n}\n")
		var have []string
		for _, m := range typeField.FindAllStringSubmatch(body, -1) {
			have = append(have, m[1])
		}
		if slices.Sort(have); !slices.Equal(have, c.fields) {
			found = append(found, Finding{"infra/types.bicep", 0, fmt.Sprintf("type %s has %v; the lists have %v", c.name, have, c.fields)})
		}
	}
	zones := all["network.bicep"].find("variable", "zoneNames")
	for _, name := range all.names() {
		for _, d := range all[name].Declarations {
			for _, m := range zoneUse.FindAllStringSubmatch(d.Value.text(), -1) {
				if zones == nil || zones.Value.prop(m[1]) == nil {
					found = append(found, Finding{all[name].path, d.Line, fmt.Sprintf("%s: zones has no key %s", d.Name, m[1])})
				}
			}
		}
	}
	ai := all["ai.bicep"]
	d := ai.find("resource", "deployment")
	for _, m := range modelUse.FindAllStringSubmatch(d.body().text(), -1) {
		if !slices.Contains(fields(model{}), m[1]) {
			found = append(found, Finding{ai.path, d.lineOf(), "deployment: a model has no " + m[1]})
		}
	}
	return found
}

// fields are the names of a struct's fields in JSON, sorted.
func fields(v any) []string {
	data, _ := json.Marshal(v)
	var object map[string]any
	_ = json.Unmarshal(data, &object)
	names := make([]string, 0, len(object))
	for name := range object {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
