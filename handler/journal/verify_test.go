package journal_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"aoaigateway/handler/blob"
	"aoaigateway/handler/journal"
	"aoaigateway/handler/journal/journaltest"
	"aoaigateway/handler/journal/manifest"
	"aoaigateway/handler/journal/verify"
	"aoaigateway/handler/table"
)

func verified(t testing.TB, blobs blob.Store, rows *manifest.Manifest) verify.Report {
	t.Helper()
	report, err := verify.Run(context.Background(), rows, blobs, time.Time{}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func wantReport(t testing.TB, r *harness, want verify.Report) {
	t.Helper()
	got := verified(t, r.blobs, r.manifest)
	if d := cmp.Diff(want, got, cmpopts.IgnoreFields(verify.Report{}, "Bytes")); d != "" {
		t.Errorf("report (-want +got):\n%s", d)
	}
}

const bodyText = "a body that stands in its own blob"

// smallJournal is a closed journal of two processes: files of 3, 2 and 4 batches, one of which names a body.
func smallJournal(t testing.TB) *harness {
	r := newHarness()
	write := func(counts ...int) {
		w := r.writer()
		for _, n := range counts {
			for i := range n {
				line := fmt.Appendf(nil, `{"type":"end","id":"%d","n":%d}`, i, i)
				if n == 2 && i == 1 {
					sum := sha256.Sum256([]byte(bodyText))
					line = fmt.Appendf(nil, `{"type":"end","id":"x","request":{"size":%d,"sha256":"%s","blob":"bodies/x/request"}}`, len(bodyText),
						hex.EncodeToString(sum[:]))
				}
				p, err := w.Append(line)
				if err != nil {
					t.Fatal(err)
				}
				_ = p.Wait(context.Background())
				time.Sleep(time.Second)
			}
			time.Sleep(time.Hour)
		}
		_ = w.Close(context.Background())
	}
	write(3, 2)
	write(4)
	if err := r.blobs.Put(context.Background(), "bodies/x/request", strings.NewReader(bodyText)); err != nil {
		t.Fatal(err)
	}
	return r
}

func withSmall(t *testing.T, f func(*testing.T, *harness)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, smallJournal(t)) })
}

// content reads a blob whole.
func content(t testing.TB, b blob.Store, name string) []byte {
	t.Helper()
	r, err := b.Open(context.Background(), name, 0)
	if err != nil {
		t.Fatal(err)
	}
	data, _ := io.ReadAll(r)
	return bytes.Clone(data)
}

