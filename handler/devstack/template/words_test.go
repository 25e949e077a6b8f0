package template

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEachMissingWordIsFound(t *testing.T) {
	all, err := readTemplates(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(filepath.Join(root, "infra/README.md"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "infra"), 0o755); err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(string(readme)), " ")
	for words, why := range told {
		changed := strings.ReplaceAll(text, words, "")
		if err := os.WriteFile(filepath.Join(dir, "infra/README.md"), []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		expect(t, checkWords(dir, all["main.bicep"]), why)
	}
}
