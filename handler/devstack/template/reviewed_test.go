package template

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A comment and a description are no change; what is meant is taken with check --update, and named.
func TestReviewedTakesUpdate(t *testing.T) {
	dir := copyTree(t)
	path := filepath.Join(dir, "infra", "store.bicep")
	write := func(old, by string) {
		data, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(data), old) {
			t.Fatalf("%v, or no %q", err, old)
		}
		if err := os.WriteFile(path, []byte(strings.Replace(string(data), old, by, 1)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	findings := func() (about []string) {
		all, err := readTemplates(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range checkReviewed(dir, all) {
			about = append(about, f.String())
		}
		return about
	}
	write("    deleteRetentionPolicy: {", "    // for a week\n    deleteRetentionPolicy:  {")
	if found := findings(); len(found) > 0 {
		t.Errorf("a comment: %v", found)
	}
	write("deleteRetentionPolicy:  { enabled: true, days: 7 }", "deleteRetentionPolicy: { enabled: true, days: 8 }")
	if found := findings(); len(found) != 1 || !strings.Contains(found[0], "deleted records can be brought back for a week") {
		t.Errorf("another number of days: %v", found)
	}
	changed, err := UpdateReviewed(t.Context(), dir)
	if want := []string{"infra/store.bicep resource blobs"}; err != nil || !slices.Equal(changed, want) {
		t.Errorf("%v, %v, want %v", changed, err, want)
	}
	if found := findings(); len(found) > 0 {
		t.Errorf("after the update: %v", found)
	}
}
