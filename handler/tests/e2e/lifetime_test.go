package e2e_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"aoaigateway/handler/app"
	"aoaigateway/handler/blob"
	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/tests/harness"
)

const (
	firstChunk = `data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"one"},"finish_reason":null}]}` + "\n\n"
	lastChunk  = `data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` +
		"\n\n"
	usageChunk = `data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}` + "\n\n"
	doneEvent  = "data: [DONE]\n\n"
	wholeChat  = `{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"one two three"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}`
)

// scripted puts a region that says what h says in the place of the first one.
func scripted(t *testing.T, h http.HandlerFunc) func(*app.Settings) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return func(s *app.Settings) { s.Backends[0].Endpoint = u }
}

// says answers with an event stream, flushed piece by piece.
func says(pieces ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		for _, p := range pieces {
			_, _ = io.WriteString(w, p)
			_ = http.NewResponseController(w).Flush()
		}
	}
}

func wantComplete(r *harness.Gateway, a harness.Answer) gateway.Record {
	r.T.Helper()
	if a.Err != nil || a.Status != 200 {
		r.T.Fatalf("%d, %v: %.500s", a.Status, a.Err, a.Body)
	}
	rec := r.RecordOf(a)
	if rec.Outcome != gateway.Complete || rec.Status != 200 {
		r.T.Errorf("record %+v", rec)
	}
	return rec
}

// wantCut: an error event last, no clean end, and nothing that completes an answer.
func wantCut(r *harness.Gateway, a harness.Answer, outcome gateway.Outcome, code string) gateway.Record {
	r.T.Helper()
	list := harness.Events(a.Body)
	last := list[len(list)-1]
	if a.Err == nil || !strings.Contains(last, `"error"`) || !strings.Contains(last, code) || bytes.Contains(a.Body, []byte("[DONE]")) {
		r.T.Errorf("%v: %s", a.Err, a.Body)
	}
	wantWholeEvents(r.T, a.Body)
	rec := r.RecordOf(a)
	if rec.Outcome != outcome {
		r.T.Errorf("record %+v", rec)
	}
	return rec
}

// wantWholeEvents: whatever happens, a client's parser never sees half an event.
func wantWholeEvents(t *testing.T, stream []byte) {
	t.Helper()
	for _, e := range harness.Events(stream) {
		for line := range strings.SplitSeq(e, "\n") {
			data, ok := strings.CutPrefix(line, "data: ")
			if ok && data != "[DONE]" && !json.Valid([]byte(data)) {
				t.Errorf("half an event: %q", e)
			}
		}
	}
}

func TestEarlyStreamEndsWhole(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1, Settings: func(s *app.Settings) { s.StreamBeginAfter = 30 * time.Millisecond }})
	r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoHang, Millis: 150})
	a := r.Post(harness.ChatPath, harness.ChatStream)
	rec := wantComplete(r, a)
	if !bytes.HasPrefix(a.Body, []byte(": keep-alive\n\n")) || !bytes.HasSuffix(a.Body, []byte(doneEvent)) || rec.Usage.Estimated ||
		rec.Usage.Total == 0 {
		t.Errorf("usage %+v of\n%s", rec.Usage, a.Body)
	}
	if a.Header.Get("Content-Type") != "text/event-stream; charset=utf-8" {
		t.Errorf("header %v", a.Header)
	}
}

func TestEarlyStreamFailsOver(t *testing.T) {
	r := harness.Start(t, harness.Options{Settings: func(s *app.Settings) {
		s.StreamBeginAfter, s.StreamFirstByteTimeout = 30*time.Millisecond, 150*time.Millisecond
	}})
	r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoHang})
	a := r.Post(harness.ChatPath, harness.ChatStream)
	if rec := wantComplete(r, a); rec.Region != "b" || len(rec.Attempts) != 2 {
		t.Errorf("record %+v", rec)
	}
}

