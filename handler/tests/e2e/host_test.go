package e2e_test

import (
	"io"
	"net/http"
	"testing"

	"aoaigateway/handler/tests/harness"
)

// When the gateway dies during a request without a body, the Functions host sends the
// request again with the same invocation id.
func TestRepeatedInvocationIsRefused(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1})
	post := func(path, invocation string) int {
		return r.Do(http.MethodPost, path, "", "api-key="+r.Key, "X-Azure-Functions-InvocationId="+invocation).Status
	}
	for _, c := range []struct {
		path, invocation string
		want             int
	}{
		{"/openai/v1/vector_stores", "i1", 200},
		{"/openai/v1/vector_stores", "i1", 400},
		{"/openai/v1/vector_stores", "i2", 200},
		{"/openai/v1/batches/b/cancel", "i3", 200},
		{"/openai/v1/batches/b/cancel", "i3", 200},
	} {
		if got := post(c.path, c.invocation); got != c.want {
			t.Errorf("%s, invocation %s: %d, want %d", c.path, c.invocation, got, c.want)
		}
	}
	if n := r.Regions[0].Counts().Requests; n != 4 {
		t.Errorf("the region got %d requests, want 4", n)
	}
}

// The host replaces a 204 with a Content-Length, or an answer with a header value outside
// ASCII, by a 500.
func TestAnswersSuitTheHost(t *testing.T) {
	for _, status := range []int{http.StatusNoContent, http.StatusNotModified, http.StatusOK} {
		r := harness.Start(t, harness.Options{Regions: 1, Settings: scripted(t, func(w http.ResponseWriter, q *http.Request) {
			_, _ = io.Copy(io.Discard, q.Body)
			w.Header().Set("X-Name", "Mü")
			w.WriteHeader(status)
		})})
		a := r.Do(http.MethodGet, "/openai/v1/files/f", "", "api-key="+r.Key)
		if length := a.Header.Get("Content-Length"); a.Status != status || (length != "") != (status == http.StatusOK) {
			t.Errorf("status %d: got %d with Content-Length %q", status, a.Status, length)
		}
		if got := a.Header.Get("X-Name"); got != "M%C3%BC" {
			t.Errorf("X-Name: %q", got)
		}
	}
}
