// Package journaltest reads journals in tests.
package journaltest

import (
	"context"
	"fmt"
	"testing"

	"aoaigateway/handler/blob"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal/format"
	"aoaigateway/handler/journal/manifest"
)

// Read returns the batches of all files, sorted by the names of the files. Reading a file
// ends at the first batch that is damaged or does not continue the chain of its process;
// breaks has the errors.
func Read(t testing.TB, blobs blob.Store) (batches []format.Batch, breaks []error) {
	t.Helper()
	files, err := blobs.List(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	heads := map[string]format.Batch{} // by process: its last batch
	for _, info := range files {
		f, ok := manifest.ParseFile(info.Name)
		if !ok {
			continue
		}
		for b, err := range format.Read(context.Background(), blobs, f.Name, 0) {
			if head, ok := heads[f.Process]; err == nil && ok && (b.Seq != head.Seq+1 || b.Prev != head.Hash) {
				err = fmt.Errorf("%s: batch %d with sequence %d does not continue batch %d of %s", f.Name, b.Index, b.Seq, head.Seq, head.Name)
			}
			if err != nil {
				breaks = append(breaks, err)
				delete(heads, f.Process)
				break
			}
			batches, heads[f.Process] = append(batches, b), b
		}
	}
	return batches, breaks
}

// Batches returns the batches of a journal. The test fails if the journal has a break.
func Batches(t testing.TB, blobs blob.Store) []format.Batch {
	t.Helper()
	batches, breaks := Read(t, blobs)
	if len(breaks) > 0 {
		t.Fatal(breaks)
	}
	return batches
}

// Records returns the unparsed records of a journal. The test fails if the journal has a
// break.
func Records(t testing.TB, blobs blob.Store) (records [][]byte) {
	t.Helper()
	for _, b := range Batches(t, blobs) {
		records = append(records, b.Records...)
	}
	return records
}

// Lines returns the parsed records of a journal. The test fails if the journal has a break.
func Lines(t testing.TB, blobs blob.Store) (lines []gateway.Line) {
	t.Helper()
	for _, raw := range Records(t, blobs) {
		line, err := gateway.ParseLine(raw)
		if err != nil {
			t.Fatalf("%v: %.300s", err, raw)
		}
		lines = append(lines, line)
	}
	return lines
}
