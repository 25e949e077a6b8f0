package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"aoaigateway/handler/admin"
	"aoaigateway/handler/auth"
	"aoaigateway/handler/auth/authtest"
	"aoaigateway/handler/backend"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/policy"
	"aoaigateway/handler/secret"
	"aoaigateway/handler/table"
	"aoaigateway/handler/usage"
)

const adminKey = "the-admin-key"

// tenant signs tokens. It is shared, because its key takes long to generate.
var tenant = sync.OnceValue(authtest.New)

// harness is the API over tables in memory.
type harness struct {
	*admin.API
	tenant  *authtest.Issuer
	changes int // how often the manager reported one
}

func newHarness(t *testing.T) *harness {
	t.Helper()
	pol, err := policy.Parse("p", []byte("version: 1\nproducts: {default: {}, gold: {}}"))
	if err != nil {
		t.Fatal(err)
	}
	h := &harness{tenant: tenant()}
	h.API = &admin.API{
		Manager: &admin.Manager{
			Subscriptions: auth.NewSubscriptions(table.NewMem()), Policy: pol, Counts: usage.New(table.NewMem()),
			OnChange: func() { h.changes++ }, Logger: slog.New(slog.DiscardHandler),
		},
		Pool: backend.New(backend.Options{}), Secrets: secret.Map{"admin": adminKey}, AdminKeySecret: "admin",
		Entra: auth.NewEntra(auth.EntraOptions{Tenant: authtest.Tenant, Audience: []string{authtest.Client}, Transport: h.tenant}),
	}
	return h
}

// call sends one request with the admin key, and further headers as name=value.
func (h *harness) call(t *testing.T, method, path, body string, headers ...string) (*httptest.ResponseRecorder, error) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	if len(headers) == 0 {
		headers = []string{"Api-Key=" + adminKey}
	}
	for _, pair := range headers {
		if name, value, ok := strings.Cut(pair, "="); ok {
			r.Header.Set(name, value)
		}
	}
	w := httptest.NewRecorder()
	return w, h.Serve(w, r)
}

func codeOf(err error) string {
	if e, ok := errors.AsType[*gateway.Error](err); ok {
		return e.Code
	}
	return ""
}

// unreachable is a vault that does not answer.
type unreachable struct{ secret.Map }

func (unreachable) Get(context.Context, string) (string, error) { return "", errors.New("no route") }

func TestAPIRefusesStrangers(t *testing.T) {
	for name, c := range map[string]struct {
		header  string
		secrets secret.Source
		want    string // the error's code; empty = served
	}{
		"no key":           {"Accept=*/*", nil, "AdminKeyNotFound"},
		"wrong key":        {"Api-Key=guess", nil, "AdminKeyInvalid"},
		"key":              {"Api-Key=" + adminKey, nil, ""},
		"key as bearer":    {"Authorization=Bearer " + adminKey, nil, ""},
		"no such secret":   {"Api-Key=" + adminKey, secret.Map{}, "AdminKeyInvalid"},
		"empty secret":     {"Api-Key=", secret.Map{"admin": ""}, "AdminKeyNotFound"},
		"vault away":       {"Api-Key=" + adminKey, unreachable{}, gateway.AdminKeyUnavailable.Code},
		"token, role":      {"Authorization=Bearer " + authtest.Person, nil, ""},
		"token, no role":   {"Authorization=Bearer " + authtest.App, nil, "TokenClaimValueNotAllowed"},
		"token, malformed": {"Authorization=Bearer eyJhbGciOiJSUzI1NiJ9.e30.x", nil, "JwtInvalid"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			if c.secrets != nil {
				h.Secrets = c.secrets
			}
			header := strings.Replace(c.header, authtest.Person, h.tenant.Token(authtest.Claims(auth.AdminRole)), 1)
			header = strings.Replace(header, authtest.App, h.tenant.Token(authtest.Claims("product.gold")), 1)
			w, err := h.call(t, http.MethodGet, "/manage/api/subscriptions", "", header)
			if got := codeOf(err); got != c.want || (err == nil) != (c.want == "") {
				t.Errorf("%v, want code %q", err, c.want)
			}
			if err != nil && w.Body.Len() > 0 {
				t.Errorf("a refused call was answered: %s", w.Body)
			}
		})
	}
}

