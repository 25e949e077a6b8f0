package plan

import (
	"net/http"
	"net/url"
	"testing"
)

func TestPlanOnceOnly(t *testing.T) {
	for _, c := range []struct {
		method, path, body string
		want               bool
	}{
		{"POST", "/openai/v1/vector_stores", "", true},
		{"POST", "/openai/v1/vector_stores", "{}", false},
		{"POST", "/openai/v1/batches/b/cancel", "", false},
		{"GET", "/openai/v1/vector_stores", "", false},
	} {
		in := Head{Method: c.method, URL: &url.URL{Path: c.path}, HasBody: c.body != "", Header: http.Header{}}
		in.Header.Set("X-Azure-Functions-InvocationId", "i1")
		if got := onceOnly(in); (got == "i1") != c.want {
			t.Errorf("%s %s with body %q: %q", c.method, c.path, c.body, got)
		}
	}
}
