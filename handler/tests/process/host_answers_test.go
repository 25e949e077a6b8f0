package process_test

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/tests/harness"
)

// The host would drop an answer whose header values are not ASCII, although its tokens must
// be paid.
func TestOddRegionHeadersArrive(t *testing.T) {
	h := startHosted(t)
	h.region.Fault(aoaisim.Fault{
		Do: aoaisim.DoStatus, Status: http.StatusBadRequest, Body: `{"error":{"message":"no"}}`,
		Headers: map[string]string{"X-Ms-Region": "Zürich", "X-Ms-Rai-Invoked": "M\xfc", "X-Ratelimit-Limit-Requests": "7"},
	})
	a := h.Post(harness.ChatPath, harness.ChatBody)
	if a.Status != http.StatusBadRequest || len(a.Body) == 0 || a.Header.Get("X-Ratelimit-Limit-Requests") != "7" {
		t.Errorf("%d %v %v %q", a.Status, a.Err, a.Header, a.Body)
	}
	if a.Header.Get("X-Ms-Region") == "Zürich" {
		t.Errorf("%v", a.Header)
	}
}

// When a region breaks off a stream, the client receives the gateway's error event and then
// a reset.
func TestErrorEventPrecedesReset(t *testing.T) {
	h := startHosted(t)
	h.region.Fault(aoaisim.Fault{Do: aoaisim.DoCutReset, After: 4})
	var broken atomic.Int32
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			a := h.Post(harness.ChatPath, harness.ChatStream)
			broken.Add(1)
			if !errors.Is(a.Err, syscall.ECONNRESET) || !strings.Contains(string(a.Body), `"error"`) {
				t.Errorf("%d %v %q", a.Status, a.Err, a.Body)
			}
		})
	}
	wg.Wait()
	if broken.Load() != 20 {
		t.Errorf("%d streams were broken off, want 20", broken.Load())
	}
}

// When a process dies, the requests in flight get an empty 500 or a reset. Other requests
// do not notice it.
func TestDeathIsEmpty500(t *testing.T) {
	h := startHosted(t)
	h.region.Fault(aoaisim.Fault{Do: aoaisim.DoHang, Times: 3})
	answers := make(chan harness.Answer)
	for range 3 {
		go func() { answers <- h.Post(harness.ChatPath, harness.ChatBody) }()
	}
	harness.Until(t, "the requests are in flight", func() bool { return h.region.Counts().Requests == 3 })
	h.host.Kill()
	for range 3 {
		if a := <-answers; a.Status != http.StatusInternalServerError || len(a.Body) > 0 || a.Err != nil {
			t.Errorf("in flight: %d %v %q", a.Status, a.Err, a.Body)
		}
	}
	if a := h.Post(harness.ChatPath, harness.ChatBody); a.Status != http.StatusOK {
		t.Errorf("afterwards: %d %v %q", a.Status, a.Err, a.Body)
	}
	if h.host.Starts() != 2 {
		t.Errorf("%d starts", h.host.Starts())
	}
}
