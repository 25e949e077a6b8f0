package template

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"aoaigateway/handler/devstack/stack"
)

var update = flag.Bool("update", false, "rewrite columns.json, workbook.json and the README's graph and costs")

const root = "../../.."

func TestCheckFindsNoMistake(t *testing.T) {
	if *update {
		rewriteGenerated(t)
	}
	found, err := Check(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		t.Error(f)
	}
}

func rewriteGenerated(t *testing.T) {
	t.Helper()
	var b bytes.Buffer
	b.WriteString("[\n")
	for i, c := range Columns() {
		line, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			b.WriteString(",\n")
		}
		b.WriteString("  ")
		b.Write(line)
	}
	b.WriteString("\n]\n")
	book, err := Workbook(root)
	if err != nil {
		t.Fatal(err)
	}
	all, err := readTemplates(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(filepath.Join(root, "infra/README.md"))
	if err != nil {
		t.Fatal(err)
	}
	section := regexp.MustCompile(`(?s)` + graphMark + `.*<!-- /deployment -->`)
	readme = section.ReplaceAllLiteral(readme, []byte(graphSection(all)))
	costs, err := costTables(root, all)
	if err != nil {
		t.Fatal(err)
	}
	readme = regexp.MustCompile(`(?s)`+costMark+`.*<!-- /costs -->`).ReplaceAllLiteral(readme, []byte(costs))
	for path, data := range map[string][]byte{"infra/columns.json": b.Bytes(), "infra/workbook.json": book, "infra/README.md": readme} {
		if err := os.WriteFile(filepath.Join(root, path), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

type mistake struct{ Mistake, File, Replace, By, Finding string }

func mistakes(t *testing.T) (list []mistake) {
	t.Helper()
	data, err := os.ReadFile("testdata/mistakes.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	return list
}

// planted is the text of a mistake's file, with the mistake in it.
func planted(t *testing.T, m mistake) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, m.File))
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(data), m.Replace, m.By, 1)
	if changed == string(data) {
		t.Fatalf("%s: %s has no %q", m.Mistake, m.File, m.Replace)
	}
	return changed
}

// parseMistakes reads all templates with mistakes at once.
func parseMistakes(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	var paths []string
	for i, m := range mistakes(t) {
		if filepath.Ext(m.File) == ".bicep" {
			path := filepath.Join(dir, fmt.Sprintf("%d.bicep", i))
			if err := os.WriteFile(path, []byte(planted(t, m)), 0o600); err != nil {
				t.Fatal(err)
			}
			paths = append(paths, path)
		}
	}
	home, err := install(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parse(t.Context(), home, paths); err != nil {
		t.Fatal(err)
	}
}

func TestEachPlantedMistakeIsFound(t *testing.T) {
	parseMistakes(t)
	said := fmt.Sprintf("some %d planted mistakes", (len(mistakes(t))+5)/10*10)
	if readme, err := os.ReadFile(filepath.Join(root, "infra/README.md")); err != nil || !strings.Contains(string(readme), said) {
		t.Errorf("infra/README.md must say %q (%v)", said, err)
	}
	for _, m := range mistakes(t) {
		if strings.HasPrefix(m.File, "dist/") {
			continue // the package's own test plants it
		}
		t.Run(m.Mistake, func(t *testing.T) {
			t.Parallel()
			dir := copyTree(t)
			if err := os.WriteFile(filepath.Join(dir, m.File), []byte(planted(t, m)), 0o644); err != nil {
				t.Fatal(err)
			}
			found, err := Check(t.Context(), dir)
			if err != nil {
				t.Fatal(err)
			}
			expect(t, found, m.Finding)
		})
	}
}

func expect(t *testing.T, found []Finding, text string) {
	t.Helper()
	for _, f := range found {
		if strings.Contains(f.String(), text) {
			return
		}
	}
	t.Errorf("nothing says %q; found:\n%v", text, found)
}

// copyTree copies what Check reads.
func copyTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, pattern := range []string{
		"azure.yaml", "host.json", "README.md", "Makefile", ".github/workflows/azure-dev.yml",
		"infra/*", "infra/queries/*", "functions/*/function.json",
		"handler/app/*.go", "handler/app/settings/*.go",
	} {
		paths, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			name, err := filepath.Rel(root, path)
			if err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(path)
			if err != nil {
				continue // a folder
			}
			to := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(to, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

// The gateway itself, twice: what is deployed must not depend on when or where it was built.
func TestPackageIsReproducible(t *testing.T) {
	var zips [2][]byte
	var dir string
	for i := range zips {
		var err error
		dir, err = stack.Stage(t.Context(), stack.StageOptions{Out: filepath.Join(t.TempDir(), "app")})
		if err != nil {
			t.Fatal(err)
		}
		if zips[i], err = os.ReadFile(dir + ".zip"); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(zips[0], zips[1]) {
		t.Error("the same tree gave two packages")
	}
	found, err := CheckPackage(dir)
	if err != nil || len(found) > 0 {
		t.Fatalf("%v, %v", found, err)
	}
	t.Logf("package: %.1f MB", float64(len(zips[0]))/(1<<20))
	for _, m := range mistakes(t) {
		if m.File == "dist/app/bin/gateway" {
			plantInPackage(t, dir, m)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "local.settings.json"), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	found, err = CheckPackage(dir)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, found, "local.settings.json: does not belong into the package")
}

func plantInPackage(t *testing.T, dir string, m mistake) {
	t.Helper()
	if err := os.Chmod(filepath.Join(dir, "bin", "gateway"), 0o644); err != nil {
		t.Fatal(err)
	}
	found, err := CheckPackage(dir)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, found, m.Finding)
}
