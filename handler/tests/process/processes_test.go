package process_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"aoaigateway/handler/admin"
	"aoaigateway/handler/app"
	"aoaigateway/handler/cli"
	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/devstack/azurite"
	"aoaigateway/handler/table"
	"aoaigateway/handler/tests/harness"
)

const (
	processes   = 8
	raceCallers = 64
)

// raceFor returns how long the callers send requests. This must be less than a window of
// the limit. The short form ends earlier when the limit is used up; it has time to spare
// for a busy machine.
func raceFor() time.Duration {
	if harness.Proving {
		return 30 * time.Second
	}
	return 24 * time.Second
}

func raceLimit() int64 {
	if harness.Proving {
		return 60_000
	}
	return 8_000
}

// racePolicy returns a policy with one product for each team. A request asks for at most
// about 1 % of the limit, so that little of the limit is left when a request is refused.
func racePolicy() string {
	return strings.NewReplacer("LIMIT", fmt.Sprint(raceLimit())).Replace(`
version: 1
models:
  chat: {contextWindow: 128000}
  emb: {contextWindow: 8192}
products:
  minute:
    models: [chat]
    maxOutputTokens: 20
    limits:
      - {tokens: LIMIT, per: minute, hard: true}
  day:
    models: [chat]
    maxOutputTokens: 20
    limits:
      - {tokens: LIMIT, per: day, hard: true}
  soft:
    models: [chat]
    maxOutputTokens: 20
    limits:
      - {tokens: LIMIT, per: minute}
`)
}

// fleet is eight gateways with shared storage, in front of one region that counts tokens.
type fleet struct {
	t       *testing.T
	world   *harness.Environment
	storage *azurite.Server
	region  *aoaisim.Region
	mu      sync.Mutex
	members []*harness.Process
	kills   int
}

func startFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{t: t, storage: harness.StartAzurite(t)}
	f.world = harness.NewEnvironment(t, f.storage.ConnectionString(), racePolicy())
	f.region = f.world.Region(1, aoaisim.Options{Name: "only"})
	for range processes {
		p := harness.StartProcess(t, f.world.Environ())
		p.Ready()
		f.members = append(f.members, p)
	}
	return f
}

func (f *fleet) url(n int) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.members[n%processes].URL
}

// killOne kills a gateway and starts a new one in its place, which does not know the holds
// of the old one.
func (f *fleet) killOne(n int) {
	f.t.Helper()
	f.mu.Lock()
	old := f.members[n%processes]
	f.mu.Unlock()
	_ = old.Cmd.Process.Kill()
	<-old.Exited
	p := harness.StartProcess(f.t, f.world.Environ())
	p.Ready()
	f.mu.Lock()
	f.members[n%processes] = p
	f.kills++
	f.mu.Unlock()
}

// result is the outcome of a race.
type result struct {
	answered, refused, failed atomic.Int64
	tokens                    atomic.Int64 // in answers that were read completely
	took                      time.Duration
}

// key creates the subscription of a team and returns its key.
func (f *fleet) key(team string) string {
	f.t.Helper()
	remote := cli.Remote{URL: f.url(0), Key: harness.AdminKey, Client: http.DefaultClient}
	sub, err := remote.Create(f.t.Context(), admin.NewSubscription{ID: "team-" + team, Product: team})
	if err != nil {
		f.t.Fatal(err)
	}
	return sub.Primary
}

// race makes n callers with the same key send requests as fast as they can.
func (f *fleet) race(key string, n int) *result {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), raceFor())
	defer cancel()
	began := time.Now()
	usedUp := func(r *result) {
		if !harness.Proving && time.Since(began) > 8*time.Second && r.refused.Load() > 100 &&
			float64(r.tokens.Load()) > 0.975*float64(raceLimit()) {
			cancel()
		}
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: raceCallers}}
	defer client.CloseIdleConnections()
	r := &result{}
	var all sync.WaitGroup
	for caller := range n {
		all.Go(func() {
			for ctx.Err() == nil {
				f.ask(client, f.url(caller), key, r)
				usedUp(r)
			}
		})
	}
	all.Wait()
	r.took = time.Since(began)
	return r
}

