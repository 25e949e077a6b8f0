// Package aoaisim simulates one Azure OpenAI region. It is an http.Handler for the classic
// surface (/openai/deployments/{deployment}/…?api-version=) and the v1 surface
// (/openai/v1/…, with the deployment in the member "model" of the body). It has rate limits
// for each deployment. With Options.Random it refuses some requests and cuts some answers
// off.
//
// Answers depend only on the prompt and on the member "seed" of the request. One word of
// output is one token. The prompt can control the answer: [tokens:N] asks for N words, and
// [reasoning:N] and [cached:N] set these counts. max_tokens limits the answer as in the
// service.
//
// Faults are activated from Go (Region.Fault) or over HTTP on the control endpoint:
//
//	GET    /control/counts        what was asked and answered
//	DELETE /control/counts        from zero again
//	GET    /control/exchanges     the last requests, with bodies
//	GET    /control/faults        those in force
//	POST   /control/faults        add one (Fault as JSON)
//	DELETE /control/faults[/{id}] clear; releases what hangs
//	POST   /control/step          {"events":N}: let streams in step mode send N more events
package aoaisim

import (
	"crypto/rand"
	"encoding/hex"
	"io"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Profile says how closely a region follows Azure.
type Profile string

// The profiles.
const (
	Azure Profile = ""     // follows what Azure was seen to do
	Kind  Profile = "kind" // answers whatever it can; for tests whose subject is something else
)

// Options of New.
type Options struct {
	Name             string                // name of the region, sent as x-ms-region; default eastus2
	Key              string                // accepted as api-key and as a bearer token
	Token            string                // accepted as a bearer token; empty = none
	Deployments      map[string]Deployment // by name of the deployment
	Profile          Profile
	Random           bool          // true = some requests fail or are throttled at random
	Seed             uint64        // of the random faults
	EventDelay       time.Duration // time between the events of a stream
	OldestAPIVersion string        // earlier api-versions are answered with 404 on classic paths; default 2023-05-15
}

// Deployment is a deployed model, with its rate limits.
type Deployment struct {
	Model             string
	TokensPerMinute   int // 0 = unlimited
	RequestsPerMinute int // 0 = unlimited
}

func (o Options) withDefaults() Options {
	if o.Name == "" {
		o.Name = "eastus2"
	}
	if o.OldestAPIVersion == "" {
		o.OldestAPIVersion = "2023-05-15"
	}
	return o
}

// Region is one simulated region. Safe for concurrent use.
type Region struct {
	o       Options
	limits  map[string]*limiter // not changed after New
	faults  faultSet
	counts  ledger
	objects objectStore

	diceMu sync.Mutex
	dice   *mrand.Rand

	listenMu sync.Mutex
	server   *http.Server
	control  *http.Server
	listener net.Listener // nil while connections are refused
	addr     string
}

// New returns a region that does not listen yet. It can be used as a handler at once.
func New(o Options) *Region {
	o = o.withDefaults()
	r := &Region{o: o, limits: map[string]*limiter{}, dice: mrand.New(mrand.NewPCG(o.Seed, 7))}
	for name, d := range o.Deployments {
		r.limits[name] = newLimiter(d)
	}
	r.faults.init()
	r.counts.reset()
	return r
}

func (r *Region) azure() bool { return r.o.Profile == Azure }

// chance returns true with the probability p. Its random numbers depend only on
// Options.Seed.
func (r *Region) chance(p float64) bool {
	if p <= 0 {
		return false
	}
	r.diceMu.Lock()
	defer r.diceMu.Unlock()
	return r.dice.Float64() < p
}

// exchange is one request that the region is answering. Only the request's goroutine uses
// it.
type exchange struct {
	region     *Region
	w          http.ResponseWriter
	r          *http.Request
	id         string
	route      route
	body       []byte
	deployment string
	plan       plan
	log        *Exchange
}

const maxBody = 256 << 20

// ServeHTTP answers requests to the data endpoint.
func (r *Region) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBody))
	x := &exchange{region: r, w: w, r: req, id: newID(), body: body}
	x.log = r.counts.arrived(req, body, x.id)
	defer r.counts.left(x.log)
	if err != nil { // the client broke its request off, so there is nobody to answer
		panic(http.ErrAbortHandler)
	}
	h := w.Header()
	h.Set("apim-request-id", x.id)
	h.Set("x-ms-region", r.o.Name)
	h.Set("x-request-id", x.id)
	h.Set("x-content-type-options", "nosniff")
	h.Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains; preload")
	if id := req.Header.Get("x-ms-client-request-id"); id != "" {
		h.Set("x-ms-client-request-id", id)
	}
	x.serve()
}

