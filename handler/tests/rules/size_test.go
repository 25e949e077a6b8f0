package rules_test

import (
	"go/ast"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

const (
	maxFileLines     = 400
	maxFunctionLines = 45
	maxPackageLines  = 900
	maxColumns       = 140 // in characters; a tab counts as one
	maxReadmeLines   = 220
	maxMeanTestName  = 30
)

// largePackages are packages of the product with more than maxPackageLines lines, each with
// the reason.
var largePackages = map[string]string{
	"quota":   "one state machine: the lease, the slots, the reservations and the writer of a counter change under its one lock",
	"backend": "one state machine: candidates, attempts, outcomes and hedges share unexported types",
}

func TestFileLength(t *testing.T) {
	longest := 0
	for _, s := range sources(t) {
		longest = max(longest, len(s.lines))
		if len(s.lines) > maxFileLines {
			t.Errorf("%s has %d lines; at most %d", s.name, len(s.lines), maxFileLines)
		}
	}
	t.Logf("longest file: %d lines", longest)
}

func TestFunctionLength(t *testing.T) {
	longest := 0
	for _, s := range sources(t) {
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			n := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1
			longest = max(longest, n)
			if n > maxFunctionLines {
				t.Errorf("%s: %s has %d lines; at most %d", s.name, f.Name.Name, n, maxFunctionLines)
			}
		}
	}
	t.Logf("longest function: %d lines", longest)
}

func TestLineLength(t *testing.T) {
	longest := 0
	for _, s := range sources(t) {
		for i, line := range s.lines {
			n := utf8.RuneCountInString(line)
			longest = max(longest, n)
			if n > maxColumns {
				t.Errorf("%s:%d has %d columns; at most %d", s.name, i+1, n, maxColumns)
			}
		}
	}
	t.Logf("longest line: %d columns", longest)
}

func TestPackageLength(t *testing.T) {
	lines := map[string]int{}
	for _, s := range sources(t) {
		if s.product() {
			lines[s.dir] += len(s.lines)
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(lines)) {
		t.Logf("%-10s %5d lines", dir, lines[dir])
		if reason := largePackages[dir]; lines[dir] > maxPackageLines && reason == "" {
			t.Errorf("%s has %d lines; at most %d without a reason", dir, lines[dir], maxPackageLines)
		}
	}
	for dir := range largePackages {
		if lines[dir] <= maxPackageLines {
			t.Errorf("%s has %d lines and needs no reason", dir, lines[dir])
		}
	}
}

func TestTestNameLength(t *testing.T) {
	names, letters := 0, 0
	for _, s := range sources(t) {
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") && f.Name.Name != "TestMain" && strings.HasSuffix(s.name, "_test.go") {
				names, letters = names+1, letters+len(f.Name.Name)
			}
		}
	}
	mean := float64(letters) / float64(names)
	t.Logf("%d tests, mean length of their names %.1f", names, mean)
	if mean > maxMeanTestName {
		t.Errorf("the mean length of test names is %.1f; at most %d", mean, maxMeanTestName)
	}
}

func TestReadmeLength(t *testing.T) {
	data, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(data), "\n"); n > maxReadmeLines {
		t.Errorf("README.md has %d lines; at most %d", n, maxReadmeLines)
	}
}
