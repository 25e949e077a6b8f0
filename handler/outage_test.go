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

	"aoaigateway/handler/aoaisim"
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

func startThree(t *testing.T, more ...string) (*rig, []*aoaisim.Region) {
	t.Helper()
	w := newWorld(t, startAzurite(t).ConnectionString(), testPolicy)
	var regions []*aoaisim.Region
	for _, name := range []string{"a", "b", "c"} {
		regions = append(regions, w.region(1, aoaisim.Options{Name: name, Kind: true}))
	}
	p := startGateway(t, w.environ(more...))
	p.ready()
	r := &rig{t: t, url: p.url}
	r.key = r.subscribe("default", "team")
	return r, regions
}

func TestARegionThatGoesSilentIsNotNoticedByClients(t *testing.T) {
	const patience = time.Second
	r, regions := startThree(t, "GATEWAY_STREAM_FIRST_BYTE_TIMEOUT="+patience.String())
	regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoHang})
	seen := r.load(50, outageFor())
	slices.SortFunc(seen, func(a, b steady) int { return int(a.at - b.at) })
	failed, waited, after := 0, 0, 0
	var tripped time.Duration
	for _, s := range seen {
		if s.status != http.StatusOK || !s.whole {
			failed++
		}
		if s.took < patience {
			if tripped > 0 && s.at > tripped {
				after++
			}
			continue
		}
		if tripped == 0 {
			tripped = s.at + s.took
		}
		if s.at > tripped {
			waited++
			after++
		}
	}
	figures(t, "%d requests in %v, one of three regions silent: %d client errors; after the first trip (%.1f s) %d of %d waited for it, %d reached it in all",
		len(seen), outageFor(), failed, tripped.Seconds(), waited, after, regions[0].Counts().Requests)
	if failed != 0 || tripped == 0 || waited*100 > after {
		t.Errorf("%d failed; %d of %d waited", failed, waited, after)
	}
}

func TestWhenEveryRegionThrottlesNobodyStormsThem(t *testing.T) {
	r, regions := startThree(t)
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
