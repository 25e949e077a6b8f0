package process_test

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/tests/harness"
)

// steady is what a client saw of one request.
type steady struct {
	at, took time.Duration
	status   int
	waitMS   int
	whole    bool
}

func outageFor() time.Duration {
	if harness.Proving {
		return time.Minute
	}
	return 8 * time.Second
}

// load starts perSecond requests every second, even if earlier ones are not answered yet.
func load(r *harness.Gateway, perSecond int, lasts time.Duration) (seen []steady) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 200}}
	defer client.CloseIdleConnections()
	var mu sync.Mutex
	var all sync.WaitGroup
	began := time.Now()
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	for time.Since(began) < lasts {
		<-tick.C
		all.Go(func() {
			s := once(r, client, began)
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, s)
		})
	}
	all.Wait()
	return seen
}

func once(r *harness.Gateway, client *http.Client, began time.Time) steady {
	s := steady{at: time.Since(began)}
	req, _ := http.NewRequestWithContext(context.Background(), http.MethodPost, r.URL+harness.ChatPath, strings.NewReader(harness.ChatStream))
	req.Header.Set("Api-Key", r.Key)
	if resp, err := client.Do(req); err == nil {
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		s.status, s.whole = resp.StatusCode, err == nil && strings.HasSuffix(string(body), "data: [DONE]\n\n")
		s.waitMS, _ = strconv.Atoi(resp.Header.Get("Retry-After-Ms"))
	}
	s.took = time.Since(began) - s.at
	return s
}

func threeRegions(t *testing.T) (*harness.Environment, []*aoaisim.Region) {
	t.Helper()
	w := harness.NewEnvironment(t, harness.StartAzurite(t).ConnectionString(), harness.TestPolicy)
	var regions []*aoaisim.Region
	for _, name := range []string{"a", "b", "c"} {
		regions = append(regions, w.Region(1, aoaisim.Options{Name: name}))
	}
	return w, regions
}

// start starts one gateway and creates a subscription.
func start(w *harness.Environment, more ...string) *harness.Gateway {
	w.T.Helper()
	p := harness.StartProcess(w.T, w.Environ(more...))
	p.Ready()
	r := &harness.Gateway{T: w.T, URL: p.URL}
	r.Key = r.Subscribe("default", "team")
	return r
}

// A region fails in one of two ways: it accepts requests and never answers, or it does not
// answer connection requests (SYN). The two ways have different limits for the delay that
// clients may notice.
func TestOutageOfOneRegion(t *testing.T) {
	t.Run("silent", func(t *testing.T) {
		w, regions := threeRegions(t)
		regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoHang})
		r := start(w, "GATEWAY_STREAM_FIRST_BYTE_TIMEOUT=1s")
		bearsOutage(r, time.Second)
		harness.Report(t, "%d requests reached the silent region in all", regions[0].Counts().Requests)
	})
	t.Run("SYNs dropped", func(t *testing.T) {
		address, end, err := aoaisim.BlackHole()
		if err != nil {
			t.Fatal(err)
		}
		defer end()
		w, _ := threeRegions(t)
		w.Backends[0]["endpoint"] = "http://" + address
		bearsOutage(start(w), 5*time.Second)
	})
}

// bearsOutage sends requests at a constant rate and counts those that took longer than
// limit.
func bearsOutage(r *harness.Gateway, limit time.Duration) {
	r.T.Helper()
	seen := load(r, 50, max(outageFor(), limit+4*time.Second))
	slices.SortFunc(seen, func(a, b steady) int { return int(a.at - b.at) })
	failed, waited, after := 0, 0, 0
	var tripped time.Duration
	for _, s := range seen {
		if s.status != http.StatusOK || !s.whole {
			failed++
		}
		late := s.took >= limit
		if tripped > 0 && s.at > tripped {
			after++
			if late {
				waited++
			}
		}
		if late && tripped == 0 {
			tripped = s.at + s.took
		}
	}
	harness.Report(r.T, "%d requests, one of three regions dark: %d client errors; after the first trip (%.1f s) %d of %d waited for it",
		len(seen), failed, tripped.Seconds(), waited, after)
	if failed != 0 || tripped == 0 || after < 100 || waited*100 > after {
		r.T.Errorf("%d failed; %d of %d waited", failed, waited, after)
	}
}

func TestOutageThrottlesEveryRegion(t *testing.T) {
	w, regions := threeRegions(t)
	r := start(w)
	for i, ms := range []string{"2000", "4000", "6000"} {
		regions[i].Fault(aoaisim.Fault{Do: aoaisim.DoStatus, Status: 429, Headers: map[string]string{"retry-after-ms": ms}})
	}
	seen := load(r, 50, outageFor())
	odd, longest := 0, 0
	for _, s := range seen {
		if s.status != http.StatusTooManyRequests || s.waitMS == 0 {
			odd++
			t.Logf("%+v", s)
		}
		longest = max(longest, s.waitMS)
	}
	var attempts int64
	for _, region := range regions {
		attempts += region.Counts().Requests
	}
	each := float64(attempts) / float64(len(seen))
	harness.Report(t, "%d requests in %v, all three regions throttling: %d answers other than 429 with a wait, longest wait %d ms, %d "+
		"attempts, %.3f a request",
		len(seen), outageFor(), odd, longest, attempts, each)
	if odd != 0 || longest > 2000 || each > 0.1 {
		t.Errorf("%d odd answers, longest wait %d ms, %.3f attempts a request", odd, longest, each)
	}
}