func (f *fleet) ask(client *http.Client, url, key string, r *result) {
	req, _ := http.NewRequestWithContext(context.Background(), http.MethodPost, url+harness.ChatPath,
		strings.NewReader(`{"messages":[{"role":"user","content":"go [tokens:20]"}]}`))
	req.Header.Set("Api-Key", key)
	resp, err := client.Do(req)
	if err != nil {
		r.failed.Add(1)
		time.Sleep(20 * time.Millisecond)
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	switch {
	case err != nil || resp.StatusCode >= 500:
		r.failed.Add(1)
	case resp.StatusCode == http.StatusOK:
		r.answered.Add(1)
		r.tokens.Add(gjson.GetBytes(body, "usage.total_tokens").Int())
		return
	default:
		r.refused.Add(1)
	}
	time.Sleep(20 * time.Millisecond) // a refused caller tries again after a pause, not in a busy loop
}

// withinOneWindow waits until a whole race fits into the present minute, and then sets the
// region's counts to zero.
func withinOneWindow(t *testing.T) {
	t.Helper()
	now := time.Now()
	if left := now.Truncate(time.Minute).Add(time.Minute).Sub(now); left < raceFor()+8*time.Second {
		nextWindow(t)
	}
}

func nextWindow(t *testing.T) {
	t.Helper()
	now := time.Now()
	left := now.Truncate(time.Minute).Add(time.Minute).Sub(now)
	if err := harness.Pause(t.Context(), left+100*time.Millisecond); err != nil {
		t.Fatal(err)
	}
}

// settled waits until the settlements that continue in the background are done.
func settled(t *testing.T) {
	t.Helper()
	if err := harness.Pause(t.Context(), 3500*time.Millisecond); err != nil {
		t.Fatal(err)
	}
}

func (f *fleet) charged(team, limit string) int64 {
	f.t.Helper()
	store, err := table.NewAzure(table.AzureOptions{ConnectionString: f.storage.ConnectionString(), Table: app.QuotaTable})
	if err != nil {
		f.t.Fatal(err)
	}
	e, err := store.Get(f.t.Context(), table.Key{Partition: team + "|subscription|team-" + team, Row: "quota"})
	if err != nil {
		f.t.Fatal(err)
	}
	var limits map[string]struct{ Charged int64 }
	text, _ := e.Props["limits"].(string)
	if err := json.Unmarshal([]byte(text), &limits); err != nil {
		f.t.Fatal(err)
	}
	c, ok := limits[limit]
	if !ok {
		f.t.Fatalf("no limit %s in %s", limit, text)
	}
	return c.Charged
}

func TestProcessesHardLimits(t *testing.T) {
	f := startFleet(t)
	withinOneWindow(t)
	var both sync.WaitGroup
	results := map[string]*result{}
	var mu sync.Mutex
	for _, team := range []string{"minute", "day"} {
		key := f.key(team)
		both.Go(func() {
			r := f.race(key, raceCallers/2)
			mu.Lock()
			results[team] = r
			mu.Unlock()
		})
	}
	both.Wait()
	settled(t)
	var charged, seen int64
	for team, r := range results {
		c := f.charged(team, "tokens/"+team+"/hard")
		charged += c
		seen += r.tokens.Load()
		use := float64(r.tokens.Load()) / float64(raceLimit())
		harness.Report(t, "per %-6s limit %d, charged %d, over by %d, used %d (%.1f %%), %d answers, %d refusals, %d failures, %d processes, "+
			"%d callers",
			team, raceLimit(), c, max(0, c-raceLimit()), r.tokens.Load(), use*100, r.answered.Load(), r.refused.Load(), r.failed.Load(), processes,
			raceCallers/2)
		if c > raceLimit() {
			t.Errorf("per %s: charged %d of %d", team, c, raceLimit())
		}
		if r.refused.Load() == 0 {
			t.Errorf("per %s: nobody was refused, so nothing was proved", team)
		}
		if use < 0.97 {
			t.Errorf("per %s: only %.1f %% of the limit was used", team, use*100)
		}
	}
	if answered := f.region.Counts().Usage.Total; answered > charged || answered < seen {
		t.Errorf("the region answered %d tokens, %d were charged and %d seen", answered, charged, seen)
	}
}

func TestProcessesSoftLimits(t *testing.T) {
	f := startFleet(t)
	r := f.race(f.key("soft"), raceCallers)
	fill := float64(raceLimit()) * (1 + r.took.Minutes())
	over := float64(r.tokens.Load())/fill - 1
	harness.Report(t, "soft: bucket gave %.0f in %.1f s, used %d: overshoot %.2f %%, %d answers, %d refusals, %d failures",
		fill, r.took.Seconds(), r.tokens.Load(), math.Max(0, over)*100, r.answered.Load(), r.refused.Load(), r.failed.Load())
	if over > 0.02 {
		t.Errorf("overshoot %.2f %%", over*100)
	}
	if r.refused.Load() == 0 {
		t.Error("nobody was refused, so nothing was proved")
	}
}

func TestProcessesKilledHardLimits(t *testing.T) {
	f := startFleet(t)
	key := f.key("minute")
	withinOneWindow(t)
	r := f.raceUnderFire(key)
	settled(t)
	c := f.charged("minute", "tokens/minute/hard")
	answered := f.region.Counts().Usage.Total
	harness.Report(t, "%d kills: limit %d, charged %d, over by %d, region answered %d, seen %d, stranded until the window ends %d",
		f.kills, raceLimit(), c, max(0, c-raceLimit()), answered, r.tokens.Load(), c-answered)
	if c > raceLimit() || answered > c {
		t.Errorf("limit %d, charged %d, answered %d", raceLimit(), c, answered)
	}
	if f.kills < 4 || r.refused.Load() == 0 {
		t.Errorf("%d kills and %d refusals prove nothing", f.kills, r.refused.Load())
	}
	nextWindow(t)
	r = f.race(key, raceCallers)
	settled(t)
	c = f.charged("minute", "tokens/minute/hard")
	use := float64(r.tokens.Load()) / float64(raceLimit())
	harness.Report(t, "the window after: limit %d, charged %d, over by %d, used %d (%.1f %%): nothing is stranded any more",
		raceLimit(), c, max(0, c-raceLimit()), r.tokens.Load(), use*100)
	if c > raceLimit() || use < 0.97 {
		t.Errorf("the window after: limit %d, charged %d, use %.1f %%", raceLimit(), c, use*100)
	}
}

// raceUnderFire runs a race and kills a process every second.
func (f *fleet) raceUnderFire(key string) *result {
	f.t.Helper()
	done := make(chan struct{})
	var killer sync.WaitGroup
	killer.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			case <-time.After(time.Second):
				f.killOne(n)
			}
		}
	})
	r := f.race(key, raceCallers)
	close(done)
	killer.Wait()
	return r
}
