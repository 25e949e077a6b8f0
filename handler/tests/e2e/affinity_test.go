package e2e_test

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

	"aoaigateway/handler/app"
	"aoaigateway/handler/app/settings"
	"aoaigateway/handler/backend"
	"aoaigateway/handler/blob"
	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal/journaltest"
	"aoaigateway/handler/table"
	"aoaigateway/handler/tests/harness"
)

// surfaces has the path of the Responses API on each surface.
var surfaces = []struct{ base, query string }{
	{"/openai/v1/responses", ""},
	{"/openai/responses", "?api-version=2025-03-01-preview"},
}

// twin starts a second instance of the gateway. It shares only the stores with the first.
func twin(r *harness.Gateway) *harness.Gateway {
	r.T.Helper()
	other := with(r, r.Key)
	logger := slog.New(slog.NewTextHandler(r.T.Output(), nil))
	e := r.Services
	e.Transport = backend.NewTransport(nil)
	other.Program = app.New(r.Settings, r.Policy, e, logger)
	other.Listen(logger)
	return other
}

// with returns the same gateway with the key of another caller.
func with(r *harness.Gateway, key string) *harness.Gateway {
	return &harness.Gateway{
		T: r.T, URL: r.URL, Key: key, Regions: r.Regions, Endpoints: r.Endpoints, Blobs: r.Blobs, Store: r.Store,
		Program: r.Program, Settings: r.Settings, Policy: r.Policy, Services: r.Services,
	}
}

// madeBy creates a response in the given region and returns its id. The other regions
// refuse one request each, so that the gateway chooses this region.
func madeBy(r *harness.Gateway, region int, base, query, body string) (id string) {
	r.T.Helper()
	for i, other := range r.Regions {
		if i != region {
			other.Fault(aoaisim.Fault{Do: aoaisim.DoStatus, Status: 429, Times: 1, Headers: map[string]string{"retry-after-ms": "1"}})
		}
	}
	a := r.Post(base+query, body)
	if rec := r.RecordOf(a); a.Status != 200 || rec.Region != string(rune('a'+region)) {
		r.T.Fatalf("%d by %s: %s", a.Status, rec.Region, a.Body)
	}
	if id = gjson.GetBytes(a.Body, "id").Str; id == "" {
		id = gjson.GetBytes(bytes.TrimPrefix([]byte(strings.SplitN(string(a.Body), "\n", 3)[1]), []byte("data: ")), "response.id").Str
	}
	for _, other := range r.Regions {
		other.ClearFaults()
	}
	if id == "" {
		r.T.Fatalf("no id in %s", a.Body)
	}
	pauseFor(r.T, 5*time.Millisecond) // until the other regions are open again
	return id
}

func pauseFor(t *testing.T, d time.Duration) {
	t.Helper()
	if err := harness.Pause(t.Context(), d); err != nil {
		t.Fatal(err)
	}
}

func TestResponseStaysWithItsRegion(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 3})
	for _, surface := range surfaces {
		for _, stream := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s stream %t", surface.base, stream), func(t *testing.T) {
				body := fmt.Sprintf(`{"model":"chat","input":"hi [tokens:4]","stream":%t}`, stream)
				for name, instance := range map[string]*harness.Gateway{"the same": r, "another": twin(r)} {
					id := madeBy(r, 2, surface.base, surface.query, body)
					for _, region := range r.Regions {
						region.ResetCounts()
					}
					next := instance.Post(surface.base+surface.query, fmt.Sprintf(`{"model":"chat","input":"more","stream":%t,"previous_response_id":%q}`,
						stream, id))
					if next.Status != 200 || next.Err != nil {
						t.Errorf("%s instance: previous_response_id: %d %s", name, next.Status, next.Body)
					}
					for _, c := range []struct {
						method, rest string
						status       int
					}{
						{"GET", "", 200},
						{"GET", "/input_items", 200},
						{"POST", "/cancel", 400}, // the region's answer, because the response does not run in the background
						{"DELETE", "", 200},
					} {
						if a := instance.Do(c.method, surface.base+"/"+id+c.rest+surface.query, "", "api-key="+r.Key); a.Status != c.status {
							t.Errorf("%s instance: %s %s: %d %s", name, c.method, c.rest, a.Status, a.Body)
						}
					}
					if n := len(harness.Asked(r.Regions[0])) + len(harness.Asked(r.Regions[1])); n != 0 || len(harness.Asked(r.Regions[2])) != 5 {
						t.Errorf("%s instance: regions saw %v, %v, %v", name, harness.Asked(r.Regions[0]), harness.Asked(r.Regions[1]),
							harness.Asked(r.Regions[2]))
					}
				}
			})
		}
	}
}

