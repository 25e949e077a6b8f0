package main

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

	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal"
)

const (
	firstChunk = `data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"one"},"finish_reason":null}]}` + "\n\n"
	lastChunk  = `data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n"
	usageChunk = `data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}` + "\n\n"
	doneEvent  = "data: [DONE]\n\n"
	wholeChat  = `{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"one two three"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}`
)

// scripted puts a region that says what h says in the place of the first one.
func scripted(t *testing.T, h http.HandlerFunc) func(*settings) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return func(s *settings) { s.Backends[0].Endpoint = u }
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

func (r *rig) wantComplete(a answer) gateway.Record {
	r.t.Helper()
	if a.err != nil || a.status != 200 {
		r.t.Fatalf("%d, %v: %.500s", a.status, a.err, a.body)
	}
	rec := r.recordOf(a)
	if rec.Outcome != gateway.Complete || rec.Status != 200 {
		r.t.Errorf("record %+v", rec)
	}
	return rec
}

// wantCut: an error event last, no clean end, and nothing that completes an answer.
func (r *rig) wantCut(a answer, outcome gateway.Outcome, code string) gateway.Record {
	r.t.Helper()
	list := events(a.body)
	last := list[len(list)-1]
	if a.err == nil || !strings.Contains(last, `"error"`) || !strings.Contains(last, code) || bytes.Contains(a.body, []byte("[DONE]")) {
		r.t.Errorf("%v: %s", a.err, a.body)
	}
	wantWholeEvents(r.t, a.body)
	rec := r.recordOf(a)
	if rec.Outcome != outcome {
		r.t.Errorf("record %+v", rec)
	}
	return rec
}

// wantWholeEvents: whatever happens, a client's parser never sees half an event.
func wantWholeEvents(t *testing.T, stream []byte) {
	t.Helper()
	for _, e := range events(stream) {
		for line := range strings.SplitSeq(e, "\n") {
			data, ok := strings.CutPrefix(line, "data: ")
			if ok && data != "[DONE]" && !json.Valid([]byte(data)) {
				t.Errorf("half an event: %q", e)
			}
		}
	}
}

func TestAStreamBegunBeforeItsRegionSpeaksStillEndsWhole(t *testing.T) {
	r := newRig(t, rigOptions{regions: 1, settings: func(s *settings) { s.CommitAfter = 30 * time.Millisecond }})
	r.regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoHang, Millis: 150})
	a := r.post(chatPath, chatStream)
	rec := r.wantComplete(a)
	if !bytes.HasPrefix(a.body, []byte(": keep-alive\n\n")) || !bytes.HasSuffix(a.body, []byte(doneEvent)) || rec.Usage.Estimated || rec.Usage.Total == 0 {
		t.Errorf("usage %+v of\n%s", rec.Usage, a.body)
	}
	if a.header.Get("Content-Type") != "text/event-stream; charset=utf-8" {
		t.Errorf("header %v", a.header)
	}
}

func TestAStreamBegunEarlyCanStillFailOver(t *testing.T) {
	r := newRig(t, rigOptions{settings: func(s *settings) { s.CommitAfter, s.StreamFirst = 30*time.Millisecond, 150*time.Millisecond }})
	r.regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoHang})
	a := r.post(chatPath, chatStream)
	if rec := r.wantComplete(a); rec.Region != "b" || len(rec.Attempts) != 2 {
		t.Errorf("record %+v", rec)
	}
}

func TestAStreamBegunEarlyShowsALateFailureAsAnErrorEvent(t *testing.T) {
	for name, c := range map[string]struct {
		status  int
		body    string
		code    string
		status2 int
	}{
		"throttled":             {429, "", "RateLimitExceeded", 0},
		"failing":               {500, "", "500", 500},
		"refused":               {400, `{"error":{"code":"content_filter","message":"The prompt was filtered.","status":400}}`, "content_filter", 400},
		"credential":            {401, "", "BackendConnectionFailure", 0},
		"answered as no stream": {200, wholeChat, "upstream_error", 200},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, rigOptions{regions: 1, settings: func(s *settings) { s.CommitAfter = 30 * time.Millisecond }})
			r.regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoHang, Millis: 150})
			r.regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoStatus, Status: c.status, Body: c.body})
			a := r.post(chatPath, chatStream)
			rec := r.wantCut(a, gateway.UpstreamCut, c.code)
			if a.status != 200 || rec.Status != 200 || rec.BackendStatus != c.status2 {
				t.Errorf("record %+v", rec)
			}
		})
	}
}

func TestWhatARegionSendsAfterTheEndIsNotPassedOn(t *testing.T) {
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
			r := newRig(t, rigOptions{regions: 1, settings: scripted(t, h)})
			start := time.Now()
			a := r.post(chatPath, chatStream)
			rec := r.wantComplete(a)
			if string(a.body) != firstChunk+lastChunk+doneEvent || rec.Usage.Total != 4 || time.Since(start) > time.Second {
				t.Errorf("after %v, usage %+v: %s", time.Since(start), rec.Usage, a.body)
			}
		})
	}
	close(forever)
}

func TestHalfAnEventIsNeverPassedOn(t *testing.T) {
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
		"cut":                       {chatPath, chatStream, abort(firstChunk, half)},
		"clean end":                 {chatPath, chatStream, says(firstChunk, half)},
		"no blank line":             {chatPath, chatStream, says(firstChunk, strings.TrimSuffix(lastChunk, "\n"))},
		"half a completion, cut":    {"/openai/v1/responses", v1, abort(created, "event: response.completed\ndata: {\"type\":\"response.comp")},
		"half a completion, ended":  {"/openai/v1/responses", v1, says(created, "event: response.completed\ndata: {\"type\":\"response.comp")},
		"only a completion's name":  {"/openai/v1/responses", v1, says(created, "event: response.completed\n")},
		"events after a half began": {chatPath, chatStream, abort(firstChunk, half, "da")},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, rigOptions{regions: 1, settings: scripted(t, c.region)})
			a := r.post(c.path, c.body)
			r.wantCut(a, gateway.UpstreamCut, "upstream_cut")
		})
	}
}

func TestTheEndMarkWithoutItsBlankLineCompletesAllTheSame(t *testing.T) {
	r := newRig(t, rigOptions{regions: 1, settings: scripted(t, says(firstChunk, lastChunk, usageChunk, "data: [DONE]"))})
	a := r.post(chatPath, chatStream)
	if r.wantComplete(a); !bytes.HasSuffix(a.body, []byte("data: [DONE]")) {
		t.Errorf("%s", a.body)
	}
}

func TestHalfAFirstEventFailsOver(t *testing.T) {
	for name, first := range map[string]string{"half": firstChunk[:50], "nothing": "", "a comment": ": hello\n\n", "half a comment": ": hel"} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, rigOptions{settings: scripted(t, says(first))})
			if rec := r.wantComplete(r.post(chatPath, chatStream)); rec.Region != "b" || rec.Attempts[0].Reason != "cut-before-first-event" {
				t.Errorf("record %+v", rec)
			}
		})
	}
}

func TestARegionThatKeepsCuttingIsLeftAlone(t *testing.T) {
	r := newRig(t, rigOptions{settings: scripted(t, says(firstChunk))})
	for range 3 {
		r.wantCut(r.post(chatPath, chatStream), gateway.UpstreamCut, "upstream_cut")
	}
	if rec := r.wantComplete(r.post(chatPath, chatStream)); rec.Region != "b" || len(rec.Attempts) != 1 {
		t.Errorf("record %+v", rec)
	}
}

// A stream was asked for and one body came, or the other way round: the client gets what
// the region said, and the record what it used.
func TestAnAnswerOfTheOtherFormIsServedAndCounted(t *testing.T) {
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
		"one body to a stream":    {whole, chatStream, wholeChat},
		"a stream to a call":      {says(firstChunk, lastChunk, usageChunk, doneEvent), chatBody, firstChunk + lastChunk + usageChunk + doneEvent},
		"a type in other letters": {loud, chatStream, firstChunk + lastChunk + doneEvent},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, rigOptions{regions: 1, settings: scripted(t, c.region)})
			a := r.post(chatPath, c.body)
			if rec := r.wantComplete(a); rec.Usage.Total != 4 || rec.Usage.Estimated || string(a.body) != c.want {
				t.Errorf("usage %+v: %s", rec.Usage, a.body)
			}
		})
	}
}

func TestAWholeAnswerWithoutUsageIsEstimatedFromItsText(t *testing.T) {
	r := newRig(t, rigOptions{regions: 1})
	r.regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoStatus, Status: 200, Body: `{"choices":[{"message":{"content":"` + strings.Repeat("four", 50) + `"}}]}`})
	if rec := r.wantComplete(r.post(chatPath, chatBody)); !rec.Usage.Estimated || rec.Usage.Completion != 50 {
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

func TestGzipThatNobodyAskedForIsUndone(t *testing.T) {
	stream := firstChunk + lastChunk + usageChunk + doneEvent
	long := `{"data":"` + strings.Repeat("y", 2<<20) + `","usage":{"total_tokens":4}}`
	for name, c := range map[string]struct{ kind, plain, want, body string }{
		"whole":  {"application/json", wholeChat, wholeChat, chatBody},
		"stream": {"text/event-stream", stream, firstChunk + lastChunk + doneEvent, chatStream},
		"long":   {"application/json", long, long, chatBody},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, rigOptions{regions: 1, settings: scripted(t, func(w http.ResponseWriter, q *http.Request) {
				_, _ = io.Copy(io.Discard, q.Body)
				w.Header().Set("Content-Type", c.kind)
				w.Header().Set("Content-Encoding", "gzip")
				_, _ = io.WriteString(w, zipped(c.plain))
			})})
			a := r.post(chatPath, c.body)
			rec := r.wantComplete(a)
			if string(a.body) != c.want || a.header.Get("Content-Encoding") != "" || rec.Usage.Total != 4 {
				t.Errorf("%v, usage %+v: %.300s", a.header, rec.Usage, a.body)
			}
		})
	}
	t.Run("each event at once", func(t *testing.T) {
		next := make(chan struct{})
		r := newRig(t, rigOptions{regions: 1, settings: scripted(t, func(w http.ResponseWriter, q *http.Request) {
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
		resp := r.open(t.Context(), chatStream)
		defer resp.Body.Close()
		in := bufio.NewReader(resp.Body)
		for range 3 {
			readEvent(t, in)
			next <- struct{}{}
		}
	})
	t.Run("broken", func(t *testing.T) {
		r := newRig(t, rigOptions{settings: scripted(t, func(w http.ResponseWriter, q *http.Request) {
			_, _ = io.Copy(io.Discard, q.Body)
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = io.WriteString(w, zipped(wholeChat)[:60])
		})})
		if rec := r.wantComplete(r.post(chatPath, chatBody)); rec.Region != "b" {
			t.Errorf("record %+v", rec)
		}
	})
}

// open posts a chat call and returns once its status is there.
func (r *rig) open(ctx context.Context, body string) *http.Response {
	r.t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+chatPath, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Api-Key", r.key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp
}

func TestAnswersWithoutABodyAndOddOnesPassUnchanged(t *testing.T) {
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
			r := newRig(t, rigOptions{regions: 1, settings: scripted(t, func(w http.ResponseWriter, q *http.Request) {
				_, _ = io.Copy(io.Discard, q.Body)
				c.region(w, q)
			})})
			a := r.post(chatPath, chatBody)
			if a.status != c.status || string(a.body) != c.body || a.err != nil {
				t.Errorf("%d, %v: %s", a.status, a.err, a.body)
			}
			if rec := r.recordOf(a); rec.Outcome != gateway.Complete || rec.Status != c.status {
				t.Errorf("record %+v", rec)
			}
			if again := r.post(chatPath, chatBody); again.status != c.status {
				t.Errorf("the second time: %d, %v", again.status, again.err)
			}
		})
	}
}

// noBodies is a container that takes no bodies, as when storage is away.
type noBodies struct{ journal.Blobs }

func (noBodies) Put(context.Context, string, io.Reader) error {
	return errors.New("storage is away")
}

func longStream(n int) http.HandlerFunc {
	chunk := strings.Replace(firstChunk, "one", strings.Repeat("x", 8<<10), 1)
	return says(append(slices.Repeat([]string{chunk}, n/(8<<10)), lastChunk, usageChunk, doneEvent)...)
}

func TestAnAnswerThatCannotBeRecordedIsCut(t *testing.T) {
	t.Run("stream", func(t *testing.T) {
		r := newRig(t, rigOptions{regions: 1, settings: scripted(t, longStream(3<<20)), edges: func(e *edges) { e.blobs = noBodies{e.blobs} }})
		a := r.post(chatPath, chatStream)
		if len(a.body) > 2<<20 {
			t.Errorf("%d bytes left although they could not be kept", len(a.body))
		}
		r.wantCut(a, gateway.NotDurable, "AuditLogUnavailable")
	})
	t.Run("long body", func(t *testing.T) {
		r := newRig(t, rigOptions{regions: 1, edges: func(e *edges) { e.blobs = noBodies{e.blobs} }})
		r.regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoStatus, Status: 200, Body: `{"data":"` + strings.Repeat("y", 4<<20) + `"}`})
		a := r.post(chatPath, chatBody)
		if a.err == nil || len(a.body) > 2<<20 {
			t.Errorf("%d bytes left, %v", len(a.body), a.err)
		}
		if rec := r.recordOf(a); rec.Outcome != gateway.NotDurable {
			t.Errorf("record %+v", rec)
		}
	})
}

func TestAStreamTooLongToAssembleIsRecordedAsItCame(t *testing.T) {
	r := newRig(t, rigOptions{regions: 1, settings: scripted(t, longStream(10<<20))})
	a := r.post(chatPath, chatStream)
	rec := r.wantComplete(a)
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

func TestAClientMayLeaveAtAnyStage(t *testing.T) {
	head := strings.NewReplacer("{host}", "gateway").Replace(unsent(request("POST", chatPath, "", "api-key: {key}")))
	send := func(body string) string { return strings.Replace(call("POST", chatPath, body), "{host}", "gateway", 1) }
	stream := strings.Replace(chatStream, "tokens:6", "tokens:400", 1)
	for _, c := range []struct {
		name    string
		fault   aoaisim.Do
		request string
		until   string // the client reads up to this, then leaves
		gate    bool   // no record becomes durable meanwhile
		outcome gateway.Outcome
	}{
		{"before its body", "", head, "", false, gateway.Refused},
		{"in its body", "", head + chatBody, "", false, gateway.Refused},
		{"before a call is answered", aoaisim.DoHang, send(chatBody), "", false, gateway.ClientLeft},
		{"before a stream is answered", aoaisim.DoHang, send(chatStream), "", false, gateway.ClientLeft},
		{"before the first event", aoaisim.DoHangEvent, send(chatStream), "", false, gateway.ClientLeft},
		{"before its begin is durable", "", send(chatStream), "", true, gateway.ClientLeft},
		{"in a stream", aoaisim.DoSlow, send(stream), "data: ", false, gateway.ClientLeft},
		{"while the end is held", "", send(chatStream), `"finish_reason":"stop"`, true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, rigOptions{regions: 1, settings: func(s *settings) { s.AuditWait = 500 * time.Millisecond }})
			r.wantComplete(r.post(chatPath, chatBody))
			http.DefaultClient.CloseIdleConnections()
			before := runtime.NumGoroutine()
			if c.fault != "" {
				r.regions[0].Fault(aoaisim.Fault{Do: c.fault, Millis: map[aoaisim.Do]int{aoaisim.DoSlow: 20}[c.fault]})
			}
			gate := make(chan struct{})
			conn := r.dial()
			if c.gate && c.until == "" {
				r.fault.Store(noAppends(gate))
			}
			_, _ = io.WriteString(conn, strings.Replace(c.request, "{key}", r.key, 1))
			r.readUntil(conn, c.until, func() {
				if c.gate {
					r.fault.Store(noAppends(gate))
				}
			})
			if c.fault != "" {
				r.waitFor("the region to be asked", func() bool { return r.regions[0].Counts().Open > 0 })
			}
			_ = conn.Close()
			time.AfterFunc(100*time.Millisecond, func() { close(gate) })
			r.waitFor("two end records", func() bool { return r.ends() == 2 })
			r.waitFor("the region to be left alone", func() bool { return r.regions[0].Counts().Open == 0 })
			if c.outcome != "" {
				r.find("one of outcome "+string(c.outcome), func(rec gateway.Record) bool { return rec.Outcome == c.outcome })
			}
			quiet(t, before)
		})
	}
}

// readUntil reads up to mark, and calls begun at the first event on the way.
func (r *rig) readUntil(in io.Reader, mark string, begun func()) {
	r.t.Helper()
	var seen []byte
	for buf := make([]byte, 256); mark != "" && !bytes.Contains(seen, []byte(mark)); {
		n, err := in.Read(buf)
		if seen = append(seen, buf[:n]...); err != nil {
			r.t.Fatalf("%v before %q in %s", err, mark, seen)
		}
		if begun != nil && bytes.Contains(seen, []byte("data: ")) {
			begun()
			begun = nil
		}
	}
}

func (r *rig) waitFor(what string, ok func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestAClientThatTakesNothingIsGivenUp(t *testing.T) {
	for name, c := range map[string]struct {
		region http.HandlerFunc
		body   string
	}{
		"stream": {longStream(64 << 20), chatStream},
		"long body": {func(w http.ResponseWriter, q *http.Request) {
			_, _ = io.Copy(io.Discard, q.Body)
			_, _ = io.Copy(w, io.LimitReader(endless{}, 64<<20))
		}, chatBody},
	} {
		t.Run(name, func(t *testing.T) {
			scripted := scripted(t, c.region)
			r := newRig(t, rigOptions{regions: 1, settings: func(s *settings) { scripted(s); s.ClientPace = 200 * time.Millisecond }})
			conn := r.dial()
			defer conn.Close()
			_, _ = io.WriteString(conn, strings.NewReplacer("{key}", r.key, "{host}", "gateway").Replace(call("POST", chatPath, c.body)))
			r.find("one of a client that left", func(rec gateway.Record) bool { return rec.Outcome == gateway.ClientLeft })
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

func TestConnectionsToARegionServeOneRequestAfterAnother(t *testing.T) {
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
	r := newRig(t, rigOptions{regions: 1, settings: func(s *settings) { s.Backends[0].Endpoint = u }})
	const streams = 30
	for range streams {
		r.wantComplete(r.post(chatPath, chatStream))
	}
	if n := opened.Load(); n > streams/5 {
		t.Errorf("%d connections for %d streams, one after another", n, streams)
	}
}

func TestHeartbeatsNeverStandInAnEventNorAfterTheLast(t *testing.T) {
	var transport *http.Transport
	r := newRig(t, rigOptions{
		regions: 1, settings: func(s *settings) { s.Heartbeat = time.Millisecond },
		edges: func(e *edges) { transport = e.transport.(*http.Transport) },
	})
	http.DefaultClient.CloseIdleConnections()
	r.regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoSplit, Bytes: 40})
	r.regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoSlow, Millis: 1})
	before := runtime.NumGoroutine()
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for range 5 {
				a := r.post(chatPath, chatStream)
				if a.err != nil || !bytes.HasSuffix(a.body, []byte(doneEvent)) {
					t.Errorf("%v: %s", a.err, a.body)
				}
				wantWholeEvents(t, a.body)
			}
		})
	}
	clients.Wait()
	transport.CloseIdleConnections()
	quiet(t, before)
}

func TestAVerySlowRegionsStreamIsWhole(t *testing.T) {
	r := newRig(t, rigOptions{regions: 1, settings: func(s *settings) { s.Heartbeat = 5 * time.Millisecond }})
	r.regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoSplit, Bytes: 3})
	r.regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoSlow, Millis: 30})
	a := r.post(chatPath, chatStream)
	if rec := r.wantComplete(a); rec.Usage.Estimated {
		t.Errorf("usage %+v", rec.Usage)
	}
	wantWholeEvents(t, a.body)
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

func TestAFaultOfOursLeavesARecordAndNeverACleanEnd(t *testing.T) {
	for name, after := range map[string]int{"before the answer": -1, "in a stream": 600} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, rigOptions{regions: 1, edges: func(e *edges) { e.transport = faulty{e.transport, after} }})
			a := r.post(chatPath, chatStream)
			if after < 0 && (a.status != 500 || a.event(t, "error", "message") == "" || bytes.Contains(a.body, []byte("a fault of ours"))) {
				t.Errorf("%d %s", a.status, a.body)
			}
			if after > 0 && (a.err == nil || bytes.Contains(a.body, []byte("[DONE]"))) {
				t.Errorf("%v: %s", a.err, a.body)
			}
			if rec := r.recordOf(a); rec.Outcome != gateway.GatewayFailed || rec.Status != 500 {
				t.Errorf("record %+v", rec)
			}
		})
	}
}

func TestARefusalOfStreamOptionsIsRememberedOnlyWhereItIsOne(t *testing.T) {
	refuses := func(w http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		if bytes.Contains(body, []byte("bogus")) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"error":{"message":"Unknown parameter: 'stream_options.bogus'."}}`)
			return
		}
		says(firstChunk, lastChunk, usageChunk, doneEvent)(w, q)
	}
	r := newRig(t, rigOptions{regions: 1, settings: scripted(t, refuses)})
	a := r.post(chatPath, strings.Replace(chatStream, "{", `{"stream_options":{"bogus":1},`, 1))
	if a.status != 400 || !bytes.Contains(a.body, []byte("bogus")) {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := r.post(chatPath, chatStream); bytes.Contains(a.body, []byte(`"usage"`)) {
		t.Errorf("usage is no longer asked for by us: %s", a.body)
	} else if rec := r.wantComplete(a); rec.Usage.Total != 4 {
		t.Errorf("usage %+v", rec.Usage)
	}
}
