package e2e_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"aoaigateway/handler/app"
	"aoaigateway/handler/app/settings"
	"aoaigateway/handler/blob"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/tests/harness"
)

// discarding is a container that keeps only the hashes of large blobs, so that a test
// measures the memory of the gateway and not of the container.
type discarding struct {
	blob.Store
	sums chan string // SHA-256 of each blob that was put
}

func (d discarding) Put(_ context.Context, _ string, r io.Reader) error {
	sum := sha256.New()
	if _, err := io.CopyBuffer(sum, struct{ io.Reader }{r}, make([]byte, 32<<10)); err != nil {
		return err
	}
	d.sums <- hex.EncodeToString(sum.Sum(nil))
	return nil
}

// heapPeak returns the greatest growth of the heap while f runs. It forces collections at
// short intervals, so that the result has little garbage.
func heapPeak(f func()) int64 {
	var peak atomic.Int64
	stop, done := make(chan struct{}), make(chan struct{})
	live := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := live()
	go func() {
		defer close(done)
		for {
			peak.Store(max(peak.Load(), live()-before))
			select {
			case <-stop:
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	}()
	f()
	close(stop)
	<-done
	return peak.Load()
}

// startLarge starts a gateway with one region that is the given handler.
func startLarge(t *testing.T, region http.HandlerFunc) (*harness.Gateway, discarding) {
	t.Helper()
	d := discarding{sums: make(chan string, 4)}
	r := harness.Start(t, harness.Options{Regions: 1, Settings: func(s *settings.Values) {
		scripted(t, region)(s)
		s.MaxBodyMB = 100
	}, Services: func(e *app.Services) { d.Store = e.Blobs; e.Blobs = d }})
	r.Post(harness.ChatPath, harness.ChatStream) // opens connections and loads the tokenizer before the measurement
	return r, d
}

// send streams a request and returns the hash of the answer. It keeps neither in memory.
func send(r *harness.Gateway, body io.Reader, length int64) (id, sum string, n int64) {
	req, err := http.NewRequestWithContext(r.T.Context(), http.MethodPost, r.URL+harness.ChatPath, body)
	if err != nil {
		r.T.Fatal(err)
	}
	req.ContentLength = length
	req.Header.Set("Api-Key", r.Key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.T.Fatal(err)
	}
	defer resp.Body.Close()
	hash := sha256.New()
	n, err = io.Copy(hash, resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		r.T.Fatalf("%d, %v", resp.StatusCode, err)
	}
	return resp.Header.Get("X-Gateway-Request-Id"), hex.EncodeToString(hash.Sum(nil)), n
}

func TestLargeRequestMemory(t *testing.T) {
	image := strings.Repeat("QUJD", 5<<20)
	body := []byte(`{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,` + image +
		`"}},{"type":"text","text":"what is this"}]}]}`)
	sum := sha256.Sum256(body)
	want := hex.EncodeToString(sum[:])
	var arrived atomic.Value
	r, d := startLarge(t, func(w http.ResponseWriter, q *http.Request) {
		hash := sha256.New()
		_, _ = io.Copy(hash, q.Body)
		arrived.Store(hex.EncodeToString(hash.Sum(nil)))
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, wholeChat)
	})
	var id string
	peak := heapPeak(func() { id, _, _ = send(r, bytes.NewReader(body), int64(len(body))) })
	rec := r.Record(id)
	if kept := <-d.sums; kept != want || arrived.Load() != want || rec.Request.SHA256 != want || rec.Request.Blob == "" ||
		rec.Outcome != gateway.Complete {
		t.Errorf("sent %s, the region got %v, the blob has %s, the record %+v", want, arrived.Load(), kept, rec.Request)
	}
	harness.Report(t, "a request of %.1f MB: at most %.2f times itself in memory", float64(len(body))/1e6, float64(peak)/float64(len(body)))
	if peak > 4<<20 {
		t.Errorf("%d bytes of memory for a body of %d", peak, len(body))
	}
}

func TestLongStreamMemory(t *testing.T) {
	event := strings.Replace(firstChunk, "one", strings.Repeat("word ", 40), 1)
	var size atomic.Int64
	sent := make(chan string, 4)
	r, d := startLarge(t, func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		hash := sha256.New()
		out := io.MultiWriter(w, hash)
		for n := int64(0); n < size.Load(); n += int64(len(event)) {
			_, _ = io.WriteString(out, event)
		}
		_, _ = io.WriteString(out, lastChunk+usageChunk+doneEvent)
		sent <- hex.EncodeToString(hash.Sum(nil))
	})
	<-sent
	ask := strings.Replace(harness.ChatStream, "{", `{"stream_options":{"include_usage":true},`, 1)
	held := map[int64]int64{}
	for _, mb := range []int64{5, 10, 40} {
		size.Store(mb << 20)
		var id, got string
		held[mb] = heapPeak(func() { id, got, _ = send(r, strings.NewReader(ask), int64(len(ask))) })
		rec, want := r.Record(id), <-sent
		if kept := <-d.sums; kept != want || got != want || rec.Response.SHA256 != want || rec.Response.Blob == "" ||
			rec.Outcome != gateway.Complete || rec.Usage.Total != 4 {
			t.Errorf("%d MB: the region sent %s, the client got %s, the blob has %s, the record %+v", mb, want, got, kept, rec.Response)
		}
	}
	harness.Report(t, "memory for a stream of 5 MB: %.1f MB; of 10 MB: %.1f; of 40 MB: %.1f", float64(held[5])/1e6, float64(held[10])/1e6,
		float64(held[40])/1e6)
	// The record has the assembled object, which is limited to 8 MiB; the longest stream is
	// five times as long. Garbage that is not collected yet adds some MiB.
	if held[5] > 16<<20 || held[40] > held[10]+8<<20 || held[40] > 24<<20 {
		t.Errorf("held %v", held)
	}
}