func TestForeignResponseIsNotFound(t *testing.T) {
	r := harness.Start(t, harness.Options{})
	id := madeBy(r, 1, "/openai/v1/responses", "", `{"model":"chat","input":"a secret"}`)
	foreign := with(r, r.Subscribe("default", "team-b"))
	seen := map[string][]string{}
	for _, c := range []struct {
		who *harness.Gateway
		id  string
	}{{foreign, id}, {r, "resp_never"}} {
		for _, region := range r.Regions {
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
				a := c.who.Do(x.method, x.path, x.body, "api-key="+c.who.Key)
				if a.Status != 404 || !strings.Contains(gjson.GetBytes(a.Body, "error.message").Str, "esponse with id '"+c.id+"' not found") {
					t.Errorf("%s %s: %d %s", x.method, x.path, a.Status, a.Body)
				}
				seen[c.id] = append(seen[c.id], strings.ReplaceAll(string(a.Body), c.id, "ID"))
			}
		}
		for _, region := range r.Regions {
			if list := harness.Asked(region); len(list) != 0 {
				t.Errorf("a region was asked %v", list)
			}
		}
	}
	if !slices.Equal(seen[id], seen["resp_never"]) {
		t.Errorf("foreign and unknown ids can be told apart:\n%q\n%q", seen[id], seen["resp_never"])
	}
}

func TestUnstoredResponseHasNoOwner(t *testing.T) {
	objects := table.NewMem()
	inserts := 0
	objects.SetFault(func(_ context.Context, op table.Op, _ table.Key) (bool, error) {
		if op == table.OpInsert {
			inserts++
		}
		return true, nil
	})
	r := harness.Start(t, harness.Options{Services: func(e *app.Services) { e.Affinity = objects }})
	r.Post("/openai/v1/responses", `{"model":"chat","input":"hi","store":false}`)
	r.Post("/openai/v1/responses", `{"model":"chat","input":"hi","store":false,"stream":true}`)
	r.Post(harness.ChatPath, harness.ChatBody)
	r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoStatus, Status: 400, Times: 1, Body: `{"id":"resp_x","object":"response"}`})
	r.Post("/openai/v1/responses", `{"model":"chat","input":"hi"}`)
	if inserts != 0 {
		t.Errorf("%d rows", inserts)
	}
	r.Post("/openai/v1/responses", `{"model":"chat","input":"hi","store":true}`)
	if inserts != 1 {
		t.Errorf("%d rows of a stored response", inserts)
	}
}

func TestPinnedRequestNeverFailsOver(t *testing.T) {
	r := harness.Start(t, harness.Options{Settings: func(s *settings.Values) { s.AnswerTimeout = 300 * time.Millisecond }})
	id := madeBy(r, 1, "/openai/v1/responses", "", `{"model":"chat","input":"hi"}`)
	follow := `{"model":"chat","input":"x","previous_response_id":"` + id + `"}`
	for _, c := range []struct {
		fault  aoaisim.Fault
		status int
		own    string // a part of the region's own message
	}{
		{aoaisim.Fault{Do: aoaisim.DoStatus, Status: 500, Body: `{"error":{"code":"500","message":"mine"}}`}, 500, "mine"},
		{aoaisim.Fault{Do: aoaisim.DoStatus, Status: 400, Body: `{"error":{"code":"content_filter","message":"mine"}}`}, 400, "mine"},
		{aoaisim.Fault{Do: aoaisim.DoStatus, Status: 401, Body: `{"error":{"message":"mine"}}`}, 502, ""},
		{aoaisim.Fault{Do: aoaisim.DoReset}, 503, ""},
		{aoaisim.Fault{Do: aoaisim.DoHang}, 504, ""},
		{aoaisim.Fault{
			Do: aoaisim.DoStatus, Status: 429, Body: `{"error":{"code":"429","message":"mine"}}`,
			Headers: map[string]string{"retry-after-ms": "200"},
		}, 429, "mine"},
		{aoaisim.Fault{Do: aoaisim.DoStatus, Status: 200}, 429, ""}, // 429 without a request, because the stated wait is not over
		{aoaisim.Fault{Do: aoaisim.DoRefuse}, 503, ""},
	} {
		t.Run(fmt.Sprintf("%s %d", c.fault.Do, c.fault.Status), func(t *testing.T) {
			if c.fault.Do == aoaisim.DoRefuse {
				pauseFor(t, 210*time.Millisecond)
			}
			r.Regions[0].ResetCounts()
			r.Regions[1].Fault(c.fault)
			a := r.Post("/openai/v1/responses", follow)
			r.Regions[1].ClearFaults()
			if a.Status != c.status || !bytes.Contains(a.Body, []byte(c.own)) || c.own == "" && bytes.Contains(a.Body, []byte("mine")) {
				t.Errorf("%d %s", a.Status, a.Body)
			}
			why := a.Header.Get("X-Gateway-Pinned") + gjson.GetBytes(a.Body, "error.message").Str
			if c.status != 400 && c.status != 504 && !strings.Contains(why, "keeps the response") {
				t.Errorf("does not say why: %v %s", a.Header, a.Body)
			}
			if n := r.Regions[0].Counts().Requests; n != 0 {
				t.Errorf("the other region was asked %d times", n)
			}
		})
	}
}

