package e2e_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"aoaigateway/handler/auth"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal/journaltest"
	"aoaigateway/handler/tests/harness"
)

const (
	v1Chat   = "/openai/v1/chat/completions"
	noKey    = "0000000000000000000000000000dead"
	chatTail = "/chat/completions?api-version=2024-10-21"
)

func TestBadRequestsAreRefused(t *testing.T) {
	r := harness.Start(t, harness.Options{})
	keys := strings.NewReplacer("{key}", r.Key, "{narrow}", r.Subscribe("narrow", "narrow"), "{suspended}", r.Subscribe("default", "late"),
		"{host}", strings.TrimPrefix(r.URL, "http://"))
	r.SetState("late", auth.Suspended)
	for _, c := range slices.Concat(callers, routes, bodies) {
		t.Run(c.name, func(t *testing.T) {
			a := sendRaw(r, keys.Replace(c.request))
			wantRefusal(r, t, a, c)
			if good := r.Post(harness.ChatPath, harness.ChatBody); good.Status != 200 {
				t.Errorf("a good request afterwards: %d, %v", good.Status, good.Err)
			}
		})
	}
	cases := len(callers) + len(routes) + len(bodies)
	if n := r.Regions[0].Counts().Requests + r.Regions[1].Counts().Requests; n != int64(cases) {
		t.Errorf("the regions were asked %d times for %d good requests", n, cases)
	}
	if n := r.Ends(); n != 2*cases {
		t.Errorf("%d end records of %d requests", n, 2*cases)
	}
}

// sendRaw sends bytes and reads one answer. It does not close the client's side of the
// connection.
func sendRaw(r *harness.Gateway, bytes string) harness.Answer {
	r.T.Helper()
	conn := dial(r)
	defer conn.Close()
	go func() { _, _ = io.WriteString(conn, bytes) }()
	method, _, _ := strings.Cut(bytes, " ")
	return readAnswer(bufio.NewReader(conn), method)
}

func dial(r *harness.Gateway) net.Conn {
	r.T.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.URL, "http://"))
	if err != nil {
		r.T.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	return conn
}

func readAnswer(in *bufio.Reader, method string) harness.Answer {
	resp, err := http.ReadResponse(in, &http.Request{Method: method})
	if err != nil {
		return harness.Answer{Err: err}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return harness.Answer{Status: resp.StatusCode, Header: resp.Header, Body: b, Err: err}
}

func wantRefusal(r *harness.Gateway, t *testing.T, a harness.Answer, c bad) {
	t.Helper()
	if a.Err != nil || a.Status != c.status {
		t.Fatalf("%d, %v: %.300s", a.Status, a.Err, a.Body)
	}
	rec := r.RecordOf(a)
	if c.outcome == "" {
		c.outcome = gateway.Refused
	}
	if rec.Status != c.status || rec.Outcome != c.outcome || len(rec.Attempts) != 0 || rec.ErrorReason == "" || rec.TotalMilli > 5000 {
		t.Errorf("record %+v", rec)
	}
	if got := a.Header.Get("Allow"); got != c.allow {
		t.Errorf("Allow %q", got)
	}
	wantNoSecrets(r, t, fmt.Sprint(a.Header)+string(a.Body))
	if !strings.HasPrefix(c.request, http.MethodHead) {
		wantErrorShape(t, a, c)
	}
}

func wantErrorShape(t *testing.T, a harness.Answer, c bad) {
	t.Helper()
	var body struct {
		StatusCode int
		Message    string
		Error      map[string]any
	}
	if err := json.Unmarshal(a.Body, &body); err != nil {
		t.Fatalf("%v: %.300s", err, a.Body)
	}
	_, param := body.Error["param"]
	code, _ := body.Error["code"].(string)
	kind, _ := body.Error["type"].(string)
	if body.StatusCode != a.Status || body.Message == "" || body.Error["message"] != body.Message || code == "" || kind == "" || !param {
		t.Errorf("body %s", a.Body)
	}
	if c.code != "" && code != c.code || !strings.Contains(body.Message, c.says) {
		t.Errorf("code %q, message %q", code, body.Message)
	}
	if a.Header.Get("Content-Type") != "application/json" {
		t.Errorf("content type %q", a.Header.Get("Content-Type"))
	}
}

// wantNoSecrets checks that neither the answers nor the journal contain a region's key or
// address, or a caller's key.
func wantNoSecrets(r *harness.Gateway, t *testing.T, text string) {
	t.Helper()
	secrets := []string{"key-of-", r.Key, harness.AdminKey}
	for _, endpoint := range r.Endpoints {
		secrets = append(secrets, strings.TrimPrefix(endpoint, "http://"))
	}
	for _, s := range secrets {
		if strings.Contains(text, s) {
			t.Errorf("%q shows in %.500s", s, text)
		}
	}
}

func TestRecordHoldsNoKey(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1})
	for _, query := range []string{"subscription-key=", "Subscription-KEY=", "api-key=", "code=", "%61pi-key=", "x=1&subscription%2Dkey="} {
		if a := r.Do(http.MethodPost, harness.ChatPath+"&"+query+r.Key, harness.ChatBody, "Api-Key="+r.Key); a.Status != 200 {
			t.Errorf("%s: %d %s", query, a.Status, a.Body)
		}
		r.Do(http.MethodGet, "/openai/nothing?"+query+r.Key, "")
	}
	r.Do(http.MethodPost, harness.ChatPath+";subscription-key="+r.Key, harness.ChatBody, "Api-Key="+r.Key, "Cookie="+r.Key)
	for _, line := range journaltest.Lines(t, r.Blobs) {
		text, err := json.Marshal(line)
		if err != nil {
			t.Fatal(err)
		}
		wantNoSecrets(r, t, string(text))
	}
	for _, x := range r.Regions[0].Exchanges() {
		if text := fmt.Sprint(x.URL, x.Header); strings.Contains(text, r.Key) {
			t.Errorf("the region saw the caller's key: %s", text)
		}
	}
}
