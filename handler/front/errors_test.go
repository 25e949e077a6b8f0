package front

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"aoaigateway/handler/gateway"
)

// Every fault of the catalogue has a status, both error shapes in one body, and never the
// text of its cause.
func TestWriteErrorOfEveryFault(t *testing.T) {
	cause := errors.New("https://region.example/cause")
	for _, fault := range gateway.Catalogue() {
		w := httptest.NewRecorder()
		e := fault.Because(cause)
		if err := writeError(w, e); err != nil {
			t.Fatal(err)
		}
		var body struct {
			StatusCode int
			Message    string
			Error      struct{ Code, Type, Message string }
		}
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
			t.Fatalf("%s: %v", fault.Code, err)
		}
		if w.Code != e.Kind.Status() || w.Code < 400 || body.StatusCode != w.Code {
			t.Errorf("%s: status %d, in the body %d", fault.Code, w.Code, body.StatusCode)
		}
		if body.Error.Code != fault.Code || body.Error.Type == "" || body.Message == "" || body.Error.Message != body.Message {
			t.Errorf("%s: %s", fault.Code, w.Body)
		}
		if strings.Contains(w.Body.String(), "region.example") || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: %v %s", fault.Code, w.Header(), w.Body)
		}
		if length := w.Header().Get("Content-Length"); length != fmt.Sprint(w.Body.Len()) {
			t.Errorf("%s: Content-Length %s of %d bytes", fault.Code, length, w.Body.Len())
		}
	}
}

func TestWriteErrorHeaders(t *testing.T) {
	w := httptest.NewRecorder()
	_ = writeError(w, gateway.RateLimitExceeded.New("wait").WithRetry(1500*time.Millisecond).WithLimit("tokens-a-minute"))
	if h := w.Header(); h.Get("Retry-After") != "2" || h.Get("Retry-After-Ms") != "1500" ||
		!strings.Contains(w.Body.String(), `"limit":"tokens-a-minute"`) {
		t.Errorf("%v %s", h, w.Body)
	}
	w = httptest.NewRecorder()
	_ = writeError(w, operationNotFound([]string{"DELETE", "GET"}))
	if h := w.Header(); h.Get("Allow") != "DELETE, GET" || h.Get("Retry-After") != "" ||
		!strings.Contains(w.Body.String(), "This path takes DELETE, GET.") {
		t.Errorf("%v %s", h, w.Body)
	}
}

func TestInternalErrorHidesItsText(t *testing.T) {
	for name, e := range map[string]*gateway.Error{
		"an untyped error": typed(errors.New("nil pointer in secret.go")),
		"its own message":  gateway.InternalServerError.New("nil pointer in secret.go"),
	} {
		w := httptest.NewRecorder()
		_ = writeError(w, e)
		if w.Code != 500 || strings.Contains(w.Body.String(), "secret.go") || !strings.Contains(w.Body.String(), "X-Gateway-Request-Id") {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	limit := gateway.RateLimitExceeded.New("wait")
	if got := typed(fmt.Errorf("proxy: %w", limit)); got != limit {
		t.Errorf("a wrapped error became %v", got)
	}
}

func TestRecordErrorOutcome(t *testing.T) {
	sent := []gateway.Attempt{{Region: "a"}}
	for _, c := range []struct {
		fault    gateway.Fault
		attempts []gateway.Attempt
		want     gateway.Outcome
	}{
		{gateway.ClientConnectionFailure, sent, gateway.ClientLeft},
		{gateway.Panic, nil, gateway.GatewayFailed},
		{gateway.QuotaUsedUp, nil, gateway.Refused},
		{gateway.BackendConnectionFailure, sent, gateway.Complete},
	} {
		rec := &gateway.Record{Time: time.Now(), Attempts: c.attempts}
		recordError(rec, c.fault.Because(nil))
		if rec.Outcome != c.want || rec.ErrorReason != c.fault.Code || rec.Status != c.fault.Kind.Status() {
			t.Errorf("%s: %+v", c.fault.Code, rec)
		}
	}
}
