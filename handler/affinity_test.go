package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"aoaigateway/handler/backend"
	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal"
	"aoaigateway/handler/table"
)

// surfaces are the paths of the Responses API on both.
var surfaces = []struct{ base, query string }{
	{"/openai/v1/responses", ""},
	{"/openai/responses", "?api-version=2025-03-01-preview"},
}

// twin is another instance: a new program that has the stores and nothing else of the first.
func (r *rig) twin() *rig {
	r.t.Helper()
	other := r.with(r.key)
	logger := slog.New(slog.NewTextHandler(r.t.Output(), nil))
	e := r.edges
	e.transport = backend.NewTransport(nil)
	other.program = build(r.settings, r.policy, e, logger)
	other.listen(logger)
	return other
}

// with is the same gateway to another caller.
func (r *rig) with(key string) *rig {
	return &rig{t: r.t, url: r.url, key: key, regions: r.regions, endpoints: r.endpoints, blobs: r.blobs, store: r.store, program: r.program, settings: r.settings, policy: r.policy, edges: r.edges}
}

// madeBy has the named region make a response, by keeping the others from answering.
func (r *rig) madeBy(region int, base, query, body string) (id string) {
	r.t.Helper()
	for i, other := range r.regions {
		if i != region {
			other.Fault(aoaisim.Fault{Do: aoaisim.DoStatus, Status: 429, Times: 1, Headers: map[string]string{"retry-after-ms": "1"}})
		}
	}
	a := r.post(base+query, body)
	if rec := r.recordOf(a); a.status != 200 || rec.Region != string(rune('a'+region)) {
		r.t.Fatalf("%d by %s: %s", a.status, rec.Region, a.body)
	}
	if id = gjson.GetBytes(a.body, "id").Str; id == "" {
		id = gjson.GetBytes(bytes.TrimPrefix([]byte(strings.SplitN(string(a.body), "\n", 3)[1]), []byte("data: ")), "response.id").Str
	}
	for _, other := range r.regions {
		other.ClearFaults()
	}
	if id == "" {
		r.t.Fatalf("no id in %s", a.body)
	}
	pauseFor(r.t, 5*time.Millisecond) // until the regions are willing again
	return id
}

func pauseFor(t *testing.T, d time.Duration) {
	t.Helper()
	if err := pause(t.Context(), d); err != nil {
		t.Fatal(err)
	}
}

// asked is the method and URL of a region's last requests.
func asked(region *aoaisim.Region) (list []string) {
	for _, x := range region.Exchanges() {
		list = append(list, x.Method+" "+x.URL)
	}
	return list
}

func TestAResponseIsAskedForWhereItWasMadeFromAnyInstanceAfterAnyRestart(t *testing.T) {
	r := newRig(t, rigOptions{regions: 3, strict: true})
	for _, surface := range surfaces {
		for _, stream := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s stream %t", surface.base, stream), func(t *testing.T) {
				body := fmt.Sprintf(`{"model":"chat","input":"hi [tokens:4]","stream":%t}`, stream)
				id := r.madeBy(2, surface.base, surface.query, body)
				for name, instance := range map[string]*rig{"the same": r, "another": r.twin()} {
					for _, region := range r.regions {
						region.ResetCounts()
					}
					next := instance.post(surface.base+surface.query, fmt.Sprintf(`{"model":"chat","input":"more","stream":%t,"previous_response_id":%q}`, stream, id))
					if next.status != 200 || next.err != nil {
						t.Errorf("%s instance: previous_response_id: %d %s", name, next.status, next.body)
					}
					for _, c := range []struct{ method, rest string }{{"GET", ""}, {"GET", "/input_items"}, {"POST", "/cancel"}, {"DELETE", ""}} {
						if a := instance.do(c.method, surface.base+"/"+id+c.rest+surface.query, "", "api-key="+r.key); a.status != 200 {
							t.Errorf("%s instance: %s %s: %d %s", name, c.method, c.rest, a.status, a.body)
						}
					}
					if n := len(asked(r.regions[0])) + len(asked(r.regions[1])); n != 0 || len(asked(r.regions[2])) != 5 {
						t.Errorf("%s instance: regions saw %v, %v, %v", name, asked(r.regions[0]), asked(r.regions[1]), asked(r.regions[2]))
					}
				}
			})
		}
	}
}

