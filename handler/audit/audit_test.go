package audit_test

import (
	"bytes"
	"context"
	"errors"
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
	"aoaigateway/handler/journal/journaltest"
)

// harness is a log over storage in memory that can be made to fail.
type harness struct {
	*audit.Log
	journal *blob.Mem
	bodies  *blob.Mem
	writer  *journal.Writer
}

type hook = func(ctx context.Context, op blob.Op, name string) (bool, error)

func newHarness(t *testing.T, o audit.Options, journalFault, bodiesFault hook) *harness {
	t.Helper()
	r := &harness{journal: &blob.Mem{Fault: journalFault}, bodies: &blob.Mem{Fault: bodiesFault}}
	r.writer = journal.New(journal.Options{Blobs: r.journal, MaxBacklog: 8 << 20})
	o.Journal, o.Bodies = r.writer, r.bodies
	r.Log = audit.New(o)
	return r
}

func (r *harness) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = r.writer.Close(ctx)
}

// lines reads the journal back.
func (r *harness) lines(t *testing.T) []gateway.Line {
	t.Helper()
	r.journal.Fault = nil
	return journaltest.Lines(t, r.journal)
}

func record(id string) *gateway.Record {
	return &gateway.Record{
		ID: id, Time: time.Now().UTC(), Method: "POST", URL: "/openai/deployments/m/chat/completions?api-version=2024-10-21",
		Operation: "ChatCompletions_Create", Surface: "classic", Model: "m", Outcome: gateway.Complete, Status: 200,
		Caller: gateway.Caller{Subscription: "s1", Product: "gold", KeySlot: "primary", IP: "10.0.0.1"},
	}
}

const (
	question = `{"messages":[{"role":"user","content":"hi"}]}`
	answer   = `{"id":"chatcmpl-1","choices":[{"message":{"content":"hello"}}]}`
)

// exchange runs one whole exchange and returns what End said.
func exchange(t *testing.T, l *audit.Log, rec *gateway.Record, request, response []byte) error {
	t.Helper()
	x := l.Exchange(rec)
	x.Request("application/json", bodytest.Of(request))
	if err := x.Begin(); err != nil {
		t.Fatal(err)
	}
	c := x.Response("application/json")
	if _, err := c.Write(response); err != nil {
		t.Log("write:", err)
	}
	return x.End(context.Background())
}

func wantUnavailable(t *testing.T, err error) {
	t.Helper()
	e, ok := errors.AsType[*gateway.Error](err)
	if !ok || e.Kind != gateway.Unavailable || e.Code == "" || e.Message == "" {
		t.Errorf("got %v, want a gateway.Error of kind Unavailable with reason and message", err)
	}
}

func blobText(t *testing.T, b blob.Store, name string) string {
	t.Helper()
	r, err := b.Open(context.Background(), name, 0)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	defer func() { _ = r.Close() }()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func blobCount(t *testing.T, b *blob.Mem) int {
	t.Helper()
	b.Fault = nil
	found, err := b.List(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	return len(found)
}

func TestEndOmitsRequestContent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newHarness(t, audit.Options{}, nil, nil)
		rec := record("r1")
		if err := exchange(t, r.Log, rec, []byte(question), []byte(answer)); err != nil {
			t.Fatal(err)
		}
		ls := r.lines(t) // before Close, so they are durable already
		r.close()
		if len(ls) != 2 || ls[0].Type != gateway.Begin || ls[1].Type != gateway.End {
			t.Fatalf("lines: %+v", ls)
		}
		if string(ls[0].Request.JSON) != question || ls[0].Request.Size != int64(len(question)) || ls[0].Response != nil {
			t.Errorf("begin: %+v", ls[0].Request)
		}
		end := ls[1]
		if end.Request.JSON != nil || end.Request.SHA256 != ls[0].Request.SHA256 || string(end.Response.JSON) != answer {
			t.Errorf("end: request %+v, response %+v", end.Request, end.Response)
		}
		if end.Subscription != "s1" || end.Outcome != gateway.Complete || !end.Time.Equal(rec.Time) || end.Relaxed {
			t.Errorf("end: %+v", end)
		}
	})
}

func TestRefusalHasWholeRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newHarness(t, audit.Options{}, nil, nil)
		x := r.Exchange(record("r1"))
		x.Request("text/plain", bodytest.Of([]byte("no JSON")))
		if err := x.End(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.close()
		ls := r.lines(t)
		if len(ls) != 1 || ls[0].Type != gateway.End || ls[0].Request.Text != "no JSON" {
			t.Errorf("lines: %+v", ls)
		}
	})
}

func TestBeginIsASnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newHarness(t, audit.Options{}, nil, nil)
		rec := record("r1")
		x := r.Exchange(rec)
		if err := x.Begin(); err != nil {
			t.Fatal(err)
		}
		rec.Region = "west"
		if err := x.End(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.close()
		if ls := r.lines(t); ls[0].Region != "" || ls[1].Region != "west" {
			t.Errorf("regions %q, %q, want none, west", ls[0].Region, ls[1].Region)
		}
	})
}

func TestLargeBodyPrecedesRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r *harness
		slow := func(_ context.Context, op blob.Op, name string) (bool, error) {
			if op == blob.OpPut {
				time.Sleep(2 * time.Second)
				if used, _ := r.writer.Backlog(); used != 0 && strings.HasSuffix(name, "request") {
					t.Error("the begin record was queued before its body was durable")
				}
			}
			return true, nil
		}
		r = newHarness(t, audit.Options{}, nil, slow)
		request, response := bytes.Repeat([]byte("q"), 1<<20+1), bytes.Repeat([]byte("a"), 5<<20)
		if err := exchange(t, r.Log, record("r1"), request, response); err != nil {
			t.Fatal(err)
		}
		r.close()
		ls := r.lines(t)
		if len(ls) != 2 || ls[0].Request.Blob != "bodies/r1/request" || ls[1].Response.Blob != "bodies/r1/response" {
			t.Fatalf("lines: %+v", ls)
		}
		if blobText(t, r.bodies, ls[0].Request.Blob) != string(request) || blobText(t, r.bodies, ls[1].Response.Blob) != string(response) {
			t.Error("blobs do not hold the bodies")
		}
		if ls[1].Response.Size != 5<<20 || ls[1].Response.Text != "" {
			t.Errorf("response: %+v", ls[1].Response)
		}
	})
}

func TestBeginNeverWaits(t *testing.T) {
	for _, size := range []int{10, 2 << 20} {
		synctest.Test(t, func(t *testing.T) {
			delay := func(context.Context, blob.Op, string) (bool, error) {
				time.Sleep(3 * time.Second)
				return true, nil
			}
			r := newHarness(t, audit.Options{}, delay, delay)
			x := r.Exchange(record("r1"))
			x.Request("", bodytest.Of(make([]byte, size)))
			start := time.Now()
			if err := x.Begin(); err != nil || time.Since(start) != 0 {
				t.Errorf("Begin: %v after %v", err, time.Since(start))
			}
			if err := x.BeginDurable(t.Context()); err != nil || time.Since(start) < 6*time.Second {
				t.Errorf("BeginDurable: %v after %v, want nil after create and append", err, time.Since(start))
			}
			if err := x.End(t.Context()); err != nil {
				t.Error(err)
			}
			r.close()
		})
	}
}

// away makes storage fail or hang while on is set.
func TestEndTwiceFails(t *testing.T) {
	r := newHarness(t, audit.Options{}, nil, nil)
	defer r.close()
	x := r.Exchange(record("r1"))
	if err := x.End(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := x.End(t.Context()); err == nil {
		t.Error("second End succeeded")
	}
}
