package audit_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"aoaigateway/handler/audit"
	"aoaigateway/handler/blob"
	"aoaigateway/handler/body/bodytest"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal"
	"aoaigateway/handler/journal/manifest"
	"aoaigateway/handler/journal/verify"
	"aoaigateway/handler/redact"
	"aoaigateway/handler/table"
)

const (
	address = "bob@example.com"
	mib     = 1 << 20
)

func sumOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// redacted runs an exchange under a rule for addresses. object is that of a stream.
func redacted(t *testing.T, r *harness, contentType, request, response, object string) gateway.Line {
	t.Helper()
	rec := record("r1")
	rec.ErrorMessage = "do not write to " + address
	x := r.Exchange(rec)
	x.Redact(redact.New([]redact.Rule{{Name: "email"}}))
	x.Request(contentType, bodytest.Of([]byte(request)))
	if err := x.BeginDurable(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := x.Response(contentType)
	whole := object != "" && c.ExpectAssembled()
	for rest := response; rest != ""; {
		n := min(len(rest), 100_003) // so that pieces end at any place
		if _, err := c.Write([]byte(rest[:n])); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if whole {
		c.Assembled(json.RawMessage(object))
	}
	if err := x.End(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.close()
	lines := r.lines(t)
	if len(lines) != 2 || lines[1].Type != gateway.End {
		t.Fatalf("%d lines", len(lines))
	}
	end := lines[1]
	end.Request.JSON, end.Request.Text = lines[0].Request.JSON, lines[0].Request.Text
	return end
}

func TestRedactCoversEveryBody(t *testing.T) {
	value := func(text string) string { return `{"a":"` + text + `","n":1.50}` }
	long := strings.Repeat("lorem ipsum ", mib/12) + address + strings.Repeat(" dolor", 1000)
	for _, tc := range []struct{ name, contentType, request, response, object string }{
		{"short JSON", "application/json", value(address), value("x " + address), ""},
		{"short text", "text/plain", address, "to " + address, ""},
		{"long JSON", "application/json", value(long), value(long), ""},
		{"long text", "text/plain", long, long, ""},
		{"a stream", "text/event-stream", value(address), "data: bob@\n\ndata: example.com\n\n", value(address)},
		{"a long stream", "text/event-stream", value(address), strings.Repeat("data: bob@\n\ndata: example.com\n\n", mib/16), value(address)},
		{"a long object", "text/event-stream", value(address), "data: bob@\n\ndata: example.com\n\n", value(long)},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newHarness(t, audit.Options{}, nil, nil)
			end := redacted(t, r, tc.contentType, tc.request, tc.response, tc.object)
			kept := string(end.Request.JSON) + end.Request.Text + string(end.Response.JSON) + end.Response.Text + string(end.Response.Assembled) +
				end.ErrorMessage
			for _, b := range []*gateway.Body{end.Request, end.Response} {
				if b.Blob == "" {
					continue
				}
				blob := r.read(t, b.Blob)
				kept += blob
				if b.Stored == nil || b.Stored.SHA256 != sumOf(blob) || b.Stored.Size != int64(len(blob)) {
					t.Errorf("%s: the record says of its blob %+v", tc.name, b.Stored)
				}
			}
			if strings.Contains(kept, address) || strings.Contains(kept, "bob@") {
				t.Errorf("%s: the address was kept", tc.name)
			}
			if n := strings.Count(kept, "[email]"); n != 3 || end.Redactions != 2 {
				t.Errorf("%s: %d marks, %d redactions, want 3 with the error's and 2", tc.name, n, end.Redactions)
			}
			if end.Request.SHA256 != sumOf(tc.request) || end.Response.SHA256 != sumOf(tc.response) || end.Response.Size != int64(len(tc.response)) {
				t.Errorf("%s: size and hashes are not the wire's", tc.name)
			}
		})
	}
}

// Size and hash on the wire differ from those of a blob from which personal data was removed.
func TestVerifyAcceptsRedactedBlobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blobs, manifest := &blob.Mem{}, manifest.New(table.NewMem())
		w := journal.New(journal.Options{Blobs: blobs, Manifest: manifest})
		r := &harness{Log: audit.New(audit.Options{Journal: w, Bodies: blobs}), journal: blobs, bodies: blobs, writer: w}
		long := `{"a":"` + strings.Repeat("lorem ipsum ", 100_000) + address + `"}`
		end := redacted(t, r, "application/json", long, long, "")
		if end.Request.Stored == nil || end.Response.Stored == nil {
			t.Fatalf("the bodies are not redacted blobs: %+v, %+v", end.Request, end.Response)
		}
		report, err := verify.Run(t.Context(), manifest, blobs, time.Time{}, time.Time{})
		if err != nil || len(report.Breaks) > 0 || report.Bodies != 2 {
			t.Errorf("%d bodies, breaks %v, error %v; want 2 and none", report.Bodies, report.Breaks, err)
		}
	})
}

func (r *harness) read(t *testing.T, name string) string {
	t.Helper()
	blob, err := r.bodies.Open(t.Context(), name, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	data, err := io.ReadAll(blob)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
