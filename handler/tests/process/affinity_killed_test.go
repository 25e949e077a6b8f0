package process_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/tests/harness"
)

// All gateways are killed at the moment when the client receives the terminal event.
// Afterwards storage alone must show which region keeps the response and who owns it.
func TestResponseFoundAfterKills(t *testing.T) {
	w := harness.NewEnvironment(t, harness.StartAzurite(t).ConnectionString(), harness.TestPolicy)
	regions := []*aoaisim.Region{
		w.Region(1, aoaisim.Options{Name: "a"}),
		w.Region(2, aoaisim.Options{Name: "b"}),
	}
	var fleet []*harness.Process
	start := func() {
		for range 2 {
			p := harness.StartProcess(t, w.Environ())
			p.Ready()
			fleet = append(fleet, p)
		}
	}
	start()
	first := &harness.Gateway{T: t, URL: fleet[0].URL}
	first.Key = first.Subscribe("default", "team")
	foreign := first.Subscribe("default", "others")
	for _, stream := range []bool{false, true} {
		t.Run(fmt.Sprintf("stream %t", stream), func(t *testing.T) {
			regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoStatus, Status: 429, Headers: map[string]string{"retry-after-ms": "1"}})
			maker := &harness.Gateway{T: t, URL: fleet[0].URL, Key: first.Key}
			made := maker.Post("/openai/v1/responses", fmt.Sprintf(`{"model":"chat","input":"hi [tokens:3]","stream":%t}`, stream))
			for _, p := range fleet {
				_ = p.Cmd.Process.Kill()
				<-p.Exited
			}
			regions[0].ClearFaults()
			id := gjson.GetBytes(made.Body, "id").Str
			if stream {
				_, created, _ := strings.Cut(string(made.Body), "data: ")
				id = gjson.Get(created, "response.id").Str
			}
			if made.Status != http.StatusOK || made.Err != nil || id == "" {
				t.Fatalf("%d, %v: %s", made.Status, made.Err, made.Body)
			}
			fleet = nil
			start()
			for _, p := range fleet {
				wantFound(t, p, regions[0], id, first.Key, foreign)
			}
		})
	}
}

// wantFound checks that a process finds the response for its owner and for nobody else, and
// that it sends no request to the other region.
func wantFound(t *testing.T, p *harness.Process, other *aoaisim.Region, id, key, foreign string) {
	t.Helper()
	other.ResetCounts()
	r := &harness.Gateway{T: t, URL: p.URL, Key: key}
	if next := r.Post("/openai/v1/responses",
		`{"model":"chat","input":"more","previous_response_id":"`+id+`"}`); next.Status != http.StatusOK {
		t.Errorf("previous_response_id: %d %s", next.Status, next.Body)
	}
	if a := r.Do(http.MethodGet, "/openai/v1/responses/"+id, "", "api-key="+r.Key); a.Status != http.StatusOK {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	if a := r.Do(http.MethodGet, "/openai/v1/responses/"+id, "", "api-key="+foreign); a.Status != http.StatusNotFound {
		t.Errorf("a foreign subscription is told %d %s", a.Status, a.Body)
	}
	if list := harness.Asked(other); len(list) != 0 {
		t.Errorf("the gateway asked the other region %v", list)
	}
}
