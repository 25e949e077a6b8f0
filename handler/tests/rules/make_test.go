package rules_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// make test must run every test. It runs packages with tests that -short skips a second
// time, without -short.
func TestShortTestsRunInMakeTest(t *testing.T) {
	data, err := os.ReadFile("../../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^NEEDS_MORE\s*:= (.*)$`).FindSubmatch(data)
	if m == nil {
		t.Fatal("the Makefile has no NEEDS_MORE")
	}
	more := regexp.MustCompile(strings.ReplaceAll(string(m[1]), "$$", "$"))
	for _, s := range sources(t) {
		short := false
		for _, line := range s.lines {
			short = short || strings.Contains(line, "testing.Short()")
		}
		switch {
		case !short || s.dir == "tests/rules" || more.MatchString("/"+s.dir):
		case s.dir == "tests/harness": // the packages that use it are in the list
		case strings.Contains("tests/e2e/wiremock_test.go tests/e2e/aimock_test.go", s.name) &&
			strings.Contains(string(data), "-run 'WireMock|AIMock' ./handler/tests/e2e"):
		default:
			t.Errorf("%s has tests that only run without -short; add its package to NEEDS_MORE in the Makefile", s.name)
		}
	}
}
