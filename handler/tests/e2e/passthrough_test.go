package e2e_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/tests/harness"
)

// filtered is the body with which the content filter refuses a request.
const filtered = `{"error":{"message":"The response was filtered","type":null,"param":"prompt","code":"content_filter","status":400,` +
	`"innererror":{"code":"ResponsibleAIPolicyViolation","content_filter_result":{"hate":{"filtered":true,"severity":"high"}}}}}`

type regionError struct {
	status int
	body   string
}

// regionErrors are error answers that clients must get exactly as the region sent them.
var regionErrors = []regionError{
	{400, filtered},
	{400, `{"error":{"code":null,"message":"Unknown parameter: 'stream_options'.","param":"stream_options","type":"invalid_request_error"}}`},
	{404, `{"error":{"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist."}}`},
	{409, `{"error":{"code":"Conflict"}}`},
	{413, "too large, in plain words"},
	{415, ""},
	{422, `{"error":{"message":"unprocessable"}}`},
	{500, `{"error":{"code":"500","message":"internal"}}`},
	{503, `<html>no JSON at all</html>`},
	{302, ""},
}

// A region's own error reaches the client unchanged, with the headers that clients need,
// and without headers that would reveal the region.
func TestRegionErrorsPassUnchanged(t *testing.T) {
	for _, c := range regionErrors {
		for _, body := range []string{harness.ChatBody, harness.ChatStream} {
			r := harness.Start(t, harness.Options{Regions: 1, Settings: scripted(t, func(w http.ResponseWriter, q *http.Request) {
				_, _ = io.Copy(io.Discard, q.Body)
				h := w.Header()
				h.Set("Content-Type", "application/json; odd=1")
				h.Set("Apim-Request-Id", "the-regions-own")
				h.Set("X-Ratelimit-Remaining-Tokens", "77")
				h.Set("X-Ms-Region", "East US 2")
				h.Set("X-Gateway-Request-Id", "not-ours")
				h.Set("Set-Cookie", "affinity=1")
				h.Set("Strict-Transport-Security", "max-age=1")
				h.Set("Location", "http://"+q.Host+"/openai/batches/1?api-version=x")
				h.Set("Operation-Location", "http://"+q.Host+"/openai/operations/images/2")
				h.Set("Content-Location", "http://"+q.Host+"/openai/3")
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			})})
			a := own(r, body)
			if a.Status != c.status || string(a.Body) != c.body || a.Err != nil {
				t.Errorf("%d %q, %v; want %d %q", a.Status, a.Body, a.Err, c.status, c.body)
				continue
			}
			for name, want := range map[string]string{
				"Content-Type": "application/json; odd=1", "Apim-Request-Id": "the-regions-own", "X-Ratelimit-Remaining-Tokens": "77",
				"X-Ms-Region": "East US 2",
				"Set-Cookie":  "", "Strict-Transport-Security": "", "Location": "https://gateway.example/openai/batches/1?api-version=x",
				"Operation-Location": "https://gateway.example/openai/operations/images/2", "Content-Location": "https://gateway.example/openai/3",
			} {
				if got := a.Header.Get(name); got != want {
					t.Errorf("%d: %s: %q, want %q", c.status, name, got, want)
				}
			}
			rec := r.RecordOf(a)
			if rec.Outcome != gateway.Complete || rec.Status != c.status || rec.BackendStatus != c.status ||
				rec.Response.SHA256 != sum([]byte(c.body)) || len(rec.Attempts) == 0 || rec.Attempts[0].RequestID != "the-regions-own" {
				t.Errorf("record %+v", rec)
			}
		}
	}
}

// own sends a request with the host name that clients use.
func own(r *harness.Gateway, body string) harness.Answer {
	r.T.Helper()
	return sendRaw(r, strings.NewReplacer("{key}", r.Key, "{host}", "gateway.example").Replace(call("POST", harness.ChatPath, body)))
}

func TestCredentialRefusalIsNotQuoted(t *testing.T) {
	for _, status := range []int{401, 403} {
		r := harness.Start(t, harness.Options{Regions: 1, Settings: scripted(t, func(w http.ResponseWriter, q *http.Request) {
			_, _ = io.Copy(io.Discard, q.Body)
			w.Header().Set("Www-Authenticate", "Bearer authority="+q.Host)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "Access denied for "+q.Header.Get("Api-Key")+" at "+q.Host)
		})})
		a := own(r, harness.ChatBody)
		if a.Status != http.StatusBadGateway || strings.Contains(string(a.Body), "Access denied for") || a.Header.Get("Www-Authenticate") != "" {
			t.Errorf("%d %v %s", a.Status, a.Header, a.Body)
		}
		wantNoSecrets(r, t, string(a.Body))
		wantErrorShape(t, a, bad{})
		if rec := r.RecordOf(a); rec.Status != http.StatusBadGateway || len(rec.Attempts) == 0 || rec.Attempts[0].Status != status {
			t.Errorf("record %+v", rec)
		}
	}
}

// The gateway records, matches and sends the same path, whatever segments the path has.
func TestPlaceholderIsNoModel(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1, Profile: aoaisim.Kind}) // its file does not exist
	a := r.Do(http.MethodGet, "/openai/files/%7Bdeployment%7D?api-version=2024-10-21", "", "Api-Key="+r.Key)
	if last := lastOf(r); a.Status != 200 || !strings.HasPrefix(last.URL, "/openai/files/%7Bdeployment%7D?") {
		t.Errorf("%d: the region was asked for %s", a.Status, last.URL)
	}
}

func TestMethodOverrideIsIgnored(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1})
	if a := r.Post(harness.ChatPath, harness.ChatBody, "X-HTTP-Method-Override=DELETE"); a.Status != 200 {
		t.Fatal(a.Status)
	}
	if v := lastOf(r).Header.Get("X-Http-Method-Override"); v != "" {
		t.Errorf("the region saw %q", v)
	}
}