func TestEarlyStreamReportsError(t *testing.T) {
	for name, c := range map[string]struct {
		status  int
		body    string
		code    string
		status2 int
	}{
		"throttled": {429, "", "RateLimitExceeded", 0},
		"failing":   {500, "", "500", 500},
		"refused": {400, `{"error":{"code":"content_filter","message":"The prompt was filtered.","status":400}}`, "content_filter",
			400},
		"credential":            {401, "", "BackendCredentialRefused", 0},
		"answered as no stream": {200, wholeChat, "upstream_error", 200},
	} {
		t.Run(name, func(t *testing.T) {
			r := harness.Start(t, harness.Options{Regions: 1, Settings: func(s *app.Settings) { s.StreamBeginAfter = 30 * time.Millisecond }})
			r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoHang, Millis: 150})
			r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoStatus, Status: c.status, Body: c.body})
			a := r.Post(harness.ChatPath, harness.ChatStream)
			rec := wantCut(r, a, gateway.UpstreamCut, c.code)
			if a.Status != 200 || rec.Status != 200 || rec.BackendStatus != c.status2 {
				t.Errorf("record %+v", rec)
			}
		})
	}
}

func TestStreamStopsAtTerminalEvent(t *testing.T) {
	forever := make(chan struct{})
	for name, h := range map[string]http.HandlerFunc{
		"more events":  says(firstChunk, lastChunk, usageChunk, doneEvent, firstChunk, "data: {\"late\":1}\n\n"),
		"in one piece": says(firstChunk + lastChunk + usageChunk + doneEvent + firstChunk),
		"garbage":      says(firstChunk, lastChunk, usageChunk, doneEvent, strings.Repeat("x", 1<<20)),
		"never closes": func(w http.ResponseWriter, r *http.Request) {
			says(firstChunk, lastChunk, usageChunk, doneEvent)(w, r)
			select {
			case <-r.Context().Done():
			case <-forever:
			}
		},
		"never stops": func(w http.ResponseWriter, r *http.Request) {
			says(firstChunk, lastChunk, usageChunk, doneEvent)(w, r)
			for r.Context().Err() == nil {
				says(firstChunk)(w, r)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := harness.Start(t, harness.Options{Regions: 1, Settings: scripted(t, h)})
			start := time.Now()
			a := r.Post(harness.ChatPath, harness.ChatStream)
			rec := wantComplete(r, a)
			if string(a.Body) != firstChunk+lastChunk+doneEvent || rec.Usage.Total != 4 || time.Since(start) > time.Second {
				t.Errorf("after %v, usage %+v: %s", time.Since(start), rec.Usage, a.Body)
			}
		})
	}
	close(forever)
}

func TestHalfEventIsNotSent(t *testing.T) {
	abort := func(pieces ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			says(pieces...)(w, r)
			panic(http.ErrAbortHandler)
		}
	}
	half := firstChunk[:len(firstChunk)-20]
	v1 := `{"model":"chat","input":"hi","stream":true}`
	created := "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"object\":\"response\"}}\n\n"
	for name, c := range map[string]struct {
		path, body string
		region     http.HandlerFunc
	}{
		"cut":                       {harness.ChatPath, harness.ChatStream, abort(firstChunk, half)},
		"clean end":                 {harness.ChatPath, harness.ChatStream, says(firstChunk, half)},
		"no blank line":             {harness.ChatPath, harness.ChatStream, says(firstChunk, strings.TrimSuffix(lastChunk, "\n"))},
		"half a completion, cut":    {"/openai/v1/responses", v1, abort(created, "event: response.completed\ndata: {\"type\":\"response.comp")},
		"half a completion, ended":  {"/openai/v1/responses", v1, says(created, "event: response.completed\ndata: {\"type\":\"response.comp")},
		"only a completion's name":  {"/openai/v1/responses", v1, says(created, "event: response.completed\n")},
		"events after a half began": {harness.ChatPath, harness.ChatStream, abort(firstChunk, half, "da")},
	} {
		t.Run(name, func(t *testing.T) {
			r := harness.Start(t, harness.Options{Regions: 1, Settings: scripted(t, c.region)})
			a := r.Post(c.path, c.body)
			wantCut(r, a, gateway.UpstreamCut, "upstream_cut")
		})
	}
}

