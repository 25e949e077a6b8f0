package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"aoaigateway/handler/app"
	"aoaigateway/handler/app/settings"
	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/tests/harness"
)

const (
	firstChunk = `data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"role":"assistant",` +
		`"content":"one"},"finish_reason":null}]}` + "\n\n"
	lastChunk = `data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` +
		"\n\n"
	usageChunk = `data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[],"usage":{"prompt_tokens":3,` +
		`"completion_tokens":1,"total_tokens":4}}` + "\n\n"
	doneEvent = "data: [DONE]\n\n"
	wholeChat = `{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant",` +
		`"content":"one two three"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}`
)

// scripted replaces the first region by the handler h.
func scripted(t *testing.T, h http.HandlerFunc) func(*settings.Values) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return func(s *settings.Values) { s.Backends[0].Endpoint = u }
}

// says returns a handler that sends an event stream and flushes after each piece.
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

// wantCut checks an answer that was cut off: its last event is an error, the connection
// ends abnormally, and no event completes the answer.
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

// wantWholeEvents checks that the answer ends after a complete event, so that a client's
// parser never sees half an event.
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
	r := harness.Start(t, harness.Options{Regions: 1, Settings: func(s *settings.Values) { s.StreamBeginAfter = 30 * time.Millisecond }})
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
	r := harness.Start(t, harness.Options{Settings: func(s *settings.Values) {
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
		"refused": {
			400, `{"error":{"code":"content_filter","message":"The prompt was filtered.","status":400}}`, "content_filter",
			400,
		},
		"credential":            {401, "", "BackendCredentialRefused", 0},
		"answered as no stream": {200, wholeChat, "upstream_error", 200},
	} {
		t.Run(name, func(t *testing.T) {
			r := harness.Start(t, harness.Options{Regions: 1, Settings: func(s *settings.Values) { s.StreamBeginAfter = 30 * time.Millisecond }})
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
	created := "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"object\":\"response\"}}\n\n" +
		"event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"x\"}\n\n"
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

// A stream that breaks off after output is no evidence that others would fail.
func TestCutStreamsCloseNothing(t *testing.T) {
	r := harness.Start(t, harness.Options{Settings: scripted(t, says(firstChunk))})
	for range 6 {
		wantCut(r, r.Post(harness.ChatPath, harness.ChatStream), gateway.UpstreamCut, "upstream_cut")
	}
	if got := states(r); got != "open open" {
		t.Errorf("the states are %s", got)
	}
}

// open sends a chat request and returns when the status has arrived.
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

func TestHeartbeatsStayBetweenEvents(t *testing.T) {
	var transport *http.Transport
	r := harness.Start(t, harness.Options{
		Regions: 1, Settings: func(s *settings.Values) { s.Heartbeat = time.Millisecond },
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
	r := harness.Start(t, harness.Options{Regions: 1, Settings: func(s *settings.Values) { s.Heartbeat = 5 * time.Millisecond }})
	r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoSplit, Bytes: 3})
	r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoSlow, Millis: 30})
	a := r.Post(harness.ChatPath, harness.ChatStream)
	if rec := wantComplete(r, a); rec.Usage.Estimated {
		t.Errorf("usage %+v", rec.Usage)
	}
	wantWholeEvents(t, a.Body)
}
