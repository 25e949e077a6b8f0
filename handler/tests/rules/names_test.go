package rules_test

import (
	"go/ast"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// exportedForContract are exported names that no other package uses, each with the reason
// why it is exported. A package's name stands for all of its names.
var exportedForContract = map[string]string{
	"logs/export.RefusedError":        "callers of Ship tell a refusal of all rows from other errors",
	"app/settings.DevelopmentStorage": "tests of the start give it to the real binary",
	"app.OpenExporter":                "tests ship rows to a stand-in of Log Analytics",
	"app/settings.Rows":               "the generated table of settings",
	"gateway.Catalogue":               "the generated table of errors",
	"table.OpDelete":                  tableFault,
	"table.OpGet":                     tableFault,
	"table.OpInsert":                  tableFault,
	"table.OpReplace":                 tableFault,
	"table.OpScan":                    tableFault,
	"table.OpSwap":                    tableFault,
}

const tableFault = "tests of every package let operations of the memory twin fail"

// exported returns the exported package-level names and exported methods in a file.
func exported(f *ast.File) (names []string) {
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil && d.Name.IsExported() {
				names = append(names, d.Name.Name)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					if spec.Name.IsExported() {
						names = append(names, spec.Name.Name)
					}
				case *ast.ValueSpec:
					for _, id := range spec.Names {
						if id.IsExported() {
							names = append(names, id.Name)
						}
					}
				}
			}
		}
	}
	return names
}

// usedOutside returns, by folder of the package, the names that other packages use.
func usedOutside(t *testing.T) map[string]bool {
	t.Helper()
	used := map[string]bool{}
	for _, s := range sources(t) {
		if strings.HasSuffix(s.name, "_test.go") {
			continue
		}
		local := map[string]string{}
		for _, spec := range s.file.Imports {
			ours, ok := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), module)
			if !ok {
				continue
			}
			name := path.Base(ours)
			if spec.Name != nil {
				name = spec.Name.Name
			}
			local[name] = ours
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok {
				if id, ok := sel.X.(*ast.Ident); ok && local[id.Name] != "" {
					used[local[id.Name]+"."+sel.Sel.Name] = true
				}
			}
			return true
		})
	}
	return used
}

// interfaceOf adds names that belong to a package's interface because of its exported
// declarations: types of parameters, results and fields, and the constants of a group of
// which one is used.
func interfaceOf(s source, used map[string]bool) {
	mention := func(n ast.Node) {
		ast.Inspect(n, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok && id.IsExported() {
				used[s.dir+"."+id.Name] = true
			}
			return true
		})
	}
	for _, d := range s.file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() {
				mention(d.Type)
			}
		case *ast.GenDecl:
			group := false
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					if spec.Name.IsExported() {
						mention(spec.Type)
					}
				case *ast.ValueSpec:
					for _, id := range spec.Names {
						group = group || used[s.dir+"."+id.Name]
					}
				}
			}
			if group {
				mention(d)
			}
		}
	}
}

func TestExportedNamesAreUsed(t *testing.T) {
	used := usedOutside(t)
	for _, s := range sources(t) {
		if s.product() {
			interfaceOf(s, used)
		}
	}
	unused := map[string]bool{}
	for _, s := range sources(t) {
		if !s.product() || s.dir == "" {
			continue
		}
		for _, name := range exported(s.file) {
			if !used[s.dir+"."+name] {
				unused[s.dir+"."+name] = true
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(unused)) {
		if exportedForContract[name] == "" {
			t.Errorf("%s is exported, and no other package uses it", name)
		}
	}
	for name := range exportedForContract {
		if !unused[name] {
			t.Errorf("the exception %s is not needed", name)
		}
	}
}

// privateWords are words that this code must not use, because the things that they stood
// for have common names.
var privateWords = strings.Fields(`aftermath anchor aside beside begun cmpanswer demand deriver effort fate feed
	figuresonly giveback goalone hand isolate keeper lag outrun patience patient pointless redone rig rigs sheet stamp stamps standing suspect
	takeover testify tooslow unruled unsure untold verdict vouch witness`)

// wordsOf returns the lower-case words of an identifier or a file name. It also returns
// each pair of neighbouring words, so that giveBack is found too.
func wordsOf(name string) (words []string) {
	split := regexp.MustCompile(`[A-Z]+[a-z0-9]*|[a-z0-9]+`).FindAllString(name, -1)
	for i, w := range split {
		words = append(words, strings.ToLower(w))
		if i > 0 {
			words = append(words, strings.ToLower(split[i-1]+w))
		}
	}
	return words
}

func privateWord(name string) string {
	for _, w := range wordsOf(name) {
		if slices.Contains(privateWords, w) {
			return w
		}
	}
	return ""
}

func TestPrivateWordsAreGone(t *testing.T) {
	for _, s := range sources(t) {
		if s.dir == "tests/rules" {
			continue
		}
		seen := map[string]bool{}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok && privateWord(id.Name) != "" && !seen[id.Name] {
				seen[id.Name] = true
				t.Errorf("%s: %s has the private word %s; the vocabulary in handler/README.md has the field's",
					s.fset.Position(id.Pos()), id.Name, privateWord(id.Name))
			}
			return true
		})
		if w := privateWord(strings.TrimSuffix(path.Base(s.name), ".go")); w != "" {
			t.Errorf("the file name %s has the private word %s", s.name, w)
		}
	}
}

func TestErrorsComeFromCatalogue(t *testing.T) {
	for _, s := range sources(t) {
		if !s.product() || s.dir == "gateway" {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			lit, ok := n.(*ast.CompositeLit)
			if !ok {
				return true
			}
			if sel, ok := lit.Type.(*ast.SelectorExpr); ok && sel.Sel.Name == "Error" {
				if id, ok := sel.X.(*ast.Ident); ok && id.Name == "gateway" {
					t.Errorf("%s builds a gateway.Error; take it from the catalogue in gateway/faults.go", s.fset.Position(lit.Pos()))
				}
			}
			return true
		})
	}
}