func TestAnswerWithoutOwnerIsWithheld(t *testing.T) {
	objects := table.NewMem()
	r := harness.Start(t, harness.Options{
		Services: func(e *app.Services) { e.Affinity = objects },
		Settings: func(s *settings.Values) { s.AuditWait = 300 * time.Millisecond },
	})
	id := madeBy(r, 1, "/openai/v1/responses", "", `{"model":"chat","input":"hi"}`)
	objects.SetFault(func(context.Context, table.Op, table.Key) (bool, error) { return false, errors.New("storage is away") })
	whole := r.Post("/openai/v1/responses", `{"model":"chat","input":"hi"}`)
	if whole.Status != http.StatusServiceUnavailable {
		t.Errorf("whole: %d %s", whole.Status, whole.Body)
	}
	stream := r.Post("/openai/v1/responses", `{"model":"chat","input":"hi","stream":true}`)
	if stream.Err == nil || bytes.Contains(stream.Body, []byte("response.completed")) {
		t.Errorf("stream: %v %s", stream.Err, stream.Body)
	}
	background := r.Post("/openai/v1/responses", `{"model":"chat","input":"hi","stream":true,"background":true}`)
	if background.Err == nil || bytes.Contains(background.Body, []byte("response.created")) {
		t.Errorf("background stream: %v %s", background.Err, background.Body)
	}
	for _, a := range []harness.Answer{whole, stream} {
		if got := lastOutcome(t, r.Blobs, a.Header.Get("X-Gateway-Request-Id")); got != gateway.NotDurable {
			t.Errorf("outcome %q", got)
		}
	}
	if a := r.Post(harness.ChatPath, harness.ChatBody); a.Status != 200 {
		t.Errorf("what needs no note: %d", a.Status)
	}
	if a := twin(r).Do("GET", "/openai/v1/responses/"+id, "", "api-key="+r.Key); a.Status != http.StatusServiceUnavailable {
		t.Errorf("an id that cannot be looked up: %d %s, want 503", a.Status, a.Body)
	}
	if a := r.Do("GET", "/openai/v1/responses/"+id, "", "api-key="+r.Key); a.Status != 200 {
		t.Errorf("an id in memory: %d %s", a.Status, a.Body)
	}
}

// lastOutcome returns the outcome in the last line of a record, which may be an amend.
func lastOutcome(t *testing.T, blobs blob.Store, id string) (o gateway.Outcome) {
	t.Helper()
	harness.Until(t, "a withheld outcome", func() bool {
		for _, line := range journaltest.Lines(t, blobs) {
			if line.ID == id && line.Outcome != "" {
				o = line.Outcome
			}
		}
		return o == gateway.NotDurable
	})
	return o
}

func TestResponseOfRemovedRegion(t *testing.T) {
	r := harness.Start(t, harness.Options{})
	id := madeBy(r, 1, "/openai/v1/responses", "", `{"model":"chat","input":"hi"}`)
	r.Settings.Backends = r.Settings.Backends[:1]
	a := twin(r).Do("GET", "/openai/v1/responses/"+id, "", "api-key="+r.Key)
	if a.Status != http.StatusServiceUnavailable || !bytes.Contains(a.Body, []byte("keeps the response")) {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}

func TestStoredResponsesUnderHardLimits(t *testing.T) {
	r := harness.Start(t, harness.Options{Policy: `
version: 1
models: {chat: {contextWindow: 1000}}
products:
  default:
    models: [chat]
    maxOutputTokens: 50
    limits: [{tokens: 100000, per: minute, hard: true}]
`})
	id := madeBy(r, 1, "/openai/v1/responses", "", `{"model":"chat","input":"hi"}`)
	if a := r.Do("GET", "/openai/v1/responses/"+id, "", "api-key="+r.Key); a.Status != 200 {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	if a := r.Do("GET", "/openai/v1/files", "", "api-key="+r.Key); a.Status != 403 {
		t.Errorf("other unmetered operations: %d", a.Status)
	}
}
