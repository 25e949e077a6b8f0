package front

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"aoaigateway/handler/gateway"
)

// sendThenRead sends a whole request before it reads the answer, as the Functions host does.
func sendThenRead(t *testing.T, url, head string, size int, chunked bool) (*http.Response, error) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	w := bufio.NewWriter(conn)
	block := strings.Repeat("x", 64<<10)
	if chunked {
		fmt.Fprintf(w, "%s\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", head)
	} else {
		fmt.Fprintf(w, "%s\r\nHost: x\r\nContent-Length: %d\r\n\r\n", head, size)
	}
	for left := size; left > 0; left -= len(block) {
		piece := block[:min(left, len(block))]
		if chunked {
			piece = fmt.Sprintf("%x\r\n%s\r\n", len(piece), piece)
		}
		if _, err := w.WriteString(piece); err != nil {
			return nil, err
		}
	}
	if chunked {
		_, _ = w.WriteString("0\r\n\r\n")
	}
	if err := w.Flush(); err != nil {
		return nil, err
	}
	return http.ReadResponse(bufio.NewReader(conn), nil)
}

func TestRefusalArrivesAfterBody(t *testing.T) {
	h := handler(func(_ http.ResponseWriter, r *http.Request) error {
		if r.Method == http.MethodPut { // a part of the body is read, as before a 413
			_, _ = io.CopyN(io.Discard, r.Body, 1000)
		}
		return gateway.AdminKeyNotFound.Because(nil)
	})
	server := httptest.NewServer(h)
	defer server.Close()
	for _, size := range []int{0, 1 << 20, 5 << 20, 50 << 20} {
		for _, chunked := range []bool{false, true} {
			for _, method := range []string{"POST", "PUT"} {
				resp, err := sendThenRead(t, server.URL, method+" /manage/api/x HTTP/1.1", size, chunked)
				if err != nil || resp.StatusCode != http.StatusUnauthorized {
					t.Fatalf("%s of %d bytes, chunked %v: %v, %v", method, size, chunked, resp, err)
				}
				if body, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(body), "AdminKeyNotFound") {
					t.Errorf("%s of %d bytes, chunked %v: %q, %v", method, size, chunked, body, err)
				}
			}
		}
	}
}

// A client that sends a part of its body and waits gets the refusal at once. The connection
// can be used again after the rest of the body.
func TestRefusalDoesNotWaitForBody(t *testing.T) {
	server := httptest.NewServer(handler(func(http.ResponseWriter, *http.Request) error { return gateway.AdminKeyNotFound.Because(nil) }))
	defer server.Close()
	conn, err := net.Dial("tcp", strings.TrimPrefix(server.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	const size = 5 << 20
	answers := bufio.NewReader(conn)
	for range 2 {
		fmt.Fprintf(conn, "POST /manage/api/x HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\nfirst bytes", size)
		resp, err := http.ReadResponse(answers, nil)
		if err != nil || resp.StatusCode != http.StatusUnauthorized {
			t.Fatalf("%v, %v", resp, err)
		}
		if body, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(body), "AdminKeyNotFound") {
			t.Errorf("%q, %v", body, err)
		}
		if _, err := io.WriteString(conn, strings.Repeat("x", size-len("first bytes"))); err != nil {
			t.Fatal(err)
		}
	}
}

// endless is a body that never ends.
type endless struct{ pause time.Duration }

func (e endless) Read(p []byte) (int, error) {
	time.Sleep(e.pause)
	return len(p), nil
}

func TestDrainIsBounded(t *testing.T) {
	for name, c := range map[string]struct {
		body io.Reader
		most time.Duration
	}{
		"size":  {endless{}, 0},
		"time":  {endless{time.Second}, drainTime + time.Second},
		"pause": {late{}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := bodyOf(&connection{ResponseRecorder: httptest.NewRecorder()}, c.body)
				start := time.Now()
				b.drain()
				if took := time.Since(start); took > c.most {
					t.Errorf("read for %v", took)
				}
			})
		})
	}
}

func TestDrainAsksForNoBody(t *testing.T) {
	r := httptest.NewRequest("POST", "/", endless{})
	r.Header.Set("Expect", "100-continue")
	b := newClientBody(r, http.NewResponseController(httptest.NewRecorder()), time.Minute)
	b.drain()
	if !b.waits || b.ended {
		t.Error("a body that the client has not sent was read")
	}
}

func TestAbortWaitsForLastBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := handler(func(w http.ResponseWriter, _ *http.Request) error {
			_, _ = w.Write([]byte("data: the last event"))
			panic(http.ErrAbortHandler)
		})
		start := time.Now()
		defer func() {
			if recover() != http.ErrAbortHandler || time.Since(start) != abortDelay { //nolint:errorlint // a panic value
				t.Errorf("aborted after %v, want %v", time.Since(start), abortDelay)
			}
		}()
		do(h, "GET", "/manage/")
	})
}
