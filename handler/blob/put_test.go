package blob_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"aoaigateway/handler/blob"
)

// service passes requests to Azurite, counts them, and can lose answers and refuse to
// replace blobs, as a container with an immutability policy does.
type service struct {
	mu        sync.Mutex
	writes    []string // kinds of write operations: "" = Put Blob, "block", "blocklist"
	lose      string   // kind of the operation whose next answer is lost
	immutable bool
	blocksToo bool // the service refuses blocks for an immutable blob, not only their commit
	stored    map[string]bool
}

func (s *service) Do(r *http.Request) (*http.Response, error) {
	kind := r.URL.Query().Get("comp")
	if r.Method != http.MethodPut || r.URL.Query().Get("restype") != "" {
		return http.DefaultClient.Do(r)
	}
	s.mu.Lock()
	s.writes = append(s.writes, kind)
	lost := s.lose == kind && len(s.lose) > 0 || s.lose == "blob" && kind == ""
	refused := s.immutable && (s.blocksToo || kind != "block") && s.stored[r.URL.Path]
	s.mu.Unlock()
	if refused {
		const text = "This operation is not permitted as the blob is immutable due to a policy."
		return &http.Response{
			StatusCode: http.StatusConflict, Status: "409 " + text, Request: r, Body: http.NoBody,
			Header: http.Header{"X-Ms-Error-Code": {"BlobImmutableDueToPolicy"}},
		}, nil
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil || resp.StatusCode != http.StatusCreated {
		return resp, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if kind != "block" {
		s.stored[r.URL.Path] = true
	}
	if lost {
		s.lose = ""
		_ = resp.Body.Close()
		return nil, errors.New("the answer was lost")
	}
	return resp, nil
}

func (s *service) open(t *testing.T) *blob.Azure {
	t.Helper()
	if testing.Short() {
		t.Skip("needs Node; make test runs it")
	}
	s.stored = map[string]bool{}
	b, err := blob.NewAzure(blob.AzureOptions{ConnectionString: storage.ConnectionString(), Container: "put", Transport: s})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Put(t.Context(), t.Name()+"/first", strings.NewReader("makes the container")); err != nil {
		t.Fatal(err)
	}
	s.writes = nil
	return b
}

func read(t *testing.T, b *blob.Azure, name string) []byte {
	t.Helper()
	r, err := b.Open(t.Context(), name, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// pattern has different bytes in each block, so that blocks in the wrong order are seen.
func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i >> 13)
	}
	return p
}

// Put stores what it was given, in as few operations as the size allows.
func TestPutOperations(t *testing.T) {
	const mib = 1 << 20
	section := func(p []byte) io.Reader { return io.NewSectionReader(bytes.NewReader(p), 0, int64(len(p))) }
	stream := func(p []byte) io.Reader { return iotest.HalfReader(bytes.NewReader(p)) }
	for i, c := range []struct {
		source     func([]byte) io.Reader
		size       int
		operations int
	}{
		{section, 0, 1},
		{section, 8 * mib, 1},
		{section, 8*mib + 1, 3 + 1},
		{section, 12 * mib, 3 + 1},
		{stream, 0, 1},
		{stream, 1000, 1},
		{stream, mib, 1 + 1},
		{stream, mib + 1, 2 + 1},
		{stream, 5 * mib, 5 + 1},
	} {
		s := &service{}
		b, name, content := s.open(t), fmt.Sprint(t.Name(), i), pattern(c.size)
		if err := b.Put(t.Context(), name, c.source(content)); err != nil {
			t.Fatal(err)
		}
		if len(s.writes) != c.operations {
			t.Errorf("case %d: %d operations %q, want %d", i, len(s.writes), s.writes, c.operations)
		}
		if !bytes.Equal(read(t, b, name), content) {
			t.Errorf("case %d: the blob differs from what was put", i)
		}
	}
}

// In an immutable container a repeated upload whose first answer was lost succeeds, and
// another content does not replace the blob.
func TestPutIntoImmutableContainer(t *testing.T) {
	for _, size := range []int{10, 3 << 20} {
		for _, blocksToo := range []bool{false, true} {
			s := &service{immutable: true, blocksToo: blocksToo}
			b, name, content := s.open(t), fmt.Sprint(t.Name(), size, blocksToo), pattern(size)
			s.lose = map[bool]string{true: "blocklist", false: "blob"}[size > 1<<20]
			if err := b.Put(t.Context(), name, bytes.NewReader(content)); err != nil {
				t.Errorf("%d bytes, answer lost: %v", size, err)
			}
			if s.lose != "" {
				t.Error("no answer was lost, so nothing was proved")
			}
			if err := b.Put(t.Context(), name, bytes.NewReader(content)); err != nil {
				t.Errorf("%d bytes again: %v", size, err)
			}
			if err := b.Put(t.Context(), name, bytes.NewReader(content[1:])); !errors.Is(err, blob.ErrExists) {
				t.Errorf("other content: %v", err)
			}
			if !bytes.Equal(read(t, b, name), content) {
				t.Error("the blob changed")
			}
		}
	}
}

// A source that waits does not keep Put from ending with its context, and a source that
// fails leaves no blob.
func TestPutEndsWithContext(t *testing.T) {
	s := &service{}
	b := s.open(t)
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	done := make(chan error)
	go func() { done <- b.Put(ctx, t.Name(), r) }()
	_, _ = w.Write(pattern(3 << 20))
	cancel()
	_ = w.CloseWithError(context.Canceled)
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if _, _, err := b.Length(t.Context(), t.Name()); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("a blob is left: %v", err)
	}
}
