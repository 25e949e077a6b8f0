package rules_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "aoaigateway/handler/"

// law says which of our packages each package may import: rows below its own, no
// neighbour. Test files are free.
var law = map[string][]string{
	"gateway":               {},
	"idle":                  {},
	"backoff":               {},
	"breaker":               {},
	"sse":                   {},
	"assemble":              {},
	"table":                 {},
	"table/tabletest":       {"table"},
	"blob":                  {"backoff"},
	"blob/blobtest":         {"blob"},
	"journal":               {"backoff", "blob", "gateway", "idle", "table"},
	"journal/journaltest":   {"blob", "gateway", "journal"},
	"redact":                {},
	"secret":                {},
	"policy":                {"gateway"},
	"openai":                {"gateway"},
	"auth":                  {"gateway", "table"},
	"auth/authtest":         {},
	"quota":                 {"backoff", "gateway", "policy", "table"},
	"backend":               {"breaker", "gateway", "idle", "openai", "secret", "sse", "table"},
	"affinity":              {"backoff", "gateway", "table"},
	"audit":                 {"backoff", "blob", "gateway", "journal", "redact"},
	"usage":                 {"gateway", "table"},
	"logs":                  {"backoff", "gateway"},
	"plan":                  {"backend", "gateway", "openai", "policy", "quota"},
	"proxy":                 {"affinity", "assemble", "audit", "backend", "gateway", "openai", "plan", "policy", "quota", "redact", "sse"},
	"admin":                 {"auth", "backend", "gateway", "policy", "secret", "usage"},
	"derive":                {"backoff", "blob", "gateway", "journal", "table"},
	"front":                 {"admin", "audit", "auth", "gateway", "idle", "openai", "plan", "proxy"},
	"cli":                   {"admin", "app", "auth", "blob", "journal", "policy", "table", "usage"},
	"app":                   {"admin", "affinity", "audit", "auth", "backend", "blob", "derive", "front", "gateway", "journal", "logs", "policy", "proxy", "quota", "secret", "table", "usage"},
	"":                      {"app", "cli"},
	"tests/harness":         {"app", "auth", "backend", "blob", "cli", "admin", "devstack/aoaisim", "devstack/azurite", "devstack/child", "devstack/loganalytics", "devstack/stack", "gateway", "journal/journaltest", "policy", "secret", "table"},
	"devstack/aoaisim":      {},
	"devstack/funchost":     {"devstack/child"},
	"devstack/child":        {},
	"devstack/tools":        {},
	"devstack/inputs":       {},
	"devstack/template":     {"devstack/tools", "logs"},
	"devstack/azurite":      {"devstack/child", "devstack/tools"},
	"devstack/wiremock":     {"devstack/child", "devstack/tools"},
	"devstack/loganalytics": {},
	"devstack/stack":        {"devstack/aoaisim", "devstack/azurite", "devstack/child", "devstack/funchost", "devstack/loganalytics", "devstack/tools", "logs"},
	"devstack":              {"devstack/inputs", "devstack/stack", "devstack/template", "devstack/tools", "devstack/funchost"},
	"tests/clients":         {"devstack/stack", "devstack/tools", "devstack/funchost"},
}

// azure lists who may import the Azure SDK; everybody else works on our own interfaces.
var azure = []string{"app", "cli", "tests/harness", "table", "blob", "secret", "backend", "logs"}

func TestPackagesImportOnlyWhatTheLawAllows(t *testing.T) {
	seen := map[string]bool{}
	for dir, imports := range packageImports(t) {
		allowed, ok := law[dir]
		if !ok {
			t.Errorf("package %q is not in the law", dir)
			continue
		}
		seen[dir] = true
		for _, path := range imports {
			if ours, ok := strings.CutPrefix(path, module); ok && !slices.Contains(allowed, ours) {
				t.Errorf("%q imports %q; it may import %v", dir, ours, allowed)
			}
			if strings.HasPrefix(path, "github.com/Azure/") && !slices.Contains(azure, dir) {
				t.Errorf("%q imports %s; only %v may import the Azure SDK", dir, path, azure)
			}
		}
	}
	for dir := range law {
		if !seen[dir] && dir != "tests/clients" {
			t.Errorf("the law names %q, which is no package", dir)
		}
	}
}

func TestNoPackageIsADrawer(t *testing.T) {
	for dir := range packageImports(t) {
		for part := range strings.SplitSeq(dir, "/") {
			if slices.Contains([]string{"util", "utils", "common", "helper", "helpers", "core", "misc", "shared"}, part) {
				t.Errorf("%q says nothing of what is in it", dir)
			}
		}
	}
}

// packageImports reads the imports of every package below this folder, tests left out.
func packageImports(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == "testdata" {
			return filepath.SkipDir
		}
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, src, parser.ImportsOnly)
		if err != nil {
			return err
		}
		dir := strings.TrimPrefix(filepath.ToSlash(filepath.Dir(path)), "../..")
		dir = strings.TrimPrefix(dir, "/")
		found[dir] = append(found[dir], "")
		for _, spec := range file.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			found[dir] = append(found[dir], name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