// withReplaced returns a container of the same blobs with some replaced (nil: removed).
func withReplaced(t testing.TB, b blob.Store, changed map[string][]byte) *blob.Mem {
	t.Helper()
	files, _ := b.List(context.Background(), "")
	other := &blob.Mem{}
	for _, f := range files {
		data, ok := changed[f.Name]
		if !ok {
			data = content(t, b, f.Name)
		}
		if ok && data == nil {
			continue
		}
		if err := other.Put(context.Background(), f.Name, bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
	}
	return other
}

func TestVerifyCountsSoundJournal(t *testing.T) {
	withSmall(t, func(t *testing.T, r *harness) {
		wantReport(t, r, verify.Report{Files: 3, Batches: 9, Records: 9, Bodies: 1})
	})
}

func TestVerifyNamesFlippedByte(t *testing.T) {
	withSmall(t, func(t *testing.T, r *harness) {
		flips := 0
		for _, m := range journaltest.Batches(t, r.blobs) {
			data := content(t, r.blobs, m.Name)
			for at := m.Offset; at < m.Offset+m.Length; at++ {
				data[at] ^= 1 << (at % 8)
				report := verified(t, withReplaced(t, r.blobs, map[string][]byte{m.Name: data}), r.manifest)
				data[at] ^= 1 << (at % 8)
				flips++
				if len(report.Breaks) == 0 || report.Breaks[0].Name != m.Name || report.Breaks[0].Index != m.Index {
					t.Fatalf("byte %d, of batch %d of %s: %v", at, m.Index, m.Name, report.Breaks)
				}
			}
		}
		if flips < 500 {
			t.Errorf("%d flips", flips)
		}
	})
}

func TestVerifyNamesRemovedBatch(t *testing.T) {
	withSmall(t, func(t *testing.T, r *harness) {
		for _, m := range journaltest.Batches(t, r.blobs) {
			data := content(t, r.blobs, m.Name)
			data = slices.Delete(data, int(m.Offset), int(m.Offset+m.Length))
			report := verified(t, withReplaced(t, r.blobs, map[string][]byte{m.Name: data}), r.manifest)
			if len(report.Breaks) == 0 || report.Breaks[0].Name != m.Name || report.Breaks[0].Index != m.Index {
				t.Errorf("batch %d of %s: %v", m.Index, m.Name, report.Breaks)
			}
		}
	})
}

// A file that recovery adopted has no checkpoint, so the chain alone shows the break.
func TestVerifyNamesFirstBrokenLink(t *testing.T) {
	name, data := written(t, 5)
	good, _ := readAll(t, name, data)
	at := func(i int) int64 { return good[i].Offset }
	for _, c := range []struct {
		what string
		data []byte
		good int // batches before the break
	}{
		{"a batch removed", append(bytes.Clone(data[:at(2)]), data[at(3):]...), 2},
		{"two batches swapped", slices.Concat(data[:at(1)], data[at(2):at(3)], data[at(1):at(2)], data[at(3):]), 1},
		{"a batch twice", append(bytes.Clone(data[:at(2)]), data[at(1):]...), 2},
		{"the first batch removed", data[at(1):], 0},
	} {
		t.Run(c.what, func(t *testing.T) {
			rows := manifest.New(table.NewMem())
			f, _ := manifest.ParseFile(name)
			f.Adopted, f.Until = true, time.Now()
			if _, err := rows.Insert(t.Context(), f); err != nil {
				t.Fatal(err)
			}
			report := verified(t, stored(t, name, c.data), rows)
			if len(report.Breaks) == 0 || report.Breaks[0].Index != c.good || report.Breaks[0].Name != name {
				t.Errorf("got breaks %v, want the first at batch %d", report.Breaks, c.good)
			}
		})
	}
}

func TestVerifyNamesCutTail(t *testing.T) {
	withSmall(t, func(t *testing.T, r *harness) {
		for _, f := range r.files(t) {
			data := content(t, r.blobs, f.Name)
			for n := range data {
				report := verified(t, withReplaced(t, r.blobs, map[string][]byte{f.Name: data[:n]}), r.manifest)
				if len(report.Breaks) == 0 || report.Breaks[0].Name != f.Name {
					t.Fatalf("%s cut to %d of %d: %v", f.Name, n, len(data), report.Breaks)
				}
			}
		}
	})
}

func TestVerifyNamesRemovedFile(t *testing.T) {
	withSmall(t, func(t *testing.T, r *harness) {
		rows := r.files(t)
		for i, f := range rows {
			gone := withReplaced(t, r.blobs, map[string][]byte{f.Name: nil})
			report := verified(t, gone, r.manifest)
			if len(report.Breaks) == 0 || report.Breaks[0].Name != f.Name || report.Breaks[0].Index != -1 {
				t.Errorf("without %s: %v", f.Name, report.Breaks)
			}
			store := manifestWithout(t, r, i)
			report = verified(t, r.blobs, store)
			if len(report.Breaks) == 0 || report.Breaks[0].Name != f.Name || report.Breaks[0].Reason != "has no manifest entry" {
				t.Errorf("without the entry of %s: %v", f.Name, report.Breaks)
			}
			report = verified(t, gone, store)
			if followed := f.Process == rows[1].Process && f.Number == 0; followed != (len(report.Breaks) > 0) {
				t.Errorf("without %s and its entry: %v", f.Name, report.Breaks)
			}
		}
	})
}

// manifestWithout returns a copy of the manifest without one entry.
func manifestWithout(t testing.TB, r *harness, gone int) *manifest.Manifest {
	t.Helper()
	rows := manifest.New(table.NewMem())
	for i, f := range r.files(t) {
		if i == gone {
			continue
		}
		if _, err := rows.Insert(context.Background(), f); err != nil {
			t.Fatal(err)
		}
	}
	return rows
}

func TestVerifyNamesBytesAfterEnd(t *testing.T) {
	withSmall(t, func(t *testing.T, r *harness) {
		for _, f := range r.files(t) {
			data := content(t, r.blobs, f.Name)
			for _, more := range [][]byte{[]byte("junk"), data[len(data)-100:], gzipped(t, "{}\n"), data} {
				report := verified(t, withReplaced(t, r.blobs, map[string][]byte{f.Name: append(bytes.Clone(data), more...)}), r.manifest)
				if len(report.Breaks) == 0 || report.Breaks[0].Name != f.Name {
					t.Errorf("%s with %d bytes more: %v", f.Name, len(more), report.Breaks)
				}
			}
		}
	})
}

func TestVerifyNamesChangedBody(t *testing.T) {
	withSmall(t, func(t *testing.T, r *harness) {
		second := r.files(t)[1]
		for _, body := range [][]byte{nil, {}, []byte(strings.ToUpper(bodyText)), []byte(bodyText + ".")} {
			report := verified(t, withReplaced(t, r.blobs, map[string][]byte{"bodies/x/request": body}), r.manifest)
			if len(report.Breaks) != 1 || report.Breaks[0].Name != second.Name || report.Breaks[0].Index != 1 ||
				!strings.Contains(report.Breaks[0].Reason, "bodies/x/request") {
				t.Errorf("body %q: %v", body, report.Breaks)
			}
		}
	})
}

func TestVerifyCountsBeyondCheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newHarness()
		w := r.writer()
		defer closeNow(t, w)
		appendAll(t, w, 3, time.Second)
		time.Sleep(2 * time.Second)
		r.store.SetFault(func(_ context.Context, op table.Op, _ table.Key) (bool, error) {
			return op != table.OpReplace, map[bool]error{true: errors.New("away")}[op == table.OpReplace]
		})
		wantDurable(t, appendAll(t, w, 2, time.Second))
		wantReport(t, r, verify.Report{Files: 1, Batches: 5, Records: 5, BeyondCheckpoint: 2})
		r.store.SetFault(nil)
	})
}