func TestDoneWithoutBlankLine(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1, Settings: scripted(t, says(firstChunk, lastChunk, usageChunk, "data: [DONE]"))})
	a := r.Post(harness.ChatPath, harness.ChatStream)
	if wantComplete(r, a); !bytes.HasSuffix(a.Body, []byte("data: [DONE]")) {
		t.Errorf("%s", a.Body)
	}
}

func TestHalfFirstEventFailsOver(t *testing.T) {
	for name, first := range map[string]string{"half": firstChunk[:50], "nothing": "", "a comment": ": hello\n\n", "half a comment": ": hel"} {
		t.Run(name, func(t *testing.T) {
			r := harness.Start(t, harness.Options{Settings: scripted(t, says(first))})
			if rec := wantComplete(r, r.Post(harness.ChatPath, harness.ChatStream)); rec.Region != "b" ||
				rec.Attempts[0].Reason != "cut-before-first-event" {
				t.Errorf("record %+v", rec)
			}
		})
	}
}

func TestBreakingRegionIsAvoided(t *testing.T) {
	r := harness.Start(t, harness.Options{Settings: scripted(t, says(firstChunk))})
	for range 3 {
		wantCut(r, r.Post(harness.ChatPath, harness.ChatStream), gateway.UpstreamCut, "upstream_cut")
	}
	if rec := wantComplete(r, r.Post(harness.ChatPath, harness.ChatStream)); rec.Region != "b" || len(rec.Attempts) != 1 {
		t.Errorf("record %+v", rec)
	}
}

// A stream was asked for and one body came, or the other way round: the client gets what
// the region said, and the record what it used.
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
	t.Run("each event at once", func(t *testing.T) {
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
	})
	t.Run("broken", func(t *testing.T) {
		r := harness.Start(t, harness.Options{Settings: scripted(t, func(w http.ResponseWriter, q *http.Request) {
			_, _ = io.Copy(io.Discard, q.Body)
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = io.WriteString(w, zipped(wholeChat)[:60])
		})})
		if rec := wantComplete(r, r.Post(harness.ChatPath, harness.ChatBody)); rec.Region != "b" {
			t.Errorf("record %+v", rec)
		}
	})
}

// open posts a chat call and returns once its status is there.
func open(r *harness.Gateway, ctx context.Context, body string) *http.Response {
	r.T.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL+harness.ChatPath, strings.NewReader(body))
	if err != nil {
		r.T.Fatal(err)
	}
	req.Header.Set("Api-Key", r.Key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.T.Fatal(err)
	}
	return resp
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

// noBodies is a container that takes no bodies, as when storage is away.
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
		r := harness.Start(t, harness.Options{Regions: 1, Settings: scripted(t, longStream(3<<20)),
			Services: func(e *app.Services) { e.Blobs = noBodies{e.Blobs} }})
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

// quiet waits until no more goroutines run than before.
func quiet(t *testing.T, before int) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
		http.DefaultClient.CloseIdleConnections()
		time.Sleep(5 * time.Millisecond)
	}
}

