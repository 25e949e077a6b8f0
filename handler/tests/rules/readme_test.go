package rules_test

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"aoaigateway/handler/app"
)

var update = flag.Bool("update", false, "rewrite the README's settings table")

const readme = "../../../README.md"

// section returns what stands between two marker comments.
func section(t *testing.T, text, name string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, "<!-- "+name+" -->\n")
	body, _, ok2 := strings.Cut(rest, "<!-- /"+name+" -->")
	if !ok || !ok2 {
		t.Fatalf("the README has no section %q", name)
	}
	return body
}

func settingsTable() string {
	var b strings.Builder
	b.WriteString("| setting | default | meaning |\n|---|---|---|\n")
	for _, row := range app.SettingRows {
		value := ""
		if row.Default != "" {
			value = "`" + row.Default + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", row.Name, value, row.Help)
	}
	return b.String()
}

func TestReadmeListsEverySetting(t *testing.T) {
	data, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	have, want := section(t, string(data), "settings"), settingsTable()
	if have == want {
		return
	}
	if !*update {
		t.Fatalf("the settings table is stale; run: go test ./handler/tests/rules -run TestReadmeListsEverySetting -update")
	}
	text := strings.Replace(string(data), "<!-- settings -->\n"+have, "<!-- settings -->\n"+want, 1)
	if err := os.WriteFile(readme, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

var moduleName = regexp.MustCompile("(?m)^\\| `([^`]+)`")

func TestReadmeNamesEveryDependencyAndNoOther(t *testing.T) {
	data, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile("../../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	var named, required []string
	for _, m := range moduleName.FindAllStringSubmatch(section(t, string(data), "dependencies"), -1) {
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
		t.Errorf("the README names\n%v\ngo.mod requires\n%v", named, required)
	}
}