func TestVerifyReadsOnlyRange(t *testing.T) {
	withSmall(t, func(t *testing.T, r *harness) {
		start := r.files(t)[0].Hour
		for _, c := range []struct {
			from, to time.Duration
			files    int
		}{{0, 3, 3}, {1, 3, 2}, {1, 2, 1}, {0, 1, 1}, {48, 72, 0}, {-48, -24, 0}} {
			report, err := verify.Run(t.Context(), r.manifest, r.blobs, start.Add(c.from*time.Hour), start.Add(c.to*time.Hour))
			if err != nil || report.Files != c.files || len(report.Breaks) != 0 {
				t.Errorf("hours %d to %d: %+v, %v", c.from, c.to, report, err)
			}
		}
	})
}

func TestVerifyReturnsStoreErrors(t *testing.T) {
	withSmall(t, func(t *testing.T, r *harness) {
		away := errors.New("away")
		for _, op := range []blob.Op{blob.OpList, blob.OpOpen} {
			b := withReplaced(t, r.blobs, nil)
			b.Fault = func(_ context.Context, o blob.Op, _ string) (bool, error) {
				return o != op, map[bool]error{true: away}[o == op]
			}
			if report, err := verify.Run(t.Context(), r.manifest, b, time.Time{}, time.Time{}); !errors.Is(err, away) || len(report.Breaks) != 0 {
				t.Errorf("%s: %v, %v", op, report, err)
			}
		}
	})
}

// prose compresses about as well as a chat: it draws from 2,000 words, the first ones most often.
func prose(words []string, seed uint64, size int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	var s strings.Builder
	s.WriteString(`{"type":"end","text":"`)
	for s.Len() < size-2 {
		at := r.Float64()
		s.WriteString(words[int(float64(len(words))*at*at*at*at)])
		s.WriteByte(' ')
	}
	return []byte(s.String()[:size-2] + `"}`)
}

func vocabulary() []string {
	r := rand.New(rand.NewPCG(7, 7))
	words := make([]string, 2000)
	for i := range words {
		word := make([]byte, 2+r.IntN(8))
		for j := range word {
			word[j] = "etaoinshrdlucmfwypvbgkjqxz"[min(r.IntN(26), r.IntN(26))]
		}
		words[i] = string(word)
	}
	return words
}

// BenchmarkVerify prints megabytes of compressed files a second.
func BenchmarkVerify(b *testing.B) {
	r, words := newHarness(), vocabulary()
	for range 2 {
		w := journal.New(journal.Options{Blobs: r.blobs, Manifest: r.manifest, MaxBacklog: 1 << 40, Interval: time.Millisecond})
		for i := range 20_000 {
			if _, err := w.Append(prose(words, uint64(i), 4<<10)); err != nil {
				b.Fatal(err)
			}
			if i%100 == 99 {
				time.Sleep(2 * time.Millisecond)
			}
		}
		if err := w.Close(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		report := verified(b, r.blobs, r.manifest)
		if len(report.Breaks) > 0 || report.Records != 40_000 {
			b.Fatalf("%+v", report)
		}
		b.SetBytes(report.Bytes)
		b.ReportMetric(40_000*4096/float64(report.Bytes), "ratio")
	}
}