func TestAPIRoutes(t *testing.T) {
	h := newHarness(t)
	if _, err := h.call(t, "POST", "/manage/api/subscriptions", `{"id":"a","product":"default"}`); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		method, path, body string
		status             int    // of an answer
		code, allow        string // of an error
	}{
		{"GET", "/manage/api/subscriptions", "", 200, "", ""},
		{"POST", "/manage/api/subscriptions", `{"id":"b","product":"gold"}`, 201, "", ""},
		{"POST", "/manage/api/subscriptions", `{"id":"c","product":"none"}`, 0, "invalid_product", ""},
		{"POST", "/manage/api/subscriptions", `{"id":"c","prodct":"gold"}`, 0, "BadRequest", ""},
		{"POST", "/manage/api/subscriptions", `[]`, 0, "BadRequest", ""},
		{"DELETE", "/manage/api/subscriptions", "", 0, "OperationNotFound", "GET, POST"},
		{"GET", "/manage/api/subscriptions/a", "", 200, "", ""},
		{"GET", "/manage/api/subscriptions/z", "", 0, "SubscriptionNotFound", ""},
		{"PUT", "/manage/api/subscriptions/a", "", 0, "OperationNotFound", "GET"},
		{"POST", "/manage/api/subscriptions/a/suspend", "", 200, "", ""},
		{"POST", "/manage/api/subscriptions/a/resume", "", 200, "", ""},
		{"GET", "/manage/api/subscriptions/a/resume", "", 0, "OperationNotFound", "POST"},
		{"POST", "/manage/api/subscriptions/a/rotate", `{"key":"primary"}`, 200, "", ""},
		{"POST", "/manage/api/subscriptions/a/rotate", `{"key":"third"}`, 0, "invalid_key", ""},
		{"POST", "/manage/api/subscriptions/a/explode", "", 0, "OperationNotFound", ""},
		{"POST", "/manage/api/subscriptions/b/cancel", "", 200, "", ""},
		{"POST", "/manage/api/subscriptions/b/resume", "", 0, "invalid_state", ""},
		{"GET", "/manage/api/usage", "", 200, "", ""},
		{"GET", "/manage/api/usage?from=yesterday", "", 0, "invalid_query", ""},
		{"GET", "/manage/api/regions", "", 200, "", ""},
		{"GET", "/manage/api/nothing", "", 0, "OperationNotFound", ""},
		{"GET", "/manage/elsewhere", "", 0, "OperationNotFound", ""},
	} {
		w, err := h.call(t, c.method, c.path, c.body)
		e, _ := errors.AsType[*gateway.Error](err)
		switch {
		case c.code == "" && (err != nil || w.Code != c.status || !json.Valid(w.Body.Bytes())):
			t.Errorf("%s %s: status %d, %v, %s; want %d and JSON", c.method, c.path, w.Code, err, w.Body, c.status)
		case c.code != "" && (e == nil || e.Code != c.code || e.Allow != c.allow):
			t.Errorf("%s %s: %+v, want code %s and allow %q", c.method, c.path, err, c.code, c.allow)
		}
	}
}

func TestAPIReportsEachChange(t *testing.T) {
	h := newHarness(t)
	for _, c := range []struct{ method, path, body string }{
		{"POST", "subscriptions", `{"id":"a","product":"default"}`},
		{"POST", "subscriptions/a/rotate", `{"key":"secondary"}`},
		{"POST", "subscriptions/a/suspend", ""},
	} {
		before := h.changes
		w, err := h.call(t, c.method, "/manage/api/"+c.path, c.body)
		if err != nil || h.changes != before+1 {
			t.Errorf("%s: %v, %d changes reported, want 1", c.path, err, h.changes-before)
		}
		if w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: an answer that may hold a key can be cached", c.path)
		}
	}
	before := h.changes
	if _, err := h.call(t, "GET", "/manage/api/subscriptions/a", ""); err != nil || h.changes != before {
		t.Errorf("reading: %v, %d changes reported", err, h.changes-before)
	}
}

func TestParseQuery(t *testing.T) {
	day := func(d int) time.Time { return time.Date(2027, 1, d, 0, 0, 0, 0, time.UTC) }
	next := time.Now().UTC().Truncate(time.Hour).Add(time.Hour)
	for _, c := range []struct {
		from, to, by string
		want         usage.Query
		wrong        string // what the error quotes
	}{
		{"", "", "", usage.Query{From: next.Add(-24 * time.Hour), To: next, By: []string{"subscription", "model"}}, ""},
		{"2027-01-01", "2027-01-31", "user", usage.Query{From: day(1), To: day(31), By: []string{"user"}}, ""},
		{"", "2027-01-31", "model , region", usage.Query{From: day(30), To: day(31), By: []string{"model", "region"}}, ""},
		{"2027-01-01T00:00:00Z", "2027-01-02", "", usage.Query{From: day(1), To: day(2), By: []string{"subscription", "model"}}, ""},
		{"yesterday", "", "", usage.Query{}, `"yesterday"`},
		{"", "2027-13-01", "", usage.Query{}, `"2027-13-01"`},
	} {
		got, err := admin.ParseQuery(c.from, c.to, c.by)
		if c.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%q to %q: %v, want an error that quotes %s", c.from, c.to, err, c.wrong)
			}
			continue
		}
		if err != nil || !got.From.Equal(c.want.From) || !got.To.Equal(c.want.To) || strings.Join(got.By, ",") != strings.Join(c.want.By, ",") {
			t.Errorf("%q to %q by %q: %+v, %v; want %+v", c.from, c.to, c.by, got, err, c.want)
		}
	}
}
