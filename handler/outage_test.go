package main

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
)

// steady is what a steady load saw of one request.
type steady struct {
	at, took time.Duration
	status   int
	waitMS   int
	whole    bool
}

func outageFor() time.Duration {
	if proving {
		return time.Minute
	}
	return 8 * time.Second
}

// load sends perSecond requests a second, however long each takes.
func (r *rig) load(perSecond int, lasts time.Duration) (seen []steady) {
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
			s := r.once(client, began)
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, s)
		})
	}
	all.Wait()
	return seen
}

func (r *rig) once(client *http.Client, began time.Time) steady {
	s := steady{at: time.Since(began)}
	req, _ := http.NewRequestWithContext(context.Background(), http.MethodPost, r.url+chatPath, strings.NewReader(chatStream))
	req.Header.Set("Api-Key", r.key)
	if resp, err := client.Do(req); err == nil {
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		s.status, s.whole = resp.StatusCode, err == nil && strings.HasSuffix(string(body), "data: [DONE]\n\n")
		s.waitMS, _ = strconv.Atoi(resp.Header.Get("Retry-After-Ms"))
	}
	s.took = time.Since(began) - s.at
	return s
}

func threeRegions(t *testing.T) (*world, []*aoaisim.Region) {
	t.Helper()
	w := newWorld(t, startAzurite(t).ConnectionString(), testPolicy)
	var regions []*aoaisim.Region
	for _, name := range []string{"a", "b", "c"} {
		regions = append(regions, w.region(1, aoaisim.Options{Name: name, Kind: true}))
	}
	return w, regions
}

// start runs one gateway and makes a subscription.
func (w *world) start(more ...string) *rig {
	w.t.Helper()
	p := startGateway(w.t, w.environ(more...))
	p.ready()
	r := &rig{t: w.t, url: p.url}
	r.key = r.subscribe("default", "team")
	return r
}

// A region goes dark in one of two ways: it takes requests and never answers, or it
// answers no SYN. Its clients' patience differs.
func TestAnOutageOfOneRegionIsNotNoticedByClients(t *testing.T) {
	t.Run("silent", func(t *testing.T) {
		w, regions := threeRegions(t)
		regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoHang})
		r := w.start("GATEWAY_STREAM_FIRST_BYTE_TIMEOUT=1s")
		r.bearsOutage(time.Second)
		figures(t, "%d requests reached the silent region in all", regions[0].Counts().Requests)
	})
	t.Run("SYNs dropped", func(t *testing.T) {
		address, end, err := aoaisim.BlackHole()
		if err != nil {
			t.Fatal(err)
		}
		defer end()
		w, _ := threeRegions(t)
		w.backends[0]["endpoint"] = "http://" + address
		w.start().bearsOutage(5 * time.Second)
	})
}

// bearsOutage sends a steady load and judges by who had to be patient.
func (r *rig) bearsOutage(patience time.Duration) {
	r.t.Helper()
	seen := r.load(50, max(outageFor(), patience+4*time.Second))
	slices.SortFunc(seen, func(a, b steady) int { return int(a.at - b.at) })
	failed, waited, after := 0, 0, 0
	var tripped time.Duration
	for _, s := range seen {
		if s.status != http.StatusOK || !s.whole {
			failed++
		}
		late := s.took >= patience
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
	figures(r.t, "%d requests, one of three regions dark: %d client errors; after the first trip (%.1f s) %d of %d waited for it",
		len(seen), failed, tripped.Seconds(), waited, after)
	if failed != 0 || tripped == 0 || after < 100 || waited*100 > after {
		r.t.Errorf("%d failed; %d of %d waited", failed, waited, after)
	}
}

func TestAnOutageThatThrottlesEveryRegionStormsNone(t *testing.T) {
	w, regions := threeRegions(t)
	r := w.start()
	for i, ms := range []string{"2000", "4000", "6000"} {
		regions[i].Fault(aoaisim.Fault{Do: aoaisim.DoStatus, Status: 429, Headers: map[string]string{"retry-after-ms": ms}})
	}
	seen := r.load(50, outageFor())
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
	figures(t, "%d requests in %v, all three regions throttling: %d answers other than 429 with a wait, longest wait %d ms, %d attempts, %.3f a request",
		len(seen), outageFor(), odd, longest, attempts, each)
	if odd != 0 || longest > 2000 || each > 0.1 {
		t.Errorf("%d odd answers, longest wait %d ms, %.3f attempts a request", odd, longest, each)
	}
}

func TestALongRequestIsSteeredAwayFromARegionWithLittleLeft(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoStatus, Status: 200, Times: 1, Headers: map[string]string{
		"x-ratelimit-remaining-tokens": "300", "x-ratelimit-remaining-requests": "50",
	}, Body: `{"object":"chat.completion","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`})
	long := strings.Replace(chatBody, "{", `{"max_tokens":500,`, 1)
	for i, c := range []struct{ body, by string }{{chatBody, "a"}, {long, "b"}, {chatBody, "a"}} {
		if rec := r.recordOf(r.post(chatPath, c.body)); rec.Region != c.by || len(rec.Attempts) != 1 {
			t.Errorf("request %d: answered by %s after %+v, want %s at once", i, rec.Region, rec.Attempts, c.by)
		}
		if i == 0 {
			health := string(r.do(http.MethodGet, "/manage/api/regions", "", "api-key="+adminKey).body)
			if !strings.Contains(health, `"remainingTokens":300,"remainingRequests":50`) {
				t.Errorf("health %s", health)
			}
		}
	}
}

func TestThePolicysFirstByteTimeOutOfAModelHolds(t *testing.T) {
	r := newRig(t, rigOptions{policy: `
version: 1
models: {chat: {firstByteTimeout: 1s}}
products: {default: {models: [chat]}}
`})
	r.regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoHang})
	began := time.Now()
	rec := r.recordOf(r.post(chatPath, chatBody))
	if rec.Region != "b" || rec.Attempts[0].Reason != "first-byte-timeout" || time.Since(began) > 20*time.Second {
		t.Errorf("%s after %v: %+v", rec.Region, time.Since(began), rec.Attempts)
	}
}
