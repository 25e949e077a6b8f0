package journal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"

	"aoaigateway/handler/blob"
	"aoaigateway/handler/journal"
	"aoaigateway/handler/journal/format"
)

func noise(n int) []byte {
	data := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(data)
	return bytes.ReplaceAll(data, []byte{'\n'}, []byte{'.'})
}

// written returns one file of n batches and its bytes.
func written(t testing.TB, n int) (string, []byte) {
	t.Helper()
	b := &blob.Mem{}
	w := journal.New(journal.Options{Blobs: b, Interval: time.Nanosecond})
	for i := range n {
		p, err := w.Append(line(i))
		if err != nil {
			t.Fatal(err)
		}
		_ = p.Wait(context.Background())
	}
	if err := w.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	files, _ := b.List(context.Background(), "")
	r, _ := b.Open(context.Background(), files[0].Name, 0)
	data, _ := io.ReadAll(r)
	return files[0].Name, data
}

// stored puts data under name alone.
func stored(t testing.TB, name string, data []byte) *blob.Mem {
	t.Helper()
	b := &blob.Mem{}
	if err := b.Put(context.Background(), name, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	return b
}

// readAll returns the good batches and the break, if there is one.
func readAll(t testing.TB, name string, data []byte) (good []format.Batch, bad *format.BreakError) {
	t.Helper()
	for m, err := range format.Read(context.Background(), stored(t, name, data), name, 0) {
		if err == nil {
			good = append(good, m)
		} else if !errors.As(err, &bad) {
			t.Fatalf("%v is no BreakError", err)
		}
	}
	return good, bad
}

func TestFileIsValidGzip(t *testing.T) {
	_, data := written(t, 3)
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil || strings.Count(string(text), "\n") != 6 || !strings.HasPrefix(string(text), `{"type":"batch","version":1,`) {
		t.Errorf("read %v, %q", err, text)
	}
}

func TestReadLocatesBatches(t *testing.T) {
	name, data := written(t, 4)
	good, bad := readAll(t, name, data)
	if bad != nil || len(good) != 4 {
		t.Fatalf("%d batches, break %v", len(good), bad)
	}
	var offset int64
	for i, m := range good {
		if m.Index != i || m.Seq != int64(i) || m.Offset != offset {
			t.Errorf("batch %d: index %d, sequence %d, offset %d, want offset %d", i, m.Index, m.Seq, m.Offset, offset)
		}
		offset += m.Length
	}
	if offset != int64(len(data)) {
		t.Errorf("batches cover %d of %d bytes", offset, len(data))
	}
}

func TestReadNamesFirstBadBatch(t *testing.T) {
	name, data := written(t, 5)
	good, _ := readAll(t, name, data)
	at := func(i int) int64 { return good[i].Offset }
	flipped := bytes.Clone(data)
	flipped[at(2)+good[2].Length/2] ^= 1
	for _, c := range []struct {
		what string
		data []byte
		good int // batches before the break
	}{
		{"a flipped bit", flipped, 2},
		{"a torn tail", data[:len(data)-1], 4},
		{"a torn header", data[:at(4)+3], 4},
		{"bytes after the end", append(bytes.Clone(data), "junk"...), 5},
		{"zeros after the end", append(bytes.Clone(data), 0, 0, 0, 0), 5},
		{
			"a batch of another process",
			append(bytes.Clone(data[:at(3)]), gzipped(t, `{"type":"batch","process":"x","file":0,"seq":3,"prev":"y"}`+"\n")...), 3,
		},
		{"a batch without header", append(bytes.Clone(data), gzipped(t, "{}\n")...), 5},
		{"a batch without newline", append(bytes.Clone(data), gzipped(t, "{}")...), 5},
		{"an empty batch", append(bytes.Clone(data), gzipped(t, "")...), 5},
		{"a bomb", append(bytes.Clone(data), gzipped(t, strings.Repeat("x", 32<<20))...), 5},
		{"the first batch removed", data[at(1):], 5}, // Read does not check where a chain begins
	} {
		t.Run(c.what, func(t *testing.T) {
			got, bad := readAll(t, name, c.data)
			if c.what == "the first batch removed" {
				if bad != nil || len(got) != 4 {
					t.Errorf("got %d batches and %v, want 4 and none", len(got), bad)
				}
				return
			}
			if bad == nil || bad.Index != c.good || len(got) != c.good || bad.Name != name {
				t.Errorf("got %d batches and break %v, want %d and a break there", len(got), bad, c.good)
			}
		})
	}
}

func TestReadReturnsStoreError(t *testing.T) {
	name, data := written(t, 2)
	b := stored(t, name, data)
	away := errors.New("away")
	b.Fault = func(context.Context, blob.Op, string) (bool, error) { return false, away }
	n := 0
	for _, err := range format.Read(t.Context(), b, name, 0) {
		if n++; !errors.Is(err, away) {
			t.Errorf("%v, want the storage error", err)
		}
	}
	if n != 1 {
		t.Errorf("%d rounds, want 1", n)
	}
}

func TestReadStopsWhenAsked(t *testing.T) {
	name, data := written(t, 3)
	n := 0
	for _, err := range format.Read(t.Context(), stored(t, name, data), name, 0) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		break
	}
	if n != 1 {
		t.Errorf("%d rounds, want 1", n)
	}
}

func gzipped(t testing.TB, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(text))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Any file is either a sequence of batches that cover it, or the error names its first bad batch.
func FuzzRead(f *testing.F) {
	name, data := written(f, 3)
	f.Add(data)
	f.Add(data[:len(data)-7])
	f.Add(gzipped(f, `{"type":"batch"}`+"\n"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		good, bad := readAll(t, name, data)
		var covered int64
		for _, m := range good {
			covered += m.Length
		}
		if bad == nil && covered != int64(len(data)) {
			t.Errorf("no break, but batches cover %d of %d bytes", covered, len(data))
		}
		if bad != nil && (bad.Index != len(good) || bad.Offset != covered) {
			t.Errorf("break at batch %d, byte %d after %d batches of %d bytes", bad.Index, bad.Offset, len(good), covered)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{200, 4 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			w := journal.New(journal.Options{Blobs: discard{}, MaxBacklog: 1 << 40})
			text := sentence(size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			var last *journal.Pending
			for b.Loop() {
				p, err := w.Append(bytes.Clone(text))
				if err != nil {
					b.Fatal(err)
				}
				if last = p; len(text) > 0 {
					if used, _ := w.Backlog(); used > 64<<20 {
						_ = last.Wait(context.Background())
					}
				}
			}
			_ = w.Close(context.Background())
		})
	}
}

// sentence compresses about as well as a prompt does.
func sentence(size int) []byte {
	words := strings.Fields("the a gateway writes what was asked and answered before it ends so that nobody can lose it token region limit")
	r := rand.New(rand.NewPCG(1, 2))
	var s strings.Builder
	s.WriteString(`{"text":"`)
	for s.Len() < size-2 {
		fmt.Fprintf(&s, "%s %d ", words[r.IntN(len(words))], r.IntN(1000))
	}
	return []byte(s.String()[:size-2] + `"}`)
}

// discard takes everything at no cost.
type discard struct{ *blob.Mem }

func (discard) Create(context.Context, string) error                { return nil }
func (discard) Append(context.Context, string, int64, []byte) error { return nil }
