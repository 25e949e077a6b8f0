package template

import (
	"regexp"
	"strings"
	"testing"
)

// What the firewall sees is in lower case, before or after a rewrite that decodes once more.
func TestDotsAreRefused(t *testing.T) {
	pattern := regexp.MustCompile(dots)
	for uri, want := range map[string]bool{
		"/openai/../manage/api":                                     true,
		"/openai/%2E%2e/manage":                                     true,
		"/openai/.%2e/manage":                                       true,
		"//openai/%252e%252e/manage":                                true,
		"//openai/%25252e%25252E/manage":                            true,
		"/openai%2f..%2fmanage":                                     true,
		"/openai/deployments/gpt-5.4-mini/chat/completions":         false,
		"/openai/v1/files/a.b.jsonl?after=..":                       false,
		"/openai/deployments/ft%3agpt-4.1/chat/completions?x=%2e":   false,
		"/openai/v1/responses/resp_25252e":                          false,
		"/manage/api/usage?from=2027-01-01&by=subscription,model..": false,
	} {
		if got := pattern.MatchString(strings.ToLower(uri)); got != want {
			t.Errorf("%s: refused is %t", uri, got)
		}
	}
}
