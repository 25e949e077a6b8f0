package rules_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the generated parts of the documents")

// row is a layer of packages. A package may import only packages of lower rows.
type row struct {
	packages string // package names separated by spaces; main is the program itself
	what     string // description for doc.go
}

// product lists the rows from top to bottom.
var product = []row{
	{"main", "exit codes"},
	{"cli", "the command line"},
	{"app", "services, wiring, serving: the program as a value"},
	{"app/settings", "the table of settings, its loader and its parsers"},
	{"front", "routes, records, error rendering, the timer"},
	{"proxy admin", "one inference request; the management API"},
	{"plan", "what a request asks for and what is sent for it; pure"},
	{"auth quota backend affinity", "who calls; may they; which region answers; which region keeps an object"},
	{"auth/jwks", "the keys that an issuer of tokens publishes"},
	{"quota/state", "what a counter contains: windows, token buckets, slots; pure"},
	{"logs/export", "shipping rows to Log Analytics"},
	{"audit derive usage logs", "begin and end records; consumers of the journal; statistics; rows for Log Analytics"},
	{"assemble meter", "the object that a stream is equivalent to; what an answer used; pure"},
	{"openai/refusal", "why a region refuses or fails inside an answer; pure"},
	{"deployment/share", "which deployments are throttled or unavailable, as instances tell each other"},
	{"policy openai sse redact deployment", "the policy file; the wire format; event framing; personal data; the state of a deployment"},
	{"headers", "the headers and query parameters that pass the gateway"},
	{"derive/inflight logs/truncate", "requests in flight at a place in the journal; JSON values as short as a column takes"},
	{"policy/strictyaml", "YAML whose mistakes have their line and column"},
	{"journal journal/verify", "the append-only log of records; whether it is as it was written"},
	{"journal/manifest", "the table of journal files"},
	{"journal/format", "the format of a journal file"},
	{"table blob secret identity", "Table Storage, Blob Storage, Key Vault; tokens of the managed identity"},
	{"body", "the body of a request while it is served"},
	{"backoff idle jsonscan", "growing pauses; limits on transfers without progress; JSON read with bounded memory"},
	{"gateway", "the vocabulary of all packages above"},
}

// standIns lists the rows of the programs that simulate services. Packages of the product
// must not import them.
var standIns = []row{
	{"devstack", "the command"},
	{"devstack/stack devstack/template", "the local stack; checks of the templates"},
	{
		"devstack/azurite devstack/storageproxy devstack/wiremock devstack/aimock devstack/aoaisim devstack/funchost devstack/loganalytics",
		"the services",
	},
	{"devstack/aoaisim/scenario devstack/aoaisim/wire", "what a region answers in one case; its connections"},
	{"devstack/child devstack/tools devstack/inputs devstack/devcert", "processes, installations, inputs of azd, certificates"},
	{"devstack/kestrel", "the HTTP server of the Functions host"},
}

// exceptions are imports that the rows would forbid, each with its reason.
var exceptions = map[string]string{
	"devstack/stack → logs":    "the sink checks rows against the columns of logs",
	"devstack/template → logs": "the templates are compared with the columns of logs",
}

// azure lists the packages that may import the Azure SDK. Other packages use our own
// interfaces.
var azure = []string{"app", "cli", "table", "blob", "secret", "identity", "backend", "logs/export", "tests/harness"}

// heights maps each package to the number of its row, counted from the bottom.
func heights(rows []row) map[string]int {
	all := map[string]int{}
	for i, r := range rows {
		for name := range strings.FieldsSeq(r.packages) {
			all[name] = len(rows) - i
		}
	}
	return all
}

// group returns the rows that a package belongs to, and the package's name in these rows.
func group(dir string) (rows map[string]int, name string) {
	switch {
	case dir == "":
		return heights(product), "main"
	case strings.HasPrefix(dir, "devstack"):
		return heights(standIns), dir
	case strings.HasPrefix(dir, "tests/"):
		return nil, dir
	}
	return heights(product), dir
}

// testTwin reports whether dir is a test package inside the folder of the package that it
// tests.
func testTwin(dir string) bool {
	parent, name := path.Split(dir)
	return name == path.Base(parent)+"test"
}

func TestImportRules(t *testing.T) {
	used := map[string]bool{}
	found := packageImports(t)
	for dir, imports := range found {
		rows, name := group(dir)
		if rows != nil && rows[name] == 0 && !testTwin(dir) {
			t.Errorf("package %s stands in no row", dir)
		}
		for _, imported := range imports {
			if strings.HasPrefix(imported, "github.com/Azure/") && !slices.Contains(azure, dir) {
				t.Errorf("%s imports %s; only %v may import the Azure SDK", dir, imported, azure)
			}
			ours, ok := strings.CutPrefix(imported, module)
			if !ok || strings.HasPrefix(dir, "tests/") || allowed(dir, ours) {
				continue
			}
			pair := dir + " → " + ours
			if exceptions[pair] == "" {
				t.Errorf("%s imports %s, which stands in no lower row", dir, ours)
			}
			used[pair] = true
		}
	}
	for pair := range exceptions {
		if !used[pair] {
			t.Errorf("the exception %s is not used", pair)
		}
	}
	for name := range maps.Keys(heights(slices.Concat(product, standIns))) {
		if name != "main" && found[name] == nil {
			t.Errorf("the rows name %s, which is no package", name)
		}
	}
}

func allowed(dir, imported string) bool {
	if testTwin(dir) {
		rows, own := heights(product), path.Dir(dir)
		return imported == own || rows[imported] != 0 && rows[imported] < rows[own]
	}
	rows, name := group(dir)
	return rows[imported] != 0 && rows[imported] < rows[name]
}

func TestPackageNames(t *testing.T) {
	for dir := range packageImports(t) {
		for part := range strings.SplitSeq(dir, "/") {
			if slices.Contains([]string{"util", "utils", "common", "helper", "helpers", "core", "misc", "shared"}, part) {
				t.Errorf("the name of %s does not say what the package holds", dir)
			}
		}
	}
}

// tour returns the part of doc.go that is made from the rows.
func tour() string {
	var b strings.Builder
	for _, r := range product {
		fmt.Fprintf(&b, "//\t%-35s %s\n", strings.ReplaceAll(r.packages, " ", "  "), r.what)
	}
	return b.String()
}

func TestTourShowsRows(t *testing.T) {
	const file = "../../doc.go"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var have strings.Builder
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, "//\t") {
			have.WriteString(line)
		}
	}
	if have.String() == tour() {
		return
	}
	if !*update {
		t.Fatal("the tour in doc.go is stale; run: go test ./handler/tests/rules -run TestTourShowsRows -update")
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(data), have.String(), tour(), 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}