func (x *exchange) serve() {
	if e := x.region.authorize(x.r); e != nil {
		x.fail(e)
		return
	}
	var e *apiError
	if x.route, e = x.region.parseRoute(x.r); e != nil {
		x.fail(e)
		return
	}
	x.deployment = x.route.deployment
	if x.deployment == "" && x.route.metered() {
		x.deployment = bodyModel(x.body)
	}
	x.log.Deployment, x.log.Operation = x.deployment, x.route.operation
	x.plan = x.region.faults.plan(x.deployment, x.region.chance)
	if x.region.o.Random && x.route.metered() {
		x.region.unkind(&x.plan)
	}
	if x.beforeHeaders() {
		return
	}
	x.answer()
}

func (x *exchange) answer() {
	if !x.route.metered() {
		x.other()
		return
	}
	d, ok := x.region.o.Deployments[x.deployment]
	if !ok {
		x.fail(deploymentNotFound())
		return
	}
	q, e := parseRequest(x.body, x.route)
	if e != nil {
		x.fail(e)
		return
	}
	if e := x.region.objects.knows(q.Previous); e != nil && x.region.azure() {
		x.fail(e)
		return
	}
	q.model = d.Model
	admitted := x.region.limits[x.deployment].take(time.Now(), q.estimate())
	admitted.headers(x.w.Header())
	if !admitted.ok {
		x.fail(throttled(x.route, admitted))
		return
	}
	h := x.w.Header()
	h.Set("x-ms-deployment-name", x.deployment)
	h.Set("x-ms-rai-invoked", "true")
	x.send(q, newAnswer(q, x.id))
}

// send sends the answer as a stream or as one JSON body, and counts it.
func (x *exchange) send(q *request, a *answer) {
	form := forms[x.route.operation]
	if x.route.operation == opResponses {
		x.region.objects.put(a.objectID("resp_"), form.whole(q, a))
	}
	if q.Stream && form.events != nil {
		x.stream(form.events(q, a), a)
		return
	}
	whole := form.whole(q, a)
	if !x.plan.bodyCut && !x.plan.earlyReset {
		x.log.answered(a.usage) // before the bytes are sent, so that a client with the answer also finds it in the counts
	}
	x.json(http.StatusOK, whole)
}

// json sends a JSON body, with the faults in the plan.
func (x *exchange) json(status int, body []byte) {
	x.pause(x.plan.slow)
	h := x.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	x.log.Status = status
	x.w.WriteHeader(status)
	if x.plan.bodyCut || x.plan.earlyReset {
		if x.plan.bodyCut {
			x.write(body[:len(body)/2])
		}
		x.flush()
		x.reset()
		return
	}
	x.write(body)
}

func (x *exchange) write(p []byte) bool {
	n, err := x.w.Write(p)
	x.log.sent(p[:n])
	return err == nil
}

func (x *exchange) flush() { _ = http.NewResponseController(x.w).Flush() }

// pause waits for d. It returns earlier if the client disconnects or all faults are
// cleared.
func (x *exchange) pause(d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-x.r.Context().Done():
	}
}

func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	s := hex.EncodeToString(b[:])
	return strings.Join([]string{s[:8], s[8:12], s[12:16], s[16:20], s[20:]}, "-")
}
