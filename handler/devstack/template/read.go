// Package template checks what `azd up` deploys without deploying it, and without the Bicep
// compiler: that the templates parse and fit Azure's own types; that they keep the rules an
// operator signs off (rights, closed doors, streaming); that they agree with the program
// about settings, columns, tables and routes; and that the package has what the Functions
// host looks for.
//
// Templates are read by read.mjs with the grammar tree-sitter-bicep, pinned in
// package-lock.json. types.json is a slice of Azure's published types; to widen it, add the
// type from github.com/Azure/bicep-types-az at the version that a template names.
package template

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"aoaigateway/handler/devstack/tools"
)

//go:embed package.json package-lock.json read.mjs
var reader embed.FS

// Finding is one mistake and where it is.
type Finding struct {
	File string // from the tree's root, slashes
	Line int    // 0 = the file as a whole
	What string
}

func (f Finding) String() string {
	if f.Line == 0 {
		return f.File + ": " + f.What
	}
	return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.What)
}

type file struct {
	path         string
	Declarations []declaration
	Broken       []struct {
		Line int
		Text string
	}
}

type declaration struct {
	Kind       string // parameter, variable, output, resource, module
	Name       string
	Line       int
	Decorators []string
	Type       string // of a parameter
	Required   bool   // a parameter without a default
	Target     string // type@version, or a module's file
	Existing   bool
	Value      *expr
}

type expr struct {
	Kind  string // object, array, if, for, lambda, call, string, template, number, boolean …
	Line  int
	Text  string
	Name  string // of a call
	Test  string // of an if
	Items []*expr
	Props []property
}

type property struct {
	Name  string
	Line  int
	Value *expr
}

// templates are all files of infra/, by name.
type templates map[string]*file

func readTemplates(ctx context.Context, root string) (templates, error) {
	home, err := install(ctx)
	if err != nil {
		return nil, err
	}
	paths, err := filepath.Glob(filepath.Join(root, "infra", "*.bicep"))
	if err != nil || len(paths) == 0 {
		return nil, fmt.Errorf("no templates below %s (%w)", root, err)
	}
	texts, err := parse(ctx, home, paths)
	if err != nil {
		return nil, err
	}
	all := templates{}
	for path, text := range texts {
		read, _ := parsed.Load(text)
		f := *read.(*file)
		f.path = "infra/" + filepath.Base(path)
		all[filepath.Base(path)] = &f
	}
	for _, name := range []string{"main", "store", "app", "ai", "attach", "observe", "rows", "network", "link", "edge"} {
		if all[name+".bicep"] == nil {
			return nil, fmt.Errorf("infra/%s.bicep is missing", name)
		}
	}
	return all, nil
}

// parsed are files by their text: starting node takes longer than everything else.
var parsed sync.Map

// parse reads files into parsed, those that are not there yet, and returns their texts by path.
func parse(ctx context.Context, home string, paths []string) (map[string]string, error) {
	texts := map[string]string{}
	var unread []string
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		texts[path] = string(data)
		if _, ok := parsed.Load(texts[path]); !ok {
			unread = append(unread, path)
		}
	}
	if len(unread) == 0 {
		return texts, nil
	}
	cmd := exec.CommandContext(ctx, "node", append([]string{"read.mjs"}, unread...)...)
	cmd.Dir, cmd.Stderr = home, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("read.mjs: %w", err)
	}
	byPath := map[string]*file{}
	if err := json.Unmarshal(out, &byPath); err != nil {
		return nil, err
	}
	for path, f := range byPath {
		parsed.Store(texts[path], f)
	}
	return texts, nil
}

func install(ctx context.Context) (string, error) {
	var lock []byte
	for _, name := range []string{"package.json", "package-lock.json", "read.mjs"} {
		data, err := reader.ReadFile(name)
		if err != nil {
			return "", err
		}
		lock = append(lock, data...)
	}
	return tools.Install(ctx, "bicep", lock, func(dir string) error {
		for _, name := range []string{"package.json", "package-lock.json", "read.mjs"} {
			data, err := reader.ReadFile(name)
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				return err
			}
		}
		cmd := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("npm ci: %w\n%s", err, out)
		}
		return nil
	})
}

// names of all files in a fixed order.
func (t templates) names() []string {
	names := make([]string, 0, len(t))
	for name := range t {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// each calls f for every declaration of a kind in every file.
func (t templates) each(kind string, f func(*file, *declaration)) {
	for _, name := range t.names() {
		for i := range t[name].Declarations {
			if d := &t[name].Declarations[i]; d.Kind == kind {
				f(t[name], d)
			}
		}
	}
}

func (f *file) find(kind, name string) *declaration {
	if f == nil {
		return nil
	}
	i := slices.IndexFunc(f.Declarations, func(d declaration) bool { return d.Kind == kind && d.Name == name })
	if i < 0 {
		return nil
	}
	return &f.Declarations[i]
}

// resourceType is the type without its version.
func (d *declaration) resourceType() string {
	name, _, _ := strings.Cut(d.Target, "@")
	return name
}

// body is the object that a resource or module is made from, through conditions and loops.
func (d *declaration) body() *expr {
	e := d.Value
	for e != nil && e.Kind != "object" {
		if len(e.Items) == 0 {
			return nil
		}
		e = e.Items[0]
	}
	return e
}

// at walks down by property names; nil where there is none.
func (e *expr) at(path ...string) *expr {
	for _, name := range path {
		if e = e.prop(name); e == nil {
			return nil
		}
	}
	return e
}

func (e *expr) prop(name string) *expr {
	if e == nil {
		return nil
	}
	for _, p := range e.Props {
		if p.Name == name {
			return p.Value
		}
	}
	return nil
}

// in is the expression's value in one state, where conditions on the state decide it.
func (e *expr) in(s state) *expr {
	for e != nil && e.Kind == "if" && len(e.Items) == 2 {
		yes, known := map[string]bool{
			"private": s.private, "isPrivate": s.private, "closed": s.closed,
			"!private": !s.private, "!isPrivate": !s.private, "!closed": !s.closed,
		}[e.Test]
		if !known {
			return e
		}
		e = e.Items[map[bool]int{true: 0, false: 1}[yes]]
	}
	return e
}

func (e *expr) text() string {
	if e == nil {
		return ""
	}
	return e.Text
}

func (e *expr) line() int {
	if e == nil {
		return 0
	}
	return e.Line
}

// walk visits an expression and all within it.
func (e *expr) walk(f func(*expr)) {
	if e == nil {
		return
	}
	f(e)
	for _, i := range e.Items {
		i.walk(f)
	}
	for _, p := range e.Props {
		p.Value.walk(f)
	}
}
