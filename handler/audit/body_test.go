package audit_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"aoaigateway/handler/audit"
	"aoaigateway/handler/blob"
	"aoaigateway/handler/body/bodytest"
	"aoaigateway/handler/devstack/azurite"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal"
	"aoaigateway/handler/journal/journaltest"
)

// roundTrip records one body as a request and reads it back.
func roundTrip(t testing.TB, content []byte) *gateway.Body {
	t.Helper()
	mem := &blob.Mem{}
	w := journal.New(journal.Options{Blobs: mem, Interval: time.Nanosecond})
	x := audit.New(audit.Options{Journal: w, Bodies: mem}).Exchange(&gateway.Record{ID: "r1"})
	x.Request("a/b", bodytest.Of(content))
	if err := x.End(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	lines := journaltest.Lines(t, mem)
	if len(lines) != 1 {
		t.Fatalf("%d lines", len(lines))
	}
	return lines[0].Request
}

func TestBodyKinds(t *testing.T) {
	for _, c := range []struct {
		what, body          string
		json, text, base64v string
	}{
		{
			what: "JSON as it is", body: `{"n": 12345678901234567890.10, "s":"<\u00e9\/>"}`,
			json: `{"n": 12345678901234567890.10, "s":"<\u00e9\/>"}`,
		},
		{what: "JSON over lines", body: "{\n\t\"a\": [1,\r\n 2]\n}\n", json: "{ \t\"a\": [1,   2] }"},
		{what: "a number", body: "1.0", json: "1.0"},
		{what: "two values", body: "{} {}", text: "{} {}"},
		{what: "duplicate names", body: `{"a":1,"a":2}`, text: `{"a":1,"a":2}`},
		{what: "half a value", body: `{"a":`, text: `{"a":`},
		{what: "text", body: "data: {}\n\n\"\\\x00é", text: "data: {}\n\n\"\\\x00é"},
		{what: "JSON in bad UTF-8", body: "{\"a\":\"\xff\"}", base64v: "{\"a\":\"\xff\"}"},
		{what: "binary", body: "\x00\xff\n", base64v: "\x00\xff\n"},
		{what: "nothing", body: ""},
		{what: "long text of many escapes", body: strings.Repeat("\"\n", 1<<19), base64v: strings.Repeat("\"\n", 1<<19)},
		{what: "long text", body: strings.Repeat("some words\n", 90_000), text: strings.Repeat("some words\n", 90_000)},
	} {
		t.Run(c.what, func(t *testing.T) {
			b := roundTrip(t, []byte(c.body))
			sum := sha256.Sum256([]byte(c.body))
			if b.Size != int64(len(c.body)) || b.SHA256 != hex.EncodeToString(sum[:]) || b.ContentType != "a/b" {
				t.Errorf("size %d, hash %s, type %s", b.Size, b.SHA256, b.ContentType)
			}
			if string(b.JSON) != c.json || b.Text != c.text || string(b.Base64) != c.base64v || b.Blob != "" {
				t.Errorf("JSON %.80q, text %.80q, base64 %.80q, blob %q", b.JSON, b.Text, b.Base64, b.Blob)
			}
		})
	}
}

func TestClientFieldsCannotBreakLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newHarness(t, audit.Options{}, nil, nil)
		bad := "a\xff\n\"\\\u2028<>"
		rec := record("r1")
		rec.URL, rec.ClientAgent, rec.Model, rec.EndUser = bad, bad, bad, bad
		x := r.Exchange(rec)
		x.Request(bad, bodytest.Of([]byte("x")))
		_, _ = x.Response(bad).Write([]byte("y"))
		if err := x.End(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.close()
		want := strings.ReplaceAll(bad, "\xff", "\uFFFD")
		ls := r.lines(t)
		if len(ls) != 1 || ls[0].URL != want || ls[0].Model != want || ls[0].Request.ContentType != want || ls[0].Response.ContentType != want {
			t.Errorf("lines: %+v", ls)
		}
	})
}

func TestStreamIsRecordedAsObject(t *testing.T) {
	small, big := json.RawMessage(answer), json.RawMessage(`{"s":"`+strings.Repeat("x", 1<<20)+`"}`)
	stream := "data: {}\n\ndata: [DONE]\n\n"
	for _, c := range []struct {
		what            string
		stream          string
		object          json.RawMessage
		assembled, blob bool
		text            bool
	}{
		{what: "small", stream: stream, object: small, assembled: true},
		{what: "no object", stream: stream, text: true},
		{what: "an object that is none", stream: stream, object: json.RawMessage(`{"a":`), text: true},
		{what: "large stream", stream: strings.Repeat(stream, 50_000), object: small, assembled: true, blob: true},
		{what: "large object", stream: stream, object: big, blob: true},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newHarness(t, audit.Options{}, nil, nil)
				x := r.Exchange(record("r1"))
				capture := x.Response("text/event-stream")
				for part := range strings.SplitAfterSeq(c.stream, "\n\n") {
					if _, err := io.WriteString(capture, part); err != nil {
						t.Fatal(err)
					}
				}
				capture.Assembled(c.object)
				if err := x.End(t.Context()); err != nil {
					t.Fatal(err)
				}
				r.close()
				got := r.lines(t)[0].Response
				if (gateway.Digest{Size: got.Size, SHA256: got.SHA256}) != gateway.DigestOf([]byte(c.stream)) {
					t.Errorf("size %d, hash %s", got.Size, got.SHA256)
				}
				if (got.Assembled != nil) != c.assembled || (got.Blob != "") != c.blob || (got.Text != "") != c.text || got.JSON != nil {
					t.Errorf("assembled %.50q, blob %q, text %.50q", got.Assembled, got.Blob, got.Text)
				}
				if c.blob && blobText(t, r.bodies, got.Blob) != c.stream {
					t.Error("the blob is not the stream")
				}
			})
		})
	}
}

