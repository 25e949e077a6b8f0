package gateway_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"aoaigateway/handler/gateway"
)

// A body in a blob is compared with the blob's bytes, which differ from the wire's where personal data was removed.
func TestInBlobPrefersStoredDigest(t *testing.T) {
	b := gateway.Body{Size: 5, SHA256: "aa", Blob: "bodies/x/request"}
	if got := b.InBlob(); got != (gateway.Digest{Size: 5, SHA256: "aa"}) {
		t.Errorf("without Stored: %+v", got)
	}
	b.Stored = &gateway.Digest{Size: 3, SHA256: "bb"}
	if got := b.InBlob(); got != *b.Stored {
		t.Errorf("with Stored: %+v", got)
	}
}

// Encode writes by hand what the struct's tags say.
func TestLineEncodesAsItIsParsed(t *testing.T) {
	for what, body := range map[string]gateway.Body{
		"JSON":   {Size: 9, SHA256: "aa", ContentType: "application/json", JSON: []byte(`{"a":"<"}`)},
		"text":   {Size: 2, SHA256: "aa", Text: "\"\n<é"},
		"binary": {Size: 2, SHA256: "aa", Base64: []byte{0xff, 0}},
		"blob":   {Size: 2, SHA256: "aa", Blob: "bodies/x/request", Stored: &gateway.Digest{Size: 1, SHA256: "bb"}},
		"stream": {Size: 2, SHA256: "aa", Assembled: []byte(`{"b":1}`)},
	} {
		want := gateway.Line{Type: gateway.End, Version: 1, Record: gateway.Record{ID: "x", Request: &body, Response: &body}}
		line, err := want.Encode(true)
		if err != nil {
			t.Fatal(err)
		}
		got, err := gateway.ParseLine(line)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
		}
	}
}

func TestParseLineRefusesNewerVersion(t *testing.T) {
	_, err := gateway.ParseLine([]byte(`{"type":"end","version":2,"id":"x"}`))
	newer, ok := errors.AsType[*gateway.VersionError](err)
	if !ok || newer.Found != 2 || newer.Known != 1 || !strings.Contains(err.Error(), "version 2") ||
		!strings.Contains(err.Error(), "up to 1") {
		t.Errorf("got %v, want a VersionError that names both versions", err)
	}
}
