package sse_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"aoaigateway/handler/sse"
)

func noHeader(http.Header) {}

func TestWriterSendsHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := httptest.NewRecorder()
		w := sse.NewWriter(rec, 20*time.Second)
		w.Begin(200, func(h http.Header) { h.Set("X-A", "1") })
		_, _ = w.Write([]byte("data: 1\n\n"))
		time.Sleep(50 * time.Second)
		_, _ = w.Write([]byte("data: 2\n\n"))
		if !w.Stop() {
			t.Error("the stream has begun")
		}
		_, _ = w.Write([]byte("data: 3\n\n"))
		time.Sleep(time.Hour)
		want := "data: 1\n\n: keep-alive\n\n: keep-alive\n\ndata: 2\n\ndata: 3\n\n"
		if got := rec.Body.String(); got != want || !rec.Flushed || rec.Header().Get("X-A") != "1" {
			t.Errorf("%q, header %v", got, rec.Header())
		}
	})
}

func TestWriterBeginsLateStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := httptest.NewRecorder()
		w := sse.NewWriter(rec, 20*time.Second)
		w.BeginAfter(100*time.Second, func() bool { return true })
		time.Sleep(125 * time.Second)
		w.Begin(500, func(h http.Header) { h.Set("X-A", "1") }) // too late
		w.Stop()
		if got := rec.Body.String(); got != ": keep-alive\n\n: keep-alive\n\n" || rec.Code != 200 || rec.Header().Get("X-A") != "" {
			t.Errorf("%d %q", rec.Code, got)
		}
		if got := rec.Header().Get("Content-Type"); got != "text/event-stream; charset=utf-8" {
			t.Errorf("Content-Type %q", got)
		}
	})
}

func TestWriterMayNotBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := httptest.NewRecorder()
		w := sse.NewWriter(rec, time.Second)
		w.BeginAfter(time.Second, func() bool { return false })
		time.Sleep(time.Minute)
		if w.Stop() || rec.Body.Len() > 0 {
			t.Errorf("%q", rec.Body)
		}
	})
}

// gone is a client that takes nothing.
type gone struct{ *httptest.ResponseRecorder }

var errGone = errors.New("broken pipe")

func (gone) Write([]byte) (int, error) { return 0, errGone }

func TestWriterReportsGoneClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := sse.NewWriter(gone{httptest.NewRecorder()}, time.Second)
		w.Begin(200, noHeader)
		for range 2 {
			if _, err := w.Write([]byte("data: 1\n\n")); !errors.Is(err, errGone) {
				t.Errorf("%v", err)
			}
			time.Sleep(time.Minute) // no heartbeats
		}
		w.Stop()
	})
}
