package aoaisim

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidwall/sjson"
)

// object is something that this region made: a response, an item, a file, ….
type object struct {
	body   []byte
	events []event   // of a stored response that was streamed
	from   time.Time // it is not found earlier
	queued time.Time // of a background response, otherwise zero
	takes  time.Duration
	over   atomic.Bool // a background response was cancelled
}

func (o *object) visible() bool { return !time.Now().Before(o.from) }

// status returns the status of a background response.
func (o *object) status() string {
	switch since := time.Since(o.queued); {
	case o.over.Load():
		return "cancelled"
	case since < o.takes/4:
		return "queued"
	case since < o.takes:
		return "in_progress"
	}
	return "completed"
}

// objectStore remembers the objects made in this region. Objects of other regions are
// unknown to it.
type objectStore struct {
	mu   sync.Mutex
	made map[string]*object
}

const keptObjects = 100_000

func (s *objectStore) put(id string, o *object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.made == nil || len(s.made) > keptObjects {
		s.made = map[string]*object{}
	}
	s.made[id] = o
}

func (s *objectStore) look(id string) (*object, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.made[id]
	return o, ok
}

// find returns nil also for an object that cannot be seen yet.
func (s *objectStore) find(id string) *object {
	if o, ok := s.look(id); ok && o.visible() {
		return o
	}
	return nil
}

func (s *objectStore) remove(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.made, id)
}

// seal begins everything that is encrypted in this region.
func (r *Region) seal() string {
	sum := sha256.Sum256([]byte(r.o.Name + "\n" + r.o.Key))
	return "gAAAAA" + hex.EncodeToString(sum[:8])
}

// encrypted returns encrypted reasoning of the size that the service sends.
func (r *Region) encrypted() string { return r.seal() + strings.Repeat("Zk1v", 320) }

// keep stores a response and its message, unless the request says that it must not.
func (r *Region) keep(q *request, a *answer) {
	if !q.stored() {
		return
	}
	o := &object{body: wholeResponse(q, a), from: time.Now().Add(r.o.Switches.StoreDelay)}
	for e := range responseEvents(q, a) {
		if q.Stream && q.Background {
			o.events = append(o.events, e.numbered(len(o.events)))
		}
	}
	if q.Background {
		o.queued, o.takes = time.Now(), r.o.Switches.Background
	}
	r.objects.put(a.objectID("resp_"), o)
	r.objects.put(a.objectID("msg_"), &object{from: o.from})
}

// background answers a request for a background response: with its state, or with its
// events as far as they come.
func (x *exchange) background(q *request, a *answer) {
	o := x.region.objects.find(a.objectID("resp_"))
	x.log.answered(a.usage)
	switch {
	case o == nil:
		x.refuse("unsupported-parameter", scene{Param: "background"})
	case q.Stream:
		x.replay(o, -1)
	default:
		x.json(o.now())
	}
}

// now returns a response as it is at this time.
func (o *object) now() []byte {
	body := o.body
	if o.queued.IsZero() {
		return body
	}
	if status := o.status(); status != "completed" {
		for path, value := range map[string]any{"status": status, "output": []any{}, "usage": nil, "completed_at": nil} {
			body, _ = sjson.SetBytes(body, path, value)
		}
	}
	return body
}

// replay sends the events of a response behind a number: the old ones at once, the later
// ones when their time comes.
func (x *exchange) replay(o *object, after int) {
	x.w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	x.log.Status, x.log.Stream = http.StatusOK, true
	for n, e := range o.events {
		if n <= after {
			continue
		}
		due := o.queued.Add(o.takes * time.Duration(n) / time.Duration(len(o.events)))
		x.pause(time.Until(due))
		if o.over.Load() || !x.sendEvent(e) {
			return
		}
	}
}

// response answers an operation on a stored response.
func (x *exchange) response(id, sub string) {
	o := x.region.objects.find(id)
	switch after, err := strconv.Atoi(x.r.URL.Query().Get("starting_after")); {
	case o == nil:
		x.refuse("object-not-found", scene{Param: id, Text: "response"})
	case sub == "input_items":
		x.object(map[string]any{"object": "list", "data": []any{}, "first_id": nil, "last_id": nil, "has_more": false})
	case sub == "cancel" && o.queued.IsZero() && x.region.azure():
		x.refuse("not-background", scene{})
	case sub == "cancel":
		if o.status() != "completed" {
			o.over.Store(true)
		}
		x.json(o.now())
	case x.r.Method == http.MethodDelete:
		x.region.objects.remove(id)
		x.object(map[string]any{"id": id, "object": "response.deleted", "deleted": true})
	case x.r.URL.Query().Get("stream") == "true" && o.events != nil:
		if err != nil {
			after = -1
		}
		x.replay(o, after)
	default:
		x.json(o.now())
	}
}

// object answers with an object as JSON.
func (x *exchange) object(v any) {
	body, _ := json.Marshal(v)
	x.json(body)
}