func TestClientLeavesAtAnyStage(t *testing.T) {
	head := strings.NewReplacer("{host}", "gateway").Replace(unsent(request("POST", harness.ChatPath, "", "api-key: {key}")))
	send := func(body string) string {
		return strings.Replace(call("POST", harness.ChatPath, body), "{host}", "gateway", 1)
	}
	stream := strings.Replace(harness.ChatStream, "tokens:6", "tokens:400", 1)
	for _, c := range []struct {
		name    string
		fault   aoaisim.Do
		request string
		until   string // the client reads up to this, then leaves
		gate    bool   // no record becomes durable meanwhile
		outcome gateway.Outcome
	}{
		{"before its body", "", head, "", false, gateway.Refused},
		{"in its body", "", head + harness.ChatBody, "", false, gateway.Refused},
		{"before a call is answered", aoaisim.DoHang, send(harness.ChatBody), "", false, gateway.ClientLeft},
		{"before a stream is answered", aoaisim.DoHang, send(harness.ChatStream), "", false, gateway.ClientLeft},
		{"before the first event", aoaisim.DoHangEvent, send(harness.ChatStream), "", false, gateway.ClientLeft},
		{"before its begin is durable", "", send(harness.ChatStream), "", true, gateway.ClientLeft},
		{"in a stream", aoaisim.DoSlow, send(stream), "data: ", false, gateway.ClientLeft},
		{"while the end is held", "", send(harness.ChatStream), `"finish_reason":"stop"`, true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := harness.Start(t, harness.Options{Regions: 1, Settings: func(s *app.Settings) { s.AuditWait = 500 * time.Millisecond }})
			wantComplete(r, r.Post(harness.ChatPath, harness.ChatBody))
			http.DefaultClient.CloseIdleConnections()
			before := runtime.NumGoroutine()
			if c.fault != "" {
				r.Regions[0].Fault(aoaisim.Fault{Do: c.fault, Millis: map[aoaisim.Do]int{aoaisim.DoSlow: 20}[c.fault]})
			}
			gate := make(chan struct{})
			conn := dial(r)
			if c.gate && c.until == "" {
				r.Fault.Store(harness.NoAppends(gate))
			}
			_, _ = io.WriteString(conn, strings.Replace(c.request, "{key}", r.Key, 1))
			readUntil(r, conn, c.until, func() {
				if c.gate {
					r.Fault.Store(harness.NoAppends(gate))
				}
			})
			if c.fault != "" {
				waitFor(r, "the region to be asked", func() bool { return r.Regions[0].Counts().Open > 0 })
			}
			_ = conn.Close()
			time.AfterFunc(100*time.Millisecond, func() { close(gate) })
			waitFor(r, "two end records", func() bool { return r.Ends() == 2 })
			waitFor(r, "the region to be left alone", func() bool { return r.Regions[0].Counts().Open == 0 })
			if c.outcome != "" {
				r.Find("one of outcome "+string(c.outcome), func(rec gateway.Record) bool { return rec.Outcome == c.outcome })
			}
			quiet(t, before)
		})
	}
}

// readUntil reads up to mark, and calls begun at the first event on the way.
func readUntil(r *harness.Gateway, in io.Reader, mark string, begun func()) {
	r.T.Helper()
	var seen []byte
	for buf := make([]byte, 256); mark != "" && !bytes.Contains(seen, []byte(mark)); {
		n, err := in.Read(buf)
		if seen = append(seen, buf[:n]...); err != nil {
			r.T.Fatalf("%v before %q in %s", err, mark, seen)
		}
		if begun != nil && bytes.Contains(seen, []byte("data: ")) {
			begun()
			begun = nil
		}
	}
}