func TestAForeignSubscriptionsResponseIsAnUnknownOne(t *testing.T) {
	r := newRig(t, rigOptions{strict: true})
	id := r.madeBy(1, "/openai/v1/responses", "", `{"model":"chat","input":"a secret"}`)
	foreign := r.with(r.subscribe("default", "team-b"))
	seen := map[string][]string{}
	for _, c := range []struct {
		who *rig
		id  string
	}{{foreign, id}, {r, "resp_never"}} {
		for _, region := range r.regions {
			region.ResetCounts()
		}
		for _, surface := range surfaces {
			for _, x := range []struct{ method, path, body string }{
				{"GET", surface.base + "/" + c.id + surface.query, ""},
				{"DELETE", surface.base + "/" + c.id + surface.query, ""},
				{"POST", surface.base + "/" + c.id + "/cancel" + surface.query, ""},
				{"GET", surface.base + "/" + c.id + "/input_items" + surface.query, ""},
				{"POST", surface.base + surface.query, `{"model":"chat","input":"x","previous_response_id":"` + c.id + `"}`},
			} {
				a := c.who.do(x.method, x.path, x.body, "api-key="+c.who.key)
				if a.status != 404 || !strings.Contains(gjson.GetBytes(a.body, "error.message").Str, "esponse with id '"+c.id+"' not found") {
					t.Errorf("%s %s: %d %s", x.method, x.path, a.status, a.body)
				}
				seen[c.id] = append(seen[c.id], strings.ReplaceAll(string(a.body), c.id, "ID"))
			}
		}
		for _, region := range r.regions {
			if list := asked(region); len(list) != 0 {
				t.Errorf("a region was asked %v", list)
			}
		}
	}
	if !slices.Equal(seen[id], seen["resp_never"]) {
		t.Errorf("foreign and unknown ids can be told apart:\n%q\n%q", seen[id], seen["resp_never"])
	}
}

func TestAResponseThatIsNotStoredLeavesNoRow(t *testing.T) {
	objects := table.NewMem()
	inserts := 0
	objects.SetFault(func(_ context.Context, op table.Op, _ table.Key) (bool, error) {
		if op == table.OpInsert {
			inserts++
		}
		return true, nil
	})
	r := newRig(t, rigOptions{edges: func(e *edges) { e.objects = objects }})
	r.post("/openai/v1/responses", `{"model":"chat","input":"hi","store":false}`)
	r.post("/openai/v1/responses", `{"model":"chat","input":"hi","store":false,"stream":true}`)
	r.post(chatPath, chatBody)
	r.regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoStatus, Status: 400, Times: 1, Body: `{"id":"resp_x","object":"response"}`})
	r.post("/openai/v1/responses", `{"model":"chat","input":"hi"}`)
	if inserts != 0 {
		t.Errorf("%d rows", inserts)
	}
	r.post("/openai/v1/responses", `{"model":"chat","input":"hi","store":true}`)
	if inserts != 1 {
		t.Errorf("%d rows of a stored response", inserts)
	}
}

func TestAPinnedRequestNeverFailsOverAndSaysWhy(t *testing.T) {
	r := newRig(t, rigOptions{strict: true, settings: func(s *settings) { s.AnswerTime = 300 * time.Millisecond }})
	id := r.madeBy(1, "/openai/v1/responses", "", `{"model":"chat","input":"hi"}`)
	follow := `{"model":"chat","input":"x","previous_response_id":"` + id + `"}`
	for _, c := range []struct {
		fault  aoaisim.Fault
		status int
		own    string // of the region's words
	}{
		{aoaisim.Fault{Do: aoaisim.DoStatus, Status: 500, Body: `{"error":{"code":"500","message":"mine"}}`}, 500, "mine"},
		{aoaisim.Fault{Do: aoaisim.DoStatus, Status: 400, Body: `{"error":{"code":"content_filter","message":"mine"}}`}, 400, "mine"},
		{aoaisim.Fault{Do: aoaisim.DoStatus, Status: 401, Body: `{"error":{"message":"mine"}}`}, 502, ""},
		{aoaisim.Fault{Do: aoaisim.DoReset}, 503, ""},
		{aoaisim.Fault{Do: aoaisim.DoHang}, 504, ""},
		{aoaisim.Fault{Do: aoaisim.DoStatus, Status: 429, Body: `{"error":{"code":"429","message":"mine"}}`, Headers: map[string]string{"retry-after-ms": "200"}}, 429, "mine"},
		{aoaisim.Fault{Do: aoaisim.DoStatus, Status: 200}, 429, ""}, // not asked: its breaker is open
		{aoaisim.Fault{Do: aoaisim.DoRefuse}, 503, ""},
	} {
		t.Run(fmt.Sprintf("%s %d", c.fault.Do, c.fault.Status), func(t *testing.T) {
			if c.fault.Do == aoaisim.DoRefuse {
				pauseFor(t, 210*time.Millisecond)
			}
			r.regions[0].ResetCounts()
			r.regions[1].Fault(c.fault)
			a := r.post("/openai/v1/responses", follow)
			r.regions[1].ClearFaults()
			if a.status != c.status || !bytes.Contains(a.body, []byte(c.own)) || c.own == "" && bytes.Contains(a.body, []byte("mine")) {
				t.Errorf("%d %s", a.status, a.body)
			}
			why := a.header.Get("X-Gateway-Pinned") + gjson.GetBytes(a.body, "error.message").Str
			if c.status != 400 && c.status != 504 && !strings.Contains(why, "keeps the response") {
				t.Errorf("does not say why: %v %s", a.header, a.body)
			}
			if n := r.regions[0].Counts().Requests; n != 0 {
				t.Errorf("the other region was asked %d times", n)
			}
		})
	}
}

