package e2e_test

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"aoaigateway/handler/app/settings"
	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/tests/harness"
)

func TestAnswerWaitsForEndRecord(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1})
	gate := make(chan struct{})
	defer close(gate)
	r.Fault.Store(harness.NoAppends(gate))
	a := r.Post(harness.ChatPath, harness.ChatBody)
	if a.Status != 503 || !strings.Contains(string(a.Body), "could not be recorded") || bytes.Contains(a.Body, []byte("choices")) {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}

func TestStreamWaitsForEndRecord(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1})
	r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoStep})
	r.Regions[0].Step(3) // the third event is the first with output
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, r.URL+harness.ChatPath, strings.NewReader(harness.ChatStream))
	req.Header.Set("Api-Key", r.Key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	in := bufio.NewReader(resp.Body)
	readEvent(t, in) // its begin record is durable
	gate := make(chan struct{})
	defer close(gate)
	r.Fault.Store(harness.NoAppends(gate))
	r.Regions[0].Step(1000)
	rest, err := io.ReadAll(in)
	if err == nil || bytes.Contains(rest, []byte("[DONE]")) || !bytes.Contains(rest, []byte(`"error"`)) ||
		!bytes.Contains(rest, []byte(`"finish_reason":"stop"`)) {
		t.Errorf("a stream whose end could not be recorded ended with %v:\n%s", err, rest)
	}
}

func TestStreamWaitsForBeginRecord(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1})
	gate := make(chan struct{})
	defer close(gate)
	r.Fault.Store(harness.NoAppends(gate))
	a := r.Post(harness.ChatPath, harness.ChatStream)
	if a.Status != 503 || bytes.Contains(a.Body, []byte("choices")) {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}

func TestLongBodyBecomesBlob(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1, Settings: func(s *settings.Values) { s.MaxBodyMB = 8 }})
	long := `{"input":["` + strings.Repeat("x", 2<<20) + `"]}`
	r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoStatus, Status: 200, Times: 1, Body: `{"data":"` + strings.Repeat("y", 3<<20) +
		`","model":"text-embedding-3-small","usage":{"prompt_tokens":9,"total_tokens":9}}`})
	a := r.Post("/openai/deployments/emb/embeddings?api-version=2024-10-21", long)
	if a.Err != nil || a.Status != 200 || len(a.Body) < 3<<20 {
		t.Fatalf("%d, %d bytes, %v", a.Status, len(a.Body), a.Err)
	}
	rec := r.RecordOf(a)
	if rec.Usage.Total != 9 || rec.Response.SHA256 != sum(a.Body) || rec.Request.SHA256 != sum([]byte(long)) {
		t.Errorf("usage %+v, bodies %+v %+v", rec.Usage, rec.Request, rec.Response)
	}
	for blob, want := range map[string]string{rec.Request.Blob: long, rec.Response.Blob: string(a.Body)} {
		f, err := r.Blobs.Open(t.Context(), blob, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(f); err != nil || string(got) != want {
			t.Errorf("%s: %d bytes, %v; want %d", blob, len(got), err, len(want))
		}
	}
}
