package front

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"aoaigateway/handler/gateway"
)

func handler(admin func(http.ResponseWriter, *http.Request) error, steps ...Step) *Handler {
	return New(Options{Admin: admin, Timer: steps, Logger: slog.New(slog.DiscardHandler)})
}

func do(h http.Handler, method, path string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	for _, name := range headers {
		r.Header.Set(name, "x")
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestReadinessAndHealth(t *testing.T) {
	h := handler(nil)
	if w := do(h, "GET", "/"); w.Code != http.StatusNoContent {
		t.Errorf("readiness: %d", w.Code)
	}
	if w := do(h, "GET", "//healthz"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"ok"`) {
		t.Errorf("health: %d %s", w.Code, w.Body)
	}
	if w := do(h, "GET", "/other"); w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), "OperationNotFound") {
		t.Errorf("an unknown path: %d %s", w.Code, w.Body)
	}
}

func TestManageRendersErrors(t *testing.T) {
	for err, status := range map[error]int{
		gateway.SubscriptionNotFound.New("There is no subscription x."): 404,
		errors.New("disk full"): 500,
	} {
		h := handler(func(http.ResponseWriter, *http.Request) error { return err })
		if w := do(h, "GET", "/manage/api/subscriptions"); w.Code != status || strings.Contains(w.Body.String(), "disk") {
			t.Errorf("%v: %d %s", err, w.Code, w.Body)
		}
	}
}

func TestPanicBecomesError(t *testing.T) {
	h := handler(func(http.ResponseWriter, *http.Request) error { panic("secret") })
	if w := do(h, "GET", "/manage/"); w.Code != 500 || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	started := handler(func(w http.ResponseWriter, _ *http.Request) error {
		_, _ = w.Write([]byte("half"))
		panic("secret")
	})
	defer func() {
		if v := recover(); v != http.ErrAbortHandler { //nolint:errorlint // a panic value
			t.Errorf("an answer that had started ends with %v", v)
		}
	}()
	do(started, "GET", "/manage/")
}

func TestTimerRunsSteps(t *testing.T) {
	ran := 0
	h := handler(nil,
		Step{"first", func(context.Context) (string, error) { ran++; return "", errors.New("storage is away") }},
		Step{"second", func(context.Context) (string, error) { ran++; return "3 rows", nil }})
	w := do(h, "POST", "/sweep")
	var answer invocationAnswer
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != 200 || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("%d %s, %v", w.Code, w.Body, err)
	}
	if ran != 2 || answer.Outputs == nil || strings.Join(answer.Logs, "; ") != "first failed: storage is away; second: 3 rows" {
		t.Errorf("%d steps ran: %s", ran, w.Body)
	}
	if w := do(h, "POST", "/sweep", "X-Forwarded-Proto"); w.Code != http.StatusNotFound || ran != 2 {
		t.Errorf("a proxied call: %d, %d steps ran", w.Code, ran)
	}
}

func TestLoggedURLHidesKeys(t *testing.T) {
	u, err := url.Parse("/openai/v1/files?api-key=s&Subscription-Key=s&code=s&purpose=batch")
	if err != nil {
		t.Fatal(err)
	}
	if got := loggedURL(u); got != "/openai/v1/files?purpose=batch" {
		t.Errorf("%s", got)
	}
	u.Path = "/" + strings.Repeat("é", 2000)
	if got := loggedURL(u); len(got) > longestURL || strings.ContainsRune(got, '�') {
		t.Errorf("%d bytes", len(got))
	}
}

func TestNewIDSortsByTime(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	earlier, later := newID(at), newID(at.Add(time.Millisecond))
	if len(earlier) != 26 || earlier >= later || earlier == newID(at) {
		t.Errorf("%s, %s", earlier, later)
	}
}

func TestLogRequestNamesCause(t *testing.T) {
	for status, want := range map[int]bool{503: true, 429: false} {
		var out bytes.Buffer
		rec := &gateway.Record{ID: "r1", Status: status}
		logRequest(t.Context(), slog.New(slog.NewJSONHandler(&out, nil)), rec, errors.New("table: no route"), false)
		if line := out.String(); strings.Contains(line, "table: no route") != want || !strings.Contains(line, `"record_id":"r1"`) {
			t.Errorf("status %d: %s", status, line)
		}
	}
}

// connection takes the deadlines of a test's connection.
type connection struct {
	*httptest.ResponseRecorder

	read, write []time.Time
}

func (c *connection) SetReadDeadline(at time.Time) error { c.read = append(c.read, at); return nil }

func (c *connection) SetWriteDeadline(at time.Time) error { c.write = append(c.write, at); return nil }

func bodyOf(c *connection, content io.Reader) *clientBody {
	r := httptest.NewRequest("POST", "/", content)
	return newClientBody(r, http.NewResponseController(c), time.Minute)
}

func TestClientBodyDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &connection{ResponseRecorder: httptest.NewRecorder()}
		start := time.Now()
		b := bodyOf(c, strings.NewReader("abc"))
		if got, err := io.ReadAll(b); err != nil || string(got) != "abc" {
			t.Fatal(string(got), err)
		}
		if len(c.read) != 2 || !c.read[0].Equal(start.Add(time.Minute)) || !c.read[1].IsZero() {
			t.Errorf("deadlines %v, want one and its removal at the end of the body", c.read)
		}
		c.read = nil
		b = bodyOf(c, io.MultiReader(strings.NewReader("a"), late{}))
		_, err := io.ReadAll(b)
		if gateway.KindOf(err) != gateway.BodyIncomplete || !strings.Contains(err.Error(), "paused for 1m0s") || len(c.read) != 1 {
			t.Errorf("a body that stops: %v, deadlines %v", err, c.read)
		}
	})
}

// late is a body whose deadline is over.
type late struct{}

func (late) Read([]byte) (int, error) { return 0, os.ErrDeadlineExceeded }

func TestResponseDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &connection{ResponseRecorder: httptest.NewRecorder()}
		w := newResponse(c, httptest.NewRequest("GET", "/", nil), time.Minute)
		start := time.Now()
		for range 10 {
			_, _ = w.Write([]byte("x"))
			time.Sleep(time.Second)
		}
		w.done()
		if len(c.write) != 3 || !c.write[1].Equal(start.Add(68*time.Second)) || !c.write[2].IsZero() {
			t.Errorf("write deadlines %v", c.write)
		}
		if len(c.read) != 1 || !c.read[0].Equal(start.Add(10*time.Second+unreadBodyTime)) || !w.started {
			t.Errorf("read deadlines %v", c.read)
		}
	})
}