func TestAnAnswerWhoseRegionCannotBeNotedIsWithheld(t *testing.T) {
	objects := table.NewMem()
	r := newRig(t, rigOptions{strict: true, edges: func(e *edges) { e.objects = objects }, settings: func(s *settings) { s.AuditWait = 300 * time.Millisecond }})
	id := r.madeBy(1, "/openai/v1/responses", "", `{"model":"chat","input":"hi"}`)
	objects.SetFault(func(context.Context, table.Op, table.Key) (bool, error) { return false, errors.New("storage is away") })
	whole := r.post("/openai/v1/responses", `{"model":"chat","input":"hi"}`)
	if whole.status != http.StatusServiceUnavailable {
		t.Errorf("whole: %d %s", whole.status, whole.body)
	}
	stream := r.post("/openai/v1/responses", `{"model":"chat","input":"hi","stream":true}`)
	if stream.err == nil || bytes.Contains(stream.body, []byte("response.completed")) {
		t.Errorf("stream: %v %s", stream.err, stream.body)
	}
	background := r.post("/openai/v1/responses", `{"model":"chat","input":"hi","stream":true,"background":true}`)
	if background.err == nil || bytes.Contains(background.body, []byte("response.created")) {
		t.Errorf("background stream: %v %s", background.err, background.body)
	}
	for _, a := range []answer{whole, stream} {
		if got := lastOutcome(t, r.blobs, a.header.Get("X-Gateway-Request-Id")); got != gateway.NotDurable {
			t.Errorf("outcome %q", got)
		}
	}
	if a := r.post(chatPath, chatBody); a.status != 200 {
		t.Errorf("what needs no note: %d", a.status)
	}
	if a := r.twin().do("GET", "/openai/v1/responses/"+id, "", "api-key="+r.key); a.status != http.StatusServiceUnavailable {
		t.Errorf("an id that cannot be looked up: %d %s, want 503", a.status, a.body)
	}
	if a := r.do("GET", "/openai/v1/responses/"+id, "", "api-key="+r.key); a.status != 200 {
		t.Errorf("an id in memory: %d %s", a.status, a.body)
	}
}

// lastOutcome is what a record's last line says, corrections included.
func lastOutcome(t *testing.T, blobs journal.Blobs, id string) (o gateway.Outcome) {
	t.Helper()
	until(t, "a withheld outcome", func() bool {
		for _, line := range readJournal(t, blobs) {
			if line.ID == id && line.Outcome != "" {
				o = line.Outcome
			}
		}
		return o == gateway.NotDurable
	})
	return o
}

func TestAResponseOfARegionThatIsGoneIsUnavailableNotMissing(t *testing.T) {
	r := newRig(t, rigOptions{strict: true})
	id := r.madeBy(1, "/openai/v1/responses", "", `{"model":"chat","input":"hi"}`)
	r.settings.Backends = r.settings.Backends[:1]
	a := r.twin().do("GET", "/openai/v1/responses/"+id, "", "api-key="+r.key)
	if a.status != http.StatusServiceUnavailable || !bytes.Contains(a.body, []byte("keeps the response")) {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestStoredResponsesCanBeReadUnderHardLimits(t *testing.T) {
	r := newRig(t, rigOptions{strict: true, policy: `
version: 1
models: {chat: {contextWindow: 1000}}
products:
  default:
    models: [chat]
    maxOutputTokens: 50
    limits: [{tokens: 100000, per: minute, hard: true}]
`})
	id := r.madeBy(1, "/openai/v1/responses", "", `{"model":"chat","input":"hi"}`)
	if a := r.do("GET", "/openai/v1/responses/"+id, "", "api-key="+r.key); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := r.do("GET", "/openai/v1/files", "", "api-key="+r.key); a.status != 403 {
		t.Errorf("other unmetered operations: %d", a.status)
	}
}
