package kestrel

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestParseTarget(t *testing.T) {
	for target, want := range map[string][2]string{
		"/":                       {"/", ""},
		"/a/b?c=d?e":              {"/a/b", "?c=d?e"},
		"/a?":                     {"/a", "?"},
		"/%41%20%e6%9d%B1":        {"/A 東", ""},
		"/%e6%9d":                 {"/%e6%9d", ""}, // not UTF-8
		"/a%2Fb%2fc":              {"/a%2Fb%2fc", ""},
		"/a%%41%4":                {"/a%A%4", ""},
		"/../../a/./b/../c/..":    {"/a/", ""},
		"/a/.../b./.c":            {"/a/.../b./.c", ""},
		"/a%2F..%2Fb/%2E%2E/c":    {"/c", ""},
		"http://h.example":        {"/", ""},
		"http://H.example/a?b":    {"/a", "?b"},
		"*":                       {"*", ""},
		"":                        {"no", ""},
		"a":                       {"no", ""},
		"/a%00":                   {"no", ""},
		"http://other.example/a":  {"no", ""},
		"/" + string(rune(0x7f)):  {"no", ""},
		"/a\tb":                   {"no", ""},
		"https://h.example/a":     {"no", ""},
		"/a/%C0%AE%C0%AE/overlon": {"/a/%C0%AE%C0%AE/overlon", ""},
	} {
		path, query, err := parseTarget(target, "h.example")
		if want[0] == "no" {
			if !errors.Is(err, errBadRequest) {
				t.Errorf("%q: %q %q %v, want a refusal", target, path, query, err)
			}
		} else if err != nil || path != want[0] || query != want[1] {
			t.Errorf("%q: %q %q %v, want %q", target, path, query, err, want)
		}
	}
}

// Whatever the caller sends, the handler gets a target without dot segments that it can parse.
func FuzzTargetIsPlain(f *testing.F) {
	for _, seed := range []string{"/a/%2e%2e/b?c=%zz", "/%2f..%2f", "/%%32%65/..", `/\..\|{}"`, "/%E6%9D/%B1?%"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, target string) {
		path, query, err := parseTarget(target, "h.example")
		if err != nil || path == "*" {
			return
		}
		sent := EncodePath(path) + EncodeQuery(query)
		u, err := url.ParseRequestURI(sent)
		if err != nil {
			t.Fatalf("%q is sent as %q: %v", target, sent, err)
		}
		if segments := strings.Split(u.Path, "/"); slices.Contains(segments, "..") || slices.Contains(segments, ".") || u.Path != path {
			t.Errorf("%q is sent as %q", target, sent)
		}
	})
}