func waitFor(r *harness.Gateway, what string, ok func() bool) {
	r.T.Helper()
	for deadline := time.Now().Add(5 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.T.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestStuckClientIsGivenUp(t *testing.T) {
	for name, c := range map[string]struct {
		region http.HandlerFunc
		body   string
	}{
		"stream": {longStream(64 << 20), harness.ChatStream},
		"long body": {func(w http.ResponseWriter, q *http.Request) {
			_, _ = io.Copy(io.Discard, q.Body)
			_, _ = io.Copy(w, io.LimitReader(endless{}, 64<<20))
		}, harness.ChatBody},
	} {
		t.Run(name, func(t *testing.T) {
			scripted := scripted(t, c.region)
			r := harness.Start(t, harness.Options{Regions: 1,
				Settings: func(s *app.Settings) { scripted(s); s.ClientIdleTimeout = 200 * time.Millisecond }})
			conn := dial(r)
			defer conn.Close()
			_, _ = io.WriteString(conn, strings.NewReplacer("{key}", r.Key, "{host}", "gateway").Replace(call("POST", harness.ChatPath, c.body)))
			r.Find("one of a client that left", func(rec gateway.Record) bool { return rec.Outcome == gateway.ClientLeft })
		})
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func TestConnectionReuse(t *testing.T) {
	var opened atomic.Int64
	region := httptest.NewUnstartedServer(says(firstChunk, lastChunk, usageChunk, doneEvent))
	region.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	region.Start()
	defer region.Close()
	u, _ := url.Parse(region.URL)
	r := harness.Start(t, harness.Options{Regions: 1, Settings: func(s *app.Settings) { s.Backends[0].Endpoint = u }})
	const streams = 30
	for range streams {
		wantComplete(r, r.Post(harness.ChatPath, harness.ChatStream))
	}
	if n := opened.Load(); n > streams/5 {
		t.Errorf("%d connections for %d streams, one after another", n, streams)
	}
}

func TestHeartbeatsStayBetweenEvents(t *testing.T) {
	var transport *http.Transport
	r := harness.Start(t, harness.Options{
		Regions: 1, Settings: func(s *app.Settings) { s.Heartbeat = time.Millisecond },
		Services: func(e *app.Services) { transport = e.Transport.(*http.Transport) },
	})
	http.DefaultClient.CloseIdleConnections()
	r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoSplit, Bytes: 40})
	r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoSlow, Millis: 1})
	before := runtime.NumGoroutine()
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for range 5 {
				a := r.Post(harness.ChatPath, harness.ChatStream)
				if a.Err != nil || !bytes.HasSuffix(a.Body, []byte(doneEvent)) {
					t.Errorf("%v: %s", a.Err, a.Body)
				}
				wantWholeEvents(t, a.Body)
			}
		})
	}
	clients.Wait()
	transport.CloseIdleConnections()
	quiet(t, before)
}

func TestSlowStreamIsWhole(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1, Settings: func(s *app.Settings) { s.Heartbeat = 5 * time.Millisecond }})
	r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoSplit, Bytes: 3})
	r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoSlow, Millis: 30})
	a := r.Post(harness.ChatPath, harness.ChatStream)
	if rec := wantComplete(r, a); rec.Usage.Estimated {
		t.Errorf("usage %+v", rec.Usage)
	}
	wantWholeEvents(t, a.Body)
}

// faulty panics where the gateway least expects it.
type faulty struct {
	http.RoundTripper
	after int // bytes of the body; negative = in place of an answer
}

func (f faulty) RoundTrip(req *http.Request) (*http.Response, error) {
	if f.after < 0 {
		panic("a fault of ours")
	}
	resp, err := f.RoundTripper.RoundTrip(req)
	if err == nil {
		resp.Body = &faultyBody{resp.Body, f.after}
	}
	return resp, err
}

type faultyBody struct {
	io.ReadCloser
	left int
}

func (b *faultyBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		panic("a fault of ours")
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

func TestPanicLeavesRecord(t *testing.T) {
	for name, after := range map[string]int{"before the answer": -1, "in a stream": 600} {
		t.Run(name, func(t *testing.T) {
			r := harness.Start(t, harness.Options{Regions: 1, Services: func(e *app.Services) { e.Transport = faulty{e.Transport, after} }})
			a := r.Post(harness.ChatPath, harness.ChatStream)
			if after < 0 && (a.Status != 500 || a.Event(t, "error", "message") == "" || bytes.Contains(a.Body, []byte("a fault of ours"))) {
				t.Errorf("%d %s", a.Status, a.Body)
			}
			if after > 0 && (a.Err == nil || bytes.Contains(a.Body, []byte("[DONE]"))) {
				t.Errorf("%v: %s", a.Err, a.Body)
			}
			if rec := r.RecordOf(a); rec.Outcome != gateway.GatewayFailed || rec.Status != 500 {
				t.Errorf("record %+v", rec)
			}
		})
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
