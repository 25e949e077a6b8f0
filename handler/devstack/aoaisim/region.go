// Package aoaisim simulates one Azure OpenAI region. It is an http.Handler for the classic
// surface (/openai/deployments/{deployment}/…?api-version=) and the v1 surface
// (/openai/v1/…, with the deployment in the member "model" of the body). It follows what
// Azure was seen to do: what it makes binds to it, it enforces the limits of requests, models
// and deployments, and it serves TLS with HTTP/2. The tests facts_*_test.go list these facts
// with their public sources. With Options.Random it refuses some requests and cuts some
// answers off.
//
// Every answer that is not ordinary, each refusal too, is a scenario: a file in
// scenario/files. Region.Counts has what the region would bill.
//
// Answers depend only on the prompt and on the member "seed" of the request. One word of
// output is one token. The prompt can control the answer: [tokens:N] asks for N words, and
// [reasoning:N] and [cached:N] set these counts, and [scenario:NAME] plays a scenario of the
// package scenario. max_tokens limits the answer as in the service.
//
// Faults are activated from Go (Region.Fault) or over HTTP on the control endpoint:
//
//	GET    /control/counts        what was asked and answered
//	DELETE /control/counts        from zero again
//	GET    /control/exchanges     the last requests, with bodies
//	GET    /control/faults        those in force
//	POST   /control/faults        add one (Fault as JSON)
//	DELETE /control/faults[/{id}] clear; releases what hangs
//	GET    /control/scenarios     the names of the scenarios
//	POST   /control/step          {"events":N}: let streams in step mode send N more events
package aoaisim

import (
	"cmp"
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

	"aoaigateway/handler/devstack/aoaisim/scenario"
	"aoaigateway/handler/devstack/aoaisim/wire"
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
	Name             string                // name of the region; x-ms-region has it as the service displays it; default eastus2
	Key              string                // accepted as api-key and as a bearer token
	Token            string                // accepted as a bearer token; empty = none
	Deployments      map[string]Deployment // by name of the deployment
	Profile          Profile
	Random           bool          // true = some requests fail or are throttled at random
	Seed             uint64        // of the random faults
	EventDelay       time.Duration // time between the events of a stream
	OldestAPIVersion string        // earlier api-versions are answered with 404 on classic paths; default 2023-05-15
	Switches         Switches
	Wire             wire.Options
}

// Switches choose between things that Azure was seen to do in several ways, or of which
// nobody knows what it does. The zero value is what was seen last.
type Switches struct {
	Throttled      string        // scenario of a throttled request; default throttled
	Missing        string        // scenario of an unknown deployment on v1; default deployment-missing-v1
	ForeignItem    string        // scenario of encrypted content of another region; default foreign-encrypted-content
	Slice          time.Duration // the part of a minute in which requests are counted; default 10 s
	MinuteReset    bool          // the tokens of a minute come back at once, not evenly
	MaxTokensOnly  bool          // admission costs max_tokens alone, or 16
	RefusedAreFree bool          // refused requests do not count as requests
	ResetInSeconds bool          // the unit of reset headers is seconds, not milliseconds
	StaleHeaders   bool          // rate headers say what they said at the first request
	ProjectURIs    bool          // data URIs are limited as on the endpoint of a Foundry project
	NoResponses    bool          // the region does not have the Responses API
	StoreDelay     time.Duration // how long a stored response is not found
	Background     time.Duration // how long a background response takes; default 2 s
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
	s := &o.Switches
	s.Throttled = cmp.Or(s.Throttled, "throttled")
	s.Missing = cmp.Or(s.Missing, "deployment-missing-v1")
	s.ForeignItem = cmp.Or(s.ForeignItem, "foreign-encrypted-content")
	s.Slice = cmp.Or(s.Slice, 10*time.Second)
	s.Background = cmp.Or(s.Background, 2*time.Second)
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
	server   *wire.Server
	control  *http.Server
	listener net.Listener // nil while connections are refused
	addr     string
}

// New returns a region that does not listen yet. It can be used as a handler at once.
func New(o Options) *Region {
	o = o.withDefaults()
	r := &Region{o: o, limits: map[string]*limiter{}, dice: mrand.New(mrand.NewPCG(o.Seed, 7))}
	for name, d := range o.Deployments {
		r.limits[name] = newLimiter(d, o.Switches)
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
	end := func() {}
	if r.azure() {
		w, end = compressing(w, req)
	}
	x := &exchange{region: r, w: w, r: req, id: newID(), body: body}
	x.log = r.counts.arrived(req, body, x.id)
	defer r.counts.left(x.log)
	if err != nil { // the client broke its request off, so there is nobody to answer
		panic(http.ErrAbortHandler)
	}
	x.headers()
	x.serve()
	end()
}

func (x *exchange) serve() {
	if name := x.region.headersRefused(x.r.Header); name != "" {
		x.refuse(name, scene{})
		return
	}
	if name := x.region.authorize(x.r); name != "" {
		x.refuse(name, scene{})
		return
	}
	var name string
	if x.route, name = x.region.parseRoute(x.r); name != "" {
		x.refuse(name, scene{})
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
		if s := scenario.Find(x.plan.scenario, "any", false); s != nil {
			x.play(s, nil, nil, scene{})
			return
		}
		x.other()
		return
	}
	if _, ok := x.region.o.Deployments[x.deployment]; !ok {
		if x.route.v1 && x.region.azure() {
			x.refuse(x.region.o.Switches.Missing, scene{})
		} else {
			x.refuse("deployment-not-found", scene{})
		}
		return
	}
	q, no := parseRequest(x.body, x.route)
	if no == nil && x.region.azure() {
		no = x.check(q)
	}
	if no != nil {
		x.refuse(no.name, no.scene)
		return
	}
	if asked := q.scenario(); asked != "" {
		x.plan.scenario = asked
	}
	q.model = x.region.modelOf(x.deployment)
	s := scenario.Find(x.plan.scenario, apiNames[x.route.operation], x.streams(q))
	if s != nil && (s.Status >= http.StatusBadRequest || strings.HasPrefix(s.Name, "field/")) {
		x.play(s, q, newAnswer(q, x.id), scene{}) // with its own headers only, not those of the model and its limits
		return
	}
	admitted := x.region.limits[x.deployment].take(time.Now(), x.region.estimate(q))
	admitted.headers(x.w.Header(), x.region.o.Switches)
	if !admitted.ok {
		x.refuse(x.region.o.Switches.Throttled, scene{Axis: admitted.what, Millis: admitted.wait.Milliseconds()})
		return
	}
	x.modelHeaders(q)
	x.send(s, q, newAnswer(q, x.id))
}

func (x *exchange) streams(q *request) bool {
	return q.Stream && forms[x.route.operation].events != nil
}

// send sends the answer as a stream or as one body; s is nil for the ordinary one.
func (x *exchange) send(s *scenario.Scenario, q *request, a *answer) {
	if x.route.operation == opResponses && (s == nil || s.Status == http.StatusOK && s.Billed != "none") {
		x.region.keep(q, a)
	}
	if s != nil {
		x.play(s, q, a, scene{})
		return
	}
	if q.Background && x.route.operation == opResponses {
		x.background(q, a)
		return
	}
	x.play(ordinary(x.streams(q)), q, a, scene{})
}

// json sends a good answer in JSON.
func (x *exchange) json(body []byte) {
	x.w.Header().Set("Content-Type", "application/json")
	x.reply(http.StatusOK, body)
}

// reply sends a body in one piece, with the faults in the plan.
func (x *exchange) reply(status int, body []byte) {
	x.pause(x.plan.slow)
	h := x.w.Header()
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
