package process_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/devstack/funchost"
	"aoaigateway/handler/tests/harness"
)

// startHosted serves the staged gateway behind the host stand-in, with one region.
func startHosted(t *testing.T, settings ...string) (*harness.Gateway, *aoaisim.Region, *funchost.Host) {
	t.Helper()
	w := harness.NewEnvironment(t, harness.StartAzurite(t).ConnectionString(), harness.TestPolicy)
	region := w.Region(1, aoaisim.Options{Name: "a", Kind: true})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	host, err := funchost.Start(ctx, funchost.Options{AppDir: harness.Staged(t), Env: w.Environ(settings...), Log: t.Output(), FrontEnd: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(host.Close)
	g := &harness.Gateway{T: t, URL: host.URL()}
	g.Key = g.Subscribe("default", "team")
	return g, region, host
}

// The host sends a body to its end before it looks at the answer. An answer that the gateway
// gives to the head alone must arrive all the same, with its body, however long the request's is.
func TestEarlyAnswersArrive(t *testing.T) {
	g, _, _ := startHosted(t, "GATEWAY_MAX_BODY_MB=6")
	for _, size := range []int{1 << 20, 5 << 20, 20 << 20} {
		body := `{"messages":[{"role":"user","content":"` + strings.Repeat("x", size) + `"}]}`
		for name, c := range map[string]struct {
			path, key string
			status    int
		}{
			"wrong key":    {harness.ChatPath, "wrong", http.StatusUnauthorized},
			"unknown path": {"/openai/nothing", g.Key, http.StatusNotFound},
			"management":   {"/manage/api/regions", "wrong", http.StatusUnauthorized},
			"too long":     {harness.ChatPath, g.Key, http.StatusRequestEntityTooLarge},
		} {
			if name == "too long" && size < 6<<20 {
				continue
			}
			whole := g.Do(http.MethodPost, c.path, body, "api-key="+c.key, "Content-Type=application/json")
			chunked := inChunks(g, c.path, c.key, body)
			for form, a := range map[string]harness.Answer{"with a length": whole, "in chunks": chunked} {
				if a.Err != nil || a.Status != c.status || len(a.Body) == 0 {
					t.Errorf("%s, %d MiB %s: %d %v %q, want %d and words", name, size>>20, form, a.Status, a.Err, a.Body, c.status)
				}
			}
		}
	}
}

// inChunks posts a body without saying how long it is.
func inChunks(g *harness.Gateway, path, key, body string) harness.Answer {
	g.T.Helper()
	req, err := http.NewRequestWithContext(g.T.Context(), http.MethodPost, g.URL+path, io.MultiReader(strings.NewReader(body)))
	if err != nil {
		g.T.Fatal(err)
	}
	req.Header.Set("Api-Key", key)
	resp, err := g.HTTP().Do(req)
	if err != nil {
		return harness.Answer{Err: err}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return harness.Answer{Status: resp.StatusCode, Header: resp.Header, Body: b, Err: err}
}

// A header value of a region that is not ASCII would make the host drop an answer that was paid for.
func TestOddRegionHeadersArrive(t *testing.T) {
	g, region, _ := startHosted(t)
	region.Fault(aoaisim.Fault{
		Do: aoaisim.DoStatus, Status: http.StatusBadRequest, Body: `{"error":{"message":"no"}}`,
		Headers: map[string]string{"X-Ms-Region": "Zürich", "X-Ms-Rai-Invoked": "M\xfc", "X-Ratelimit-Limit-Requests": "7"},
	})
	a := g.Post(harness.ChatPath, harness.ChatBody)
	if a.Status != http.StatusBadRequest || len(a.Body) == 0 || a.Header.Get("X-Ratelimit-Limit-Requests") != "7" {
		t.Errorf("%d %v %v %q", a.Status, a.Err, a.Header, a.Body)
	}
	if a.Header.Get("X-Ms-Region") == "Zürich" {
		t.Errorf("%v", a.Header)
	}
}

// When a region breaks a stream off, the client reads the gateway's error event and then a reset.
func TestErrorEventPrecedesReset(t *testing.T) {
	g, region, _ := startHosted(t)
	region.Fault(aoaisim.Fault{Do: aoaisim.DoCutReset, After: 4})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			a := g.Post(harness.ChatPath, harness.ChatStream)
			if !errors.Is(a.Err, syscall.ECONNRESET) || !strings.Contains(string(a.Body), `"error"`) {
				t.Errorf("%d %v %q", a.Status, a.Err, a.Body)
			}
		})
	}
	wg.Wait()
}

// A process that dies costs those in flight an empty 500 or a reset, and nobody else anything.
func TestDeathIsEmpty500(t *testing.T) {
	g, region, host := startHosted(t)
	region.Fault(aoaisim.Fault{Do: aoaisim.DoHang, Times: 3})
	answers := make(chan harness.Answer)
	for range 3 {
		go func() { answers <- g.Post(harness.ChatPath, harness.ChatBody) }()
	}
	harness.Until(t, "the requests are in flight", func() bool { return region.Counts().Requests == 3 })
	host.Kill()
	for range 3 {
		if a := <-answers; a.Status != http.StatusInternalServerError || len(a.Body) > 0 || a.Err != nil {
			t.Errorf("in flight: %d %v %q", a.Status, a.Err, a.Body)
		}
	}
	if a := g.Post(harness.ChatPath, harness.ChatBody); a.Status != http.StatusOK {
		t.Errorf("afterwards: %d %v %q", a.Status, a.Err, a.Body)
	}
	if host.Starts() != 2 {
		t.Errorf("%d starts", host.Starts())
	}
}

// The host resolves dot segments before it routes, so they lead from one function into another.
func TestDotSegmentsCrossFunctions(t *testing.T) {
	g, _, _ := startHosted(t)
	for _, path := range []string{"/openai/%2e%2e/manage/api/regions", "/healthz/%2e%2e/manage/api/regions"} {
		if a := g.Do(http.MethodGet, path, "", "api-key="+harness.AdminKey); a.Status != http.StatusOK {
			t.Errorf("%s: %d %q", path, a.Status, a.Body)
		}
		if a := g.Do(http.MethodGet, path, ""); a.Status != http.StatusUnauthorized {
			t.Errorf("%s without a key: %d %q", path, a.Status, a.Body)
		}
	}
	if a := g.Do(http.MethodGet, "/openai/deployments/a%2Fb/chat/completions", "", "api-key="+g.Key); a.Status != http.StatusNotFound {
		t.Errorf("an encoded slash: %d %q", a.Status, a.Body)
	}
}
