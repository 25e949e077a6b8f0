package cli

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"aoaigateway/handler/admin"
	"aoaigateway/handler/auth"
	"aoaigateway/handler/usage"
)

// gatewayFunc plays a gateway.
type gatewayFunc func(r *http.Request, body string) (status int, answer string)

func (f gatewayFunc) RoundTrip(r *http.Request) (*http.Response, error) {
	var body bytes.Buffer
	if r.Body != nil {
		_, _ = io.Copy(&body, r.Body)
	}
	status, answer := f(r, body.String())
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Body: io.NopCloser(strings.NewReader(answer)), Request: r,
	}, nil
}

func remote(f gatewayFunc) *Remote {
	return &Remote{URL: "https://gateway.example.com/", Key: "the-admin-key", Client: &http.Client{Transport: f}}
}

func TestRemoteCalls(t *testing.T) {
	from := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		call func(r *Remote) error
		want string // method, path and query, body
	}{
		"create": {func(r *Remote) error {
			_, err := r.Create(t.Context(), admin.NewSubscription{ID: "a", Product: "gold"})
			return err
		}, `POST /manage/api/subscriptions {"id":"a","product":"gold"}`},
		"list": {func(r *Remote) error { _, err := r.List(t.Context()); return err }, "GET /manage/api/subscriptions "},
		"show": {func(r *Remote) error { _, err := r.Show(t.Context(), "a/b"); return err }, "GET /manage/api/subscriptions/a%2Fb "},
		"rotate": {
			func(r *Remote) error { _, err := r.Rotate(t.Context(), "a", "primary"); return err },
			`POST /manage/api/subscriptions/a/rotate {"key":"primary"}`,
		},
		"suspend": {
			func(r *Remote) error { _, err := r.SetState(t.Context(), "a", auth.Suspended); return err },
			"POST /manage/api/subscriptions/a/suspend ",
		},
		"usage": {func(r *Remote) error {
			_, err := r.Usage(t.Context(), usage.Query{From: from, To: from.AddDate(0, 0, 1), By: []string{"user", "model"}})
			return err
		}, "GET /manage/api/usage?by=user%2Cmodel&from=2027-01-01T00%3A00%3A00Z&to=2027-01-02T00%3A00%3A00Z "},
	} {
		t.Run(name, func(t *testing.T) {
			var got, key string
			err := c.call(remote(func(r *http.Request, body string) (int, string) {
				got, key = r.Method+" "+r.URL.RequestURI()+" "+body, r.Header.Get("Api-Key")
				if name == "list" {
					return http.StatusOK, "[]"
				}
				return http.StatusOK, "{}"
			}))
			if err != nil || got != c.want || key != "the-admin-key" {
				t.Errorf("%q with key %q, %v; want %q", got, key, err, c.want)
			}
		})
	}
}

func TestRemoteReportsErrors(t *testing.T) {
	for answer, want := range map[string]string{
		`{"message":"There is no subscription \"z\"."}`: `There is no subscription "z".`,
		"<html>": "the gateway answered Bad Gateway",
	} {
		_, err := remote(func(*http.Request, string) (int, string) { return http.StatusBadGateway, answer }).Show(t.Context(), "z")
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %q", answer, err, want)
		}
	}
	if _, err := remote(nil).SetState(t.Context(), "a", "asleep"); err == nil || !strings.Contains(err.Error(), `"asleep"`) {
		t.Errorf("an unknown state: %v", err)
	}
}
