package rules_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const (
	module = "aoaigateway/handler/"
	root   = "../.." // the folder handler, relative to this package
)

// source is one Go file below handler.
type source struct {
	name  string // path below handler
	dir   string // folder of the package below handler; "" = the program itself
	lines []string
	file  *ast.File
	fset  *token.FileSet
}

func (s source) test() bool {
	return strings.HasSuffix(s.name, "_test.go") || strings.HasPrefix(s.dir, "tests/")
}
func (s source) standIn() bool { return strings.HasPrefix(s.dir, "devstack") }
func (s source) product() bool { return !s.test() && !s.standIn() && !testTwin(s.dir) }

var readSources = sync.OnceValues(func() (all []source, err error) {
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == "testdata" {
			return filepath.SkipDir
		}
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, src, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		name = filepath.ToSlash(name)
		dir := ""
		if i := strings.LastIndexByte(name, '/'); i >= 0 {
			dir = name[:i]
		}
		all = append(all, source{name, dir, strings.Split(strings.TrimSuffix(string(src), "\n"), "\n"), file, fset})
		return err
	})
	return all, err
})

func sources(t *testing.T) []source {
	t.Helper()
	all, err := readSources()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// packageImports returns the imports of every package, without imports in test files.
func packageImports(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	for _, s := range sources(t) {
		if strings.HasSuffix(s.name, "_test.go") {
			continue
		}
		found[s.dir] = append(found[s.dir], "")
		for _, spec := range s.file.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			found[s.dir] = append(found[s.dir], name)
		}
	}
	return found
}
