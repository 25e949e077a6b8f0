package template

import "strings"

// checkStyle: what a hand's slip makes of the templates and the compiler would say late or not at all.
func checkStyle(all templates) (found []Finding) {
	all.each("module", func(f *file, d *declaration) {
		for _, p := range d.body().prop("params").propsOf() {
			// B14: names that come from outputs hide a module's resources from a preview.
			if strings.HasSuffix(p.Name, "Name") && p.Name != "siteHostName" && strings.Contains(p.Value.text(), ".outputs.") {
				found = append(found, Finding{f.path, p.Line, p.Name + ": make a name from token, or azd provision --preview cannot see behind it"})
			}
		}
	})
	return found
}

func (e *expr) propsOf() []property {
	if e == nil {
		return nil
	}
	return e.Props
}
