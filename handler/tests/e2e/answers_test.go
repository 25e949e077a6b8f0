package e2e_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"aoaigateway/handler/app"
	"aoaigateway/handler/blob"
	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/tests/harness"
)

// The client asks for a stream and the region sends one body, or the reverse. The client
// gets what the region sent, and the record has the usage.
func TestAnswerOfOtherForm(t *testing.T) {
	whole := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, wholeChat)
	}
	loud := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "Text/Event-Stream;charset=UTF-8")
		_, _ = io.WriteString(w, firstChunk+lastChunk+usageChunk+doneEvent)
	}
	for name, c := range map[string]struct {
		region     http.HandlerFunc
		body, want string
	}{
		"one body to a stream": {whole, harness.ChatStream, wholeChat},
		"a stream to a call": {says(firstChunk, lastChunk, usageChunk, doneEvent), harness.ChatBody, firstChunk + lastChunk + usageChunk +
			doneEvent},
		"a type in other letters": {loud, harness.ChatStream, firstChunk + lastChunk + doneEvent},
	} {
		t.Run(name, func(t *testing.T) {
			r := harness.Start(t, harness.Options{Regions: 1, Settings: scripted(t, c.region)})
			a := r.Post(harness.ChatPath, c.body)
			if rec := wantComplete(r, a); rec.Usage.Total != 4 || rec.Usage.Estimated || string(a.Body) != c.want {
				t.Errorf("usage %+v: %s", rec.Usage, a.Body)
			}
		})
	}
}

func TestAnswerWithoutUsageIsEstimated(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1})
	r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoStatus, Status: 200, Body: `{"choices":[{"message":{"content":"` +
		strings.Repeat("four", 50) + `"}}]}`})
	if rec := wantComplete(r, r.Post(harness.ChatPath, harness.ChatBody)); !rec.Usage.Estimated || rec.Usage.Completion != 50 {
		t.Errorf("usage %+v", rec.Usage)
	}
}

func zipped(s string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = io.WriteString(z, s)
	_ = z.Close()
	return b.String()
}

func TestUnrequestedGzipIsDecoded(t *testing.T) {
	stream := firstChunk + lastChunk + usageChunk + doneEvent
	long := `{"data":"` + strings.Repeat("y", 2<<20) + `","usage":{"total_tokens":4}}`
	for name, c := range map[string]struct{ kind, plain, want, body string }{
		"whole":  {"application/json", wholeChat, wholeChat, harness.ChatBody},
		"stream": {"text/event-stream", stream, firstChunk + lastChunk + doneEvent, harness.ChatStream},
		"long":   {"application/json", long, long, harness.ChatBody},
	} {
		t.Run(name, func(t *testing.T) {
			r := harness.Start(t, harness.Options{Regions: 1, Settings: scripted(t, func(w http.ResponseWriter, q *http.Request) {
				_, _ = io.Copy(io.Discard, q.Body)
				w.Header().Set("Content-Type", c.kind)
				w.Header().Set("Content-Encoding", "gzip")
				_, _ = io.WriteString(w, zipped(c.plain))
			})})
			a := r.Post(harness.ChatPath, c.body)
			rec := wantComplete(r, a)
			if string(a.Body) != c.want || a.Header.Get("Content-Encoding") != "" || rec.Usage.Total != 4 {
				t.Errorf("%v, usage %+v: %.300s", a.Header, rec.Usage, a.Body)
			}
		})
	}
}

func TestOddAnswersPassUnchanged(t *testing.T) {
	for name, c := range map[string]struct {
		region http.HandlerFunc
		status int
		body   string
	}{
		"204":         {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, 204, ""},
		"304":         {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) }, 304, ""},
		"200 of none": {func(http.ResponseWriter, *http.Request) {}, 200, ""},
		"202":         {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) }, 202, ""},
		"early hints": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", "</x>")
			w.WriteHeader(http.StatusEarlyHints)
			_, _ = io.WriteString(w, wholeChat)
		}, 200, wholeChat},
		"trailers": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Trailer", "X-After")
			_, _ = io.WriteString(w, wholeChat)
			w.Header().Set("X-After", "1")
		}, 200, wholeChat},
	} {
		t.Run(name, func(t *testing.T) {
			r := harness.Start(t, harness.Options{Regions: 1, Settings: scripted(t, func(w http.ResponseWriter, q *http.Request) {
				_, _ = io.Copy(io.Discard, q.Body)
				c.region(w, q)
			})})
			a := r.Post(harness.ChatPath, harness.ChatBody)
			if a.Status != c.status || string(a.Body) != c.body || a.Err != nil {
				t.Errorf("%d, %v: %s", a.Status, a.Err, a.Body)
			}
			if rec := r.RecordOf(a); rec.Outcome != gateway.Complete || rec.Status != c.status {
				t.Errorf("record %+v", rec)
			}
			if again := r.Post(harness.ChatPath, harness.ChatBody); again.Status != c.status {
				t.Errorf("the second time: %d, %v", again.Status, again.Err)
			}
		})
	}
}

