package rules_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"aoaigateway/handler/app/settings"
	"aoaigateway/handler/gateway"
)

// generated checks that the block between two marker comments of a document is want. With
// -update it writes the block.
func generated(t *testing.T, file, name, want string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	have := block(t, string(data), name)
	if have == want {
		return
	}
	if !*update {
		t.Fatalf("%s: the block %q is stale; run: go test ./handler/tests/rules -run %s -update", file, name, t.Name())
	}
	open := "<!-- " + name + " -->\n"
	text := strings.Replace(string(data), open+have, open+want, 1)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func block(t *testing.T, text, name string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, "<!-- "+name+" -->\n")
	body, _, ok2 := strings.Cut(rest, "<!-- /"+name+" -->")
	if !ok || !ok2 {
		t.Fatalf("the document has no block %q", name)
	}
	return body
}

func TestReadmeSettings(t *testing.T) {
	var b strings.Builder
	b.WriteString("| setting | default | meaning |\n|---|---|---|\n")
	for _, row := range settings.Rows {
		value := ""
		if row.Default != "" {
			value = "`" + row.Default + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", row.Name, value, row.Help)
	}
	generated(t, "../../app/README.md", "settings", b.String())
}

func TestReadmeErrors(t *testing.T) {
	var b strings.Builder
	b.WriteString("| code | status | meaning | who |\n|---|---|---|---|\n")
	for _, f := range gateway.Catalogue() {
		fmt.Fprintf(&b, "| `%s` | %d | %s | %s |\n", f.Code, f.Kind.Status(), f.Meaning, f.Fixer)
	}
	generated(t, "../../gateway/README.md", "errors", b.String())
}

var moduleName = regexp.MustCompile("(?m)^\\| `([^`]+)`")

func TestReadmeDependencies(t *testing.T) {
	data, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile("../../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	var named, required []string
	for _, m := range moduleName.FindAllStringSubmatch(block(t, string(data), "dependencies"), -1) {
		named = append(named, m[1])
	}
	for line := range strings.SplitSeq(string(mod), "\n") {
		if fields := strings.Fields(line); len(fields) == 2 && strings.HasPrefix(line, "\t") && strings.HasPrefix(fields[1], "v") {
			required = append(required, fields[0])
		}
	}
	slices.Sort(named)
	slices.Sort(required)
	if !slices.Equal(named, required) {
		t.Errorf("handler/README.md names\n%v\ngo.mod requires\n%v", named, required)
	}
}

// Every relative link in a document must lead to a file.
func TestLinksLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	for _, dir := range []string{
		"", "infra/", ".github/", "handler/", "handler/app/", "handler/gateway/", "handler/quota/", "handler/journal/", "handler/derive/",
		"handler/backend/",
	} {
		files, err := os.ReadDir("../../../" + dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if !strings.HasSuffix(f.Name(), ".md") {
				continue
			}
			data, err := os.ReadFile("../../../" + dir + f.Name())
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range link.FindAllStringSubmatch(string(data), -1) {
				if _, err := os.Stat("../../../" + dir + m[1]); err != nil {
					t.Errorf("%s%s: the link to %s leads nowhere", dir, f.Name(), m[1])
				}
			}
		}
	}
}
