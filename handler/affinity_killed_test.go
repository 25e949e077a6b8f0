package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"aoaigateway/handler/devstack/aoaisim"
)

// The client has the terminal event, and at once every gateway is killed: who made the
// response is known all the same, by storage alone.
func TestAResponseIsFoundAfterEveryGatewayWasKilled(t *testing.T) {
	w := newWorld(t, startAzurite(t).ConnectionString(), testPolicy)
	regions := []*aoaisim.Region{
		w.region(1, aoaisim.Options{Name: "a", Kind: true, StrictIDs: true}), w.region(2, aoaisim.Options{Name: "b", Kind: true, StrictIDs: true}),
	}
	var fleet []*process
	start := func() {
		for range 2 {
			p := startGateway(t, w.environ())
			p.ready()
			fleet = append(fleet, p)
		}
	}
	start()
	first := &rig{t: t, url: fleet[0].url}
	first.key = first.subscribe("default", "team")
	foreign := first.subscribe("default", "others")
	for _, stream := range []bool{false, true} {
		t.Run(fmt.Sprintf("stream %t", stream), func(t *testing.T) {
			regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoStatus, Status: 429, Headers: map[string]string{"retry-after-ms": "1"}})
			maker := &rig{t: t, url: fleet[0].url, key: first.key}
			made := maker.post("/openai/v1/responses", fmt.Sprintf(`{"model":"chat","input":"hi [tokens:3]","stream":%t}`, stream))
			for _, p := range fleet {
				_ = p.cmd.Process.Kill()
				<-p.exited
			}
			regions[0].ClearFaults()
			id := gjson.GetBytes(made.body, "id").Str
			if stream {
				_, created, _ := strings.Cut(string(made.body), "data: ")
				id = gjson.Get(created, "response.id").Str
			}
			if made.status != http.StatusOK || made.err != nil || id == "" {
				t.Fatalf("%d, %v: %s", made.status, made.err, made.body)
			}
			fleet = nil
			start()
			for i, p := range fleet {
				regions[0].ResetCounts()
				r := &rig{t: t, url: p.url, key: first.key}
				if next := r.post("/openai/v1/responses", `{"model":"chat","input":"more","previous_response_id":"`+id+`"}`); next.status != http.StatusOK {
					t.Errorf("gateway %d: previous_response_id: %d %s", i, next.status, next.body)
				}
				if a := r.do(http.MethodGet, "/openai/v1/responses/"+id, "", "api-key="+r.key); a.status != http.StatusOK {
					t.Errorf("gateway %d: %d %s", i, a.status, a.body)
				}
				if a := r.do(http.MethodGet, "/openai/v1/responses/"+id, "", "api-key="+foreign); a.status != http.StatusNotFound {
					t.Errorf("gateway %d: a foreign subscription is told %d %s", i, a.status, a.body)
				}
				if list := asked(regions[0]); len(list) != 0 {
					t.Errorf("gateway %d asked the other region %v", i, list)
				}
			}
		})
	}
}
