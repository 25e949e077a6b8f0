package aoaisim

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tidwall/sjson"
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
	case collection == "audio" && len(x.body) > mostUpload && x.region.azure():
		x.refuse("content-too-large", scene{Limit: mostUpload, Number: len(x.body)})
	case collection == "audio":
		x.object(map[string]any{"text": "a plausible transcript"})
	default:
		x.resource(collection, rest)
	}
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
	"conversations": {"conv_", "conversation"}, "fine_tuning": {"ftjob-", "fine_tuning.job"},
	"containers": {"cntr_", "container"}, "evals": {"eval_", "eval"},
}

// resource creates, returns, lists and deletes the objects of a collection.
func (x *exchange) resource(collection, rest string) {
	kind, ok := kinds[collection]
	if !ok {
		kind = [2]string{collection + "_", collection}
	}
	id, sub, _ := strings.Cut(rest, "/")
	if o, known := x.region.objects.look(id); collection == opResponses && id != "" && (x.region.azure() || known && o.visible()) {
		x.response(id, sub)
		return
	}
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
	digits := strings.ReplaceAll(x.id, "-", "")
	id := kind[0] + digits
	switch {
	case kind[1] == "batch":
		id = kind[0] + x.id
	case kind[1] == "file" && bytes.Contains(x.body, []byte("batch")):
		id = "file-" + digits
	}
	status := map[string]string{"batch": "validating", "file": "processed"}[kind[1]]
	body, _ := json.Marshal(map[string]any{
		"id": id, "object": kind[1], "created_at": time.Now().Unix(), "status": cmp.Or(status, "completed"),
	})
	x.region.objects.put(id, &object{body: body, queued: time.Now()})
	x.json(body)
}

// batchStages are the states of a batch that goes well, one each second.
var batchStages = []string{"validating", "in_progress", "finalizing", "completed"}

func (x *exchange) stored(id string, kind [2]string) {
	o := x.region.objects.find(id)
	switch {
	case o == nil && x.region.azure():
		x.refuse("object-not-found", scene{Param: id, Text: kind[1]})
	case x.r.Method == http.MethodDelete:
		x.region.objects.remove(id)
		x.object(map[string]any{"id": id, "object": kind[1] + ".deleted", "deleted": true})
	case o != nil && kind[1] == "batch":
		stage := min(int(time.Since(o.queued)/time.Second), len(batchStages)-1)
		body, _ := sjson.SetBytes(o.body, "status", batchStages[stage])
		x.json(body)
	case o != nil:
		x.json(o.body)
	default:
		x.object(map[string]any{"id": id, "object": kind[1], "created_at": time.Now().Unix(), "status": "completed"})
	}
}
