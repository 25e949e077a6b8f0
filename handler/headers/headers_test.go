package headers_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"

	"aoaigateway/handler/headers"
)

func TestDownstream(t *testing.T) {
	r := httptest.NewRequest("GET", "http://localhost/openai/v1/files", nil)
	r.Header.Set("X-Forwarded-Host", "ai.example.com")
	from := http.Header{
		"Content-Type": {"application/json"}, "X-Ratelimit-Remaining-Tokens": {"5"}, "Apim-Request-Id": {"id"},
		"X-Name":     {"Mü\xfc", "plain"},
		"Set-Cookie": {"s"}, "Transfer-Encoding": {"chunked"}, "Content-Length": {"9"}, "Strict-Transport-Security": {"x"},
		"X-Gateway-Pinned": {"x"},
		"Location":         {"https://region.example/openai/v1/files/1"}, "Operation-Location": {"/openai/operations/1"},
		"Content-Location": {"%zz"},
	}
	want := http.Header{
		"Content-Type": {"application/json"}, "X-Ratelimit-Remaining-Tokens": {"5"}, "Apim-Request-Id": {"id"},
		"X-Name":   {"M%C3%BC%FC", "plain"},
		"Location": {"https://ai.example.com/openai/v1/files/1"}, "Operation-Location": {"/openai/operations/1"},
		"Content-Location": {""},
	}
	got := http.Header{}
	headers.Downstream(got, from, r)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