// noBodies is a container to which no bodies can be written, as during an outage of
// storage.
type noBodies struct{ blob.Store }

func (noBodies) Put(context.Context, string, io.Reader) error {
	return errors.New("storage is away")
}

func longStream(n int) http.HandlerFunc {
	chunk := strings.Replace(firstChunk, "one", strings.Repeat("x", 8<<10), 1)
	return says(append(slices.Repeat([]string{chunk}, n/(8<<10)), lastChunk, usageChunk, doneEvent)...)
}

func TestUnrecordableAnswerIsBroken(t *testing.T) {
	t.Run("stream", func(t *testing.T) {
		r := harness.Start(t, harness.Options{
			Regions: 1, Settings: scripted(t, longStream(3<<20)),
			Services: func(e *app.Services) { e.Blobs = noBodies{e.Blobs} },
		})
		a := r.Post(harness.ChatPath, harness.ChatStream)
		if len(a.Body) > 2<<20 {
			t.Errorf("%d bytes left although they could not be kept", len(a.Body))
		}
		wantCut(r, a, gateway.NotDurable, "AuditLogUnavailable")
	})
	t.Run("long body", func(t *testing.T) {
		r := harness.Start(t, harness.Options{Regions: 1, Services: func(e *app.Services) { e.Blobs = noBodies{e.Blobs} }})
		r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoStatus, Status: 200, Body: `{"data":"` + strings.Repeat("y", 4<<20) + `"}`})
		a := r.Post(harness.ChatPath, harness.ChatBody)
		if a.Err == nil || len(a.Body) > 2<<20 {
			t.Errorf("%d bytes left, %v", len(a.Body), a.Err)
		}
		if rec := r.RecordOf(a); rec.Outcome != gateway.NotDurable {
			t.Errorf("record %+v", rec)
		}
	})
}

func TestLongStreamIsRecordedRaw(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1, Settings: scripted(t, longStream(10<<20))})
	a := r.Post(harness.ChatPath, harness.ChatStream)
	rec := wantComplete(r, a)
	if len(rec.Response.Assembled) != 0 || rec.Response.Blob == "" || rec.Response.Size < 10<<20 || rec.Usage.Total != 4 {
		t.Errorf("response %+v, usage %+v", rec.Response, rec.Usage)
	}
}

func TestStreamOptionsRefusal(t *testing.T) {
	refuses := func(w http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		if bytes.Contains(body, []byte("bogus")) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"error":{"message":"Unknown parameter: 'stream_options.bogus'."}}`)
			return
		}
		says(firstChunk, lastChunk, usageChunk, doneEvent)(w, q)
	}
	r := harness.Start(t, harness.Options{Regions: 1, Settings: scripted(t, refuses)})
	a := r.Post(harness.ChatPath, strings.Replace(harness.ChatStream, "{", `{"stream_options":{"bogus":1},`, 1))
	if a.Status != 400 || !bytes.Contains(a.Body, []byte("bogus")) {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	if a := r.Post(harness.ChatPath, harness.ChatStream); bytes.Contains(a.Body, []byte(`"usage"`)) {
		t.Errorf("usage is no longer asked for by us: %s", a.Body)
	} else if rec := wantComplete(r, a); rec.Usage.Total != 4 {
		t.Errorf("usage %+v", rec.Usage)
	}
}

func TestUnrequestedGzipIsNotBuffered(t *testing.T) {
	next := make(chan struct{})
	r := harness.Start(t, harness.Options{Regions: 1, Settings: scripted(t, func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		for _, e := range []string{firstChunk, firstChunk, doneEvent} {
			_, _ = io.WriteString(z, e)
			_ = z.Flush()
			_ = http.NewResponseController(w).Flush()
			<-next
		}
	})})
	resp := open(r, t.Context(), harness.ChatStream)
	defer resp.Body.Close()
	in := bufio.NewReader(resp.Body)
	for range 3 {
		readEvent(t, in)
		next <- struct{}{}
	}
}

func TestBrokenGzipFailsOver(t *testing.T) {
	r := harness.Start(t, harness.Options{Settings: scripted(t, func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = io.WriteString(w, zipped(wholeChat)[:60])
	})})
	if rec := wantComplete(r, r.Post(harness.ChatPath, harness.ChatBody)); rec.Region != "b" {
		t.Errorf("record %+v", rec)
	}
}
