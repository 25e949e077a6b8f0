package journal_test

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal/format"
	"aoaigateway/handler/journal/manifest"
	"aoaigateway/handler/table"
)

const newerBody = `{"type":"end","version":2,"id":"x","request":{"size":1,"sha256":"aa","blob":"bodies/x/request"}}`

// oneFile returns a manifest with one open file, and the name of the file.
func oneFile(t *testing.T, props map[string]any) (*manifest.Manifest, string) {
	t.Helper()
	const name = "2026/11/23/20/aaaa-000000.jsonl.gz"
	store := table.NewMem()
	m := manifest.New(store)
	f, _ := manifest.ParseFile(name)
	f.Until = time.Now()
	if _, err := m.Insert(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	key := table.Key{Partition: "2026-11-23", Row: "20-aaaa-000000"}
	e, err := store.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(e.Props, props)
	if _, err := store.Replace(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	return m, name
}

func pack(h format.Header, records ...string) []byte {
	lines := make([][]byte, len(records))
	for i, r := range records {
		lines[i] = []byte(r)
	}
	return new(format.Packer).Pack(h, lines).Data
}

// A part in a newer format is named with both versions, and is no break.
func TestVerifyReportsNewerFormats(t *testing.T) {
	sound := pack(format.Header{Process: "aaaa"}, `{"type":"end","id":"1"}`)
	for what, c := range map[string]struct {
		props   map[string]any
		content []byte
		want    string
	}{
		"manifest entry": {map[string]any{"version": int64(2)}, sound, "manifest entry of "},
		"batch":          {nil, gzipped(t, `{"type":"batch","version":2,"process":"aaaa","file":0,"seq":0,"prev":""}`+"\n"), "batch has"},
		"record":         {nil, pack(format.Header{Process: "aaaa"}, newerBody), "record has"},
	} {
		t.Run(what, func(t *testing.T) {
			m, name := oneFile(t, c.props)
			report := verified(t, stored(t, name, c.content), m)
			if len(report.Breaks) > 0 || len(report.Newer) != 1 {
				t.Fatalf("breaks %v, newer %v, want none and one", report.Breaks, report.Newer)
			}
			for _, part := range []string{name, c.want, "format version 2", "up to 1"} {
				if !strings.Contains(report.Newer[0], part) {
					t.Errorf("%q does not contain %q", report.Newer[0], part)
				}
			}
		})
	}
}

func TestReadRefusesNewerBatch(t *testing.T) {
	const name = "2026/11/23/20/aaaa-000000.jsonl.gz"
	data := gzipped(t, `{"type":"batch","version":2,"process":"aaaa","file":0,"seq":0,"prev":""}`+"\n")
	for _, err := range format.Read(t.Context(), stored(t, name, data), name, 0) {
		newer, ok := errors.AsType[*gateway.VersionError](err)
		if !ok || newer.Found != 2 || newer.Known != format.Version {
			t.Errorf("got %v, want a VersionError of 2", err)
		}
	}
}