func TestFailedUploadCutsAnswer(t *testing.T) {
	r := newHarness(t, audit.Options{}, nil, nil)
	defer r.close()
	l := audit.New(audit.Options{Journal: r.writer, Bodies: &failsAfter{Mem: r.bodies, n: 3 << 20}})
	x := l.Exchange(record("r1"))
	c := x.Response("")
	var err error
	for range 10 {
		if _, err = c.Write(make([]byte, 1<<20)); err != nil {
			break
		}
	}
	wantUnavailable(t, err)
	wantUnavailable(t, x.End(t.Context()))
	if n := blobCount(t, r.bodies); n != 0 {
		t.Errorf("%d blobs, want none", n)
	}
}

// failsAfter fails a Put after n bytes.
type failsAfter struct {
	*blob.Mem
	n int64
}

func (f *failsAfter) Put(_ context.Context, _ string, r io.Reader) error {
	_, _ = io.CopyN(io.Discard, r, f.n)
	return io.ErrClosedPipe
}

// sink accepts a Put at the pace of a storage service, keeps nothing and notes the size of the heap.
type sink struct {
	*blob.Mem
	size int64
	peak uint64
}

func (s *sink) Put(_ context.Context, _ string, r io.Reader) error {
	buf := make([]byte, 1<<20)
	for {
		n, err := io.ReadFull(r, buf)
		s.size += int64(n)
		if s.size%(8<<20) == 0 {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			s.peak = max(s.peak, m.HeapAlloc)
		}
		if err != nil {
			return nil //nolint:nilerr // the end
		}
	}
}

func TestLargeAnswerNeedsBoundedMemory(t *testing.T) {
	r := newHarness(t, audit.Options{}, nil, nil)
	defer r.close()
	s := &sink{Mem: &blob.Mem{}}
	l := audit.New(audit.Options{Journal: r.writer, Bodies: s})
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	x := l.Exchange(record("r1"))
	c := x.Response("")
	chunk := make([]byte, 32<<10)
	for range 50 << 20 / len(chunk) {
		if _, err := c.Write(chunk); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.End(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.size != 50<<20 {
		t.Errorf("%d bytes stored, want 50 MiB", s.size)
	}
	if limit := before.HeapAlloc + 8<<20; s.peak > limit {
		t.Errorf("heap peaked at %d KiB, %d KiB before, for an answer of 50 MiB", s.peak>>10, before.HeapAlloc>>10)
	} else {
		t.Logf("heap %d KiB before, %d KiB at its peak", before.HeapAlloc>>10, s.peak>>10)
	}
}

func TestExchangesOverAzure(t *testing.T) {
	if testing.Short() {
		t.Skip("needs Node; make test runs it")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	s, err := azurite.Start(ctx, azurite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	blobs, err := blob.NewAzure(blob.AzureOptions{ConnectionString: s.ConnectionString(), Container: "audit"})
	if err != nil {
		t.Fatal(err)
	}
	w := journal.New(journal.Options{Blobs: blobs})
	l := audit.New(audit.Options{Journal: w, Bodies: blobs})
	large := bytes.Repeat([]byte("0123456789abcdef"), 3<<16) // 3 MiB
	for i, body := range [][]byte{[]byte(answer), large} {
		if err := exchange(t, l, record(fmt.Sprint("r", i)), body, body); err != nil {
			t.Fatal(err)
		}
	}
	ls := journaltest.Lines(t, blobs)
	if len(ls) != 4 {
		t.Fatalf("%d lines, want 4", len(ls))
	}
	if blobText(t, blobs, ls[2].Request.Blob) != string(large) || blobText(t, blobs, ls[3].Response.Blob) != string(large) {
		t.Error("blobs do not hold the bodies")
	}
	if err := w.Close(ctx); err != nil {
		t.Error(err)
	}
}

// The record of any body is one line from which the body can be read back.
func FuzzBody(f *testing.F) {
	for _, s := range []string{answer, "{\n}", "\xff", "text\n", `"\ud800"`, "\ufeff{}", "[" + strings.Repeat("[", 11_000)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		b := roundTrip(t, body)
		switch {
		case b.JSON != nil:
			var want, got bytes.Buffer
			if json.Compact(&want, body) != nil || json.Compact(&got, b.JSON) != nil || want.String() != got.String() {
				t.Errorf("JSON %q of %q", b.JSON, body)
			}
		case b.Text != "":
			if b.Text != string(body) {
				t.Errorf("text %q of %q", b.Text, body)
			}
		case !bytes.Equal(b.Base64, body):
			t.Errorf("base64 %q of %q", b.Base64, body)
		}
	})
}
