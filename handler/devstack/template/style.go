package template

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// checkStyle: what a hand's slip makes of the templates and the compiler would say late or not at all.
func checkStyle(root string, all templates) (found []Finding) {
	all.each("module", func(f *file, d *declaration) {
		for _, p := range d.body().prop("params").propsOf() {
			if strings.Contains(p.Value.text(), ".outputs.") && all[d.Target].decides(p.Name) { // B14
				found = append(found, Finding{
					f.path, p.Line, p.Name + " decides what is made, or its name: an output is not known to azd provision --preview",
				})
			}
		}
	})
	for _, name := range all.names() {
		found = append(found, checkFormat(root, all[name].path)...)
	}
	return found
}

// decides says whether a parameter of a template is part of a condition, or of a name.
func (f *file) decides(param string) bool {
	word := regexp.MustCompile(`\b` + param + `\b`)
	return slices.ContainsFunc(f.Declarations, func(d declaration) bool {
		if d.Kind != "resource" && d.Kind != "module" {
			return false
		}
		// The name of a role assignment is a sum of what it binds; a public name is no resource's.
		name := d.body().prop("name")
		return word.MatchString(d.Value.Test) || name != nil && name.Name != "guid" && word.MatchString(name.text())
	})
}

const (
	bicepWidth = 150 // descriptions and conditions may be a little over the width that the compiler formats to
	tab        = "\t"
)

// checkFormat: B18. What the compiler's formatter would change in every file.
func checkFormat(root, path string) (found []Finding) {
	data, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		return []Finding{{path, 0, err.Error()}}
	}
	text := string(data)
	if strings.Contains(text, "\r") || !strings.HasSuffix(text, "}\n") && !strings.HasSuffix(text, "\n") || strings.HasSuffix(text, "\n\n") {
		found = append(found, Finding{path, 0, "must have plain line ends, and one at its end"})
	}
	prose := false // within a description of several lines
	for i, line := range strings.Split(text, "\n") {
		if prose = prose != (strings.Count(line, "'''") == 1); prose {
			continue
		}
		indent := len(line) - len(strings.TrimLeft(line, " "))
		switch {
		case strings.Contains(line, "[for ") && !strings.HasSuffix(line, "]"):
			found = append(found, Finding{path, i + 1, "a loop of several lines begins on a line of its own, after ["})
		case strings.Contains(line, tab) || indent%2 != 0:
			found = append(found, Finding{path, i + 1, "is indented by something else than two blanks a level"})
		case strings.TrimRight(line, " ") != line:
			found = append(found, Finding{path, i + 1, "ends with a blank"})
		case len([]rune(line)) > bicepWidth && !strings.Contains(line, "'"):
			found = append(found, Finding{path, i + 1, fmt.Sprintf("has more than %d characters", bicepWidth)})
		}
	}
	return found
}

func (e *expr) propsOf() []property {
	if e == nil {
		return nil
	}
	return e.Props
}
