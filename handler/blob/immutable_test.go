package blob_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"aoaigateway/handler/blob"
)

// immutable is a container with an immutability policy: a blob that is stored cannot be replaced. lose says whether the
// answer to the first commit is lost.
type immutable struct {
	mu    sync.Mutex
	lose  bool
	stage int      // blocks that were uploaded
	saved []string // the sum in the commit's metadata; nil = no blob
}

func (s *immutable) Do(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Body != nil {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return nil, err
		}
	}
	answer := func(status int, headers ...string) (*http.Response, error) {
		resp := &http.Response{StatusCode: status, Header: http.Header{}, Body: http.NoBody, Request: r}
		for i := 0; i < len(headers); i += 2 {
			resp.Header.Set(headers[i], headers[i+1])
		}
		return resp, nil
	}
	switch {
	case r.Method == http.MethodHead:
		return answer(http.StatusOK, "x-ms-meta-sha256", s.saved[0], "Content-Length", "7")
	case s.saved != nil:
		return answer(http.StatusConflict, "x-ms-error-code", "BlobImmutableDueToPolicy")
	case r.URL.Query().Get("comp") == "block":
		s.stage++
		return answer(http.StatusCreated)
	}
	for key, values := range r.Header { // the SDK's keys are in lower case
		if strings.EqualFold(key, "x-ms-meta-sha256") {
			s.saved = values
		}
	}
	if s.lose {
		return nil, errors.New("connection reset")
	}
	return answer(http.StatusCreated)
}

func TestPutInImmutableContainer(t *testing.T) {
	large := bytes.Repeat([]byte("abcdefgh"), 5<<16) // several blocks
	for name, lose := range map[string]bool{"the answer arrives": false, "the answer is lost": true} {
		s := &immutable{lose: lose}
		b, err := blob.NewAzure(blob.AzureOptions{
			ConnectionString: "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=YQ==;EndpointSuffix=core.windows.net", Container: "audit",
			Transport: s,
		})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second upload of the same body is refused at its first block
			if err := b.Put(t.Context(), "body", bytes.NewReader(large)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if s.stage != 3 {
			t.Errorf("%s: %d blocks, want 3", name, s.stage)
		}
		if err := b.Put(t.Context(), "body", strings.NewReader("another")); !errors.Is(err, blob.ErrExists) {
			t.Errorf("%s: another content: %v", name, err)
		}
	}
}
