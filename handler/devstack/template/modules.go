package template

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// checkModules: a module gets what it asks for and gives what is asked of it; files that are
// loaded exist; nothing declared is unused.
func checkModules(root string, all templates) (found []Finding) {
	all.each("module", func(f *file, d *declaration) {
		target := all[d.Target]
		if target == nil {
			found = append(found, Finding{f.path, d.Line, d.Target + " is no template"})
			return
		}
		found = append(found, checkCall(f, d, target)...)
	})
	for _, name := range all.names() {
		f := all[name]
		text, err := os.ReadFile(filepath.Join(root, f.path))
		if err != nil {
			found = append(found, Finding{f.path, 0, err.Error()})
			continue
		}
		found = append(found, checkOutputs(f, all, string(text))...)
		found = append(found, checkUse(f, string(text))...)
		for _, m := range loaded.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(root, "infra", m[1])); err != nil {
				found = append(found, Finding{f.path, 0, m[1] + " is loaded and is not there"})
			}
		}
	}
	return found
}

var (
	loaded    = regexp.MustCompile(`load(?:Text|Json)Content\('([^']+)'\)`)
	outputUse = regexp.MustCompile(`\b(\w+)!?\.\??outputs\.\??(\w+)`)
)

func checkCall(f *file, d *declaration, target *file) (found []Finding) {
	params := d.body().prop("params")
	if params == nil {
		return []Finding{{f.path, d.Line, d.Name + " has no params"}}
	}
	for _, p := range params.Props {
		if target.find("parameter", p.Name) == nil {
			found = append(found, Finding{f.path, p.Line, fmt.Sprintf("%s has no parameter %s", d.Target, p.Name)})
		}
	}
	for _, want := range target.Declarations {
		if want.Kind == "parameter" && want.Required && params.prop(want.Name) == nil {
			found = append(found, Finding{f.path, d.Line, fmt.Sprintf("%s: %s wants parameter %s", d.Name, d.Target, want.Name)})
		}
	}
	return found
}

func checkOutputs(f *file, all templates, text string) (found []Finding) {
	for _, m := range outputUse.FindAllStringSubmatch(text, -1) {
		module := f.find("module", m[1])
		if module == nil {
			found = append(found, Finding{f.path, 0, m[0] + ": no such module"})
		} else if target := all[module.Target]; target != nil && target.find("output", m[2]) == nil {
			found = append(found, Finding{f.path, module.Line, fmt.Sprintf("%s has no output %s", module.Target, m[2])})
		}
	}
	return found
}

func checkUse(f *file, text string) (found []Finding) {
	uses := map[string]int{}
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool {
		return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	}) {
		uses[word]++
	}
	for _, d := range f.Declarations {
		if (d.Kind == "parameter" || d.Kind == "variable") && uses[d.Name] < 2 {
			found = append(found, Finding{f.path, d.Line, fmt.Sprintf("%s %s is never used", d.Kind, d.Name)})
		}
	}
	return found
}

// asked are the parameters without a default; azd knows the first and asks for the others.
var asked = []string{"environmentName", "location", "network"}

// notInEnvironment are parameters whose value is no text: lists that stand in files, and the month.
var notInEnvironment = []string{"models", "accounts", "currentMonth"}

var substitution = regexp.MustCompile(`^\$\{([A-Z_]+)\}$`)

// checkParameters: every parameter of main can be set in the azd environment, under a name
// of ours, and needs no setting but those that azd asks for.
func checkParameters(root string, main *file) []Finding {
	const path = "infra/main.parameters.json"
	values, err := parameterValues(root)
	if err != nil {
		return []Finding{{path, 0, err.Error()}}
	}
	var found []Finding
	add := func(format string, args ...any) {
		found = append(found, Finding{path, 0, fmt.Sprintf(format, args...)})
	}
	for name, value := range values {
		d := main.find("parameter", name)
		m := substitution.FindStringSubmatch(value)
		switch {
		case d == nil:
			add("%s: main.bicep has no such parameter", name)
		case m == nil:
			// A4, B15: with ${NAME=default} azd replaces an empty value too.
			add("%s: must be ${NAME} without a default, not %q", name, value)
		case !strings.HasPrefix(m[1], "GW_") && m[1] != "AZURE_ENV_NAME" && m[1] != "AZURE_LOCATION":
			add("%s: %s must begin with GW_", name, m[1])
		case d.Required != slices.Contains(asked, name):
			add("%s: only %v have no default", name, asked)
		}
	}
	for _, d := range main.Declarations {
		if _, ok := values[d.Name]; d.Kind == "parameter" && !ok && !slices.Contains(notInEnvironment, d.Name) {
			add("%s of main.bicep is missing", d.Name)
		}
	}
	return found
}
