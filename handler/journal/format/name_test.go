package format_test

import (
	"testing"
	"time"

	"aoaigateway/handler/journal/format"
)

func TestParseNameReadsOwnNames(t *testing.T) {
	want := format.Name{Hour: time.Date(2026, 11, 23, 20, 0, 0, 0, time.UTC), Process: "aa-bb", Number: 7}
	if got, ok := format.ParseName(want.String()); !ok || got != want {
		t.Errorf("%s became %+v, %v", want, got, ok)
	}
	for _, name := range []string{
		"", "bodies/x/request", "2026/11/23/20/aa-7.jsonl.gz", "2026/11/23/20/aa-000007.jsonl",
		"2026/11/23/24/aa-000007.jsonl.gz",
	} {
		if n, ok := format.ParseName(name); ok {
			t.Errorf("%q was read as %+v", name, n)
		}
	}
}
