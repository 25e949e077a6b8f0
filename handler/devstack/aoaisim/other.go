package aoaisim

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// other answers operations that use no tokens. The answers are plausible objects, so that
// tests can check that the gateway passes them on.
func (x *exchange) other() {
	collection, rest, _ := strings.Cut(x.route.operation, "/")
	switch {
	case collection == "models":
		x.models(rest)
	case collection == "audio" && strings.HasPrefix(rest, "speech"):
		x.binary()
	case collection == "images":
		x.object(map[string]any{"created": time.Now().Unix(), "data": []any{map[string]any{"b64_json": "iVBORw0KGgo="}}})
	case collection == "audio":
		x.object(map[string]any{"text": "a plausible transcript"})
	default:
		x.resource(collection, rest)
	}
}

func (x *exchange) object(v any) {
	body, _ := json.Marshal(v)
	x.json(http.StatusOK, body)
}

func (x *exchange) binary() {
	x.w.Header().Set("Content-Type", "audio/mpeg")
	x.log.Status = http.StatusOK
	x.write([]byte("ID3\x04\x00\x00\x00\x00\x00\x00\xff\xfb\x90\x00"))
}

func (x *exchange) models(id string) {
	model := func(name string) map[string]any {
		return map[string]any{
			"id": name, "object": "model", "status": "succeeded", "created_at": 1721172717, "lifecycle_status": "generally-available",
			"capabilities": map[string]any{"chat_completion": true, "completion": true, "embeddings": true, "inference": true, "fine_tune": false},
		}
	}
	if id != "" {
		x.object(model(id))
		return
	}
	seen := map[string]bool{}
	for _, d := range x.region.o.Deployments {
		seen[d.Model] = true
	}
	list := []any{}
	for _, name := range slices.Sorted(maps.Keys(seen)) {
		list = append(list, model(name))
	}
	x.object(map[string]any{"object": "list", "data": list})
}

// kinds are the prefix of ids and the name of the objects in each collection.
var kinds = map[string][2]string{
	"files": {"assistant-", "file"}, "batches": {"batch_", "batch"}, "assistants": {"asst_", "assistant"},
	"threads": {"thread_", "thread"}, "vector_stores": {"vs_", "vector_store"}, "responses": {"resp_", "response"},
	"fine_tuning": {"ftjob-", "fine_tuning.job"}, "containers": {"cntr_", "container"}, "evals": {"eval_", "eval"},
}

// resource creates, returns, lists and deletes the objects of a collection.
func (x *exchange) resource(collection, rest string) {
	kind, ok := kinds[collection]
	if !ok {
		kind = [2]string{collection + "_", collection}
	}
	id, sub, _ := strings.Cut(rest, "/")
	switch {
	case x.r.Method == http.MethodPost && (id == "" || sub != "" || collection == "fine_tuning"):
		x.create(kind)
	case id == "" || sub != "":
		x.object(map[string]any{"object": "list", "data": []any{}, "first_id": nil, "last_id": nil, "has_more": false})
	default:
		x.stored(id, kind)
	}
}

func (x *exchange) create(kind [2]string) {
	id := kind[0] + strings.ReplaceAll(x.id, "-", "")
	body, _ := json.Marshal(map[string]any{"id": id, "object": kind[1], "created_at": time.Now().Unix(), "status": "completed"})
	x.region.objects.put(id, body)
	x.json(http.StatusOK, body)
}

func (x *exchange) stored(id string, kind [2]string) {
	body, ok := x.region.objects.get(id)
	switch {
	case !ok && x.region.azure():
		e := invalid("No such "+kind[1]+" object: "+id, "id", nil)
		e.status = http.StatusNotFound
		x.fail(e)
	case x.r.Method == http.MethodDelete:
		x.object(map[string]any{"id": id, "object": kind[1] + ".deleted", "deleted": true})
	case ok:
		x.json(http.StatusOK, body)
	default:
		x.object(map[string]any{"id": id, "object": kind[1], "created_at": time.Now().Unix(), "status": "completed"})
	}
}
