package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"aoaigateway/handler/admin"
	"aoaigateway/handler/auth"
	"aoaigateway/handler/backend"
	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal"
	"aoaigateway/handler/policy"
	"aoaigateway/handler/secret"
	"aoaigateway/handler/table"
)

const testPolicy = `
version: 1
models: {}
products:
  default:
    models: ["*"]
  narrow:
    models: [chat]
  capped:
    models: ["*"]
    maxOutputTokens: 7
`

const adminKey = "the-admin-key"

// rig is the whole gateway over memory stores and simulated regions, on loopback.
type rig struct {
	t       *testing.T
	url     string
	key     string
	client  *http.Client // nil = the usual one
	regions []*aoaisim.Region

	endpoints []string
	blobs     *journal.Mem
	store     *table.Mem
	program   *program
	settings  settings
	policy    *policy.Policy
	edges     edges
	fault     atomic.Pointer[blobFault]
}

// blobFault is what becomes of a blob operation; set while the gateway runs.
type blobFault func(context.Context, journal.Op) (apply bool, err error)

// noAppends has every append hang until gate is closed.
func noAppends(gate <-chan struct{}) *blobFault {
	f := blobFault(func(ctx context.Context, op journal.Op) (bool, error) {
		if op != journal.OpAppend {
			return true, nil
		}
		select {
		case <-gate:
			return true, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	})
	return &f
}

type rigOptions struct {
	regions  int  // default 2
	strict   bool // regions know only the objects they made
	policy   string
	settings func(*settings)
	edges    func(*edges)
}

func newRig(t *testing.T, o rigOptions) *rig {
	t.Helper()
	if o.regions == 0 {
		o.regions = 2
	}
	if o.policy == "" {
		o.policy = testPolicy
	}
	r := &rig{t: t, store: table.NewMem()}
	r.blobs = &journal.Mem{Fault: r.blobOperation}
	s := settings{Floor: "2024-10-21", MaxBodyMB: 1, AuditWait: 2 * time.Second, Interval: time.Millisecond, AdminSecret: "gateway-admin-key"}
	secrets := secret.Map{"gateway-admin-key": adminKey}
	for i := range o.regions {
		name := string(rune('a' + i))
		region := aoaisim.New(aoaisim.Options{Name: name, Key: "key-of-" + name, Kind: true, StrictIDs: o.strict, Deployments: map[string]aoaisim.Deployment{
			"chat-" + name: {Model: "gpt-4o"}, "emb-" + name: {Model: "text-embedding-3-small"}, "modelname-" + name: {Model: "gpt-35-turbo-instruct"},
		}})
		endpoint, _, err := region.Start()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(region.Close)
		u, err := url.Parse(endpoint)
		if err != nil {
			t.Fatal(err)
		}
		r.regions = append(r.regions, region)
		r.endpoints = append(r.endpoints, endpoint)
		secrets["secret-"+name] = "key-of-" + name
		s.Backends = append(s.Backends, backend.Region{
			Name: name, Endpoint: u, Priority: i + 1, Weight: 1, Credential: "secret-" + name,
			Models: map[string]string{"chat": "chat-" + name, "emb": "emb-" + name, "modelname": "modelname-" + name},
		})
	}
	if o.settings != nil {
		o.settings(&s)
	}
	pol, err := policy.Parse("policy.yaml", []byte(o.policy))
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.NewTextHandler(t.Output(), nil))
	e := edges{subscriptions: r.store, counters: table.NewMem(), objects: table.NewMem(), health: table.NewMem(), usage: table.NewMem(), files: table.NewMem(), blobs: r.blobs, secrets: secrets, transport: backend.NewTransport(nil)}
	if o.edges != nil {
		o.edges(&e)
	}
	r.settings, r.policy, r.edges = s, pol, e
	r.program = build(s, pol, e, logger)
	r.program.start()
	r.listen(logger)
	r.key = r.subscribe("default", "team-a")
	return r
}

func (r *rig) blobOperation(ctx context.Context, op journal.Op, _ string) (apply bool, err error) {
	if f := r.fault.Load(); f != nil {
		return (*f)(ctx, op)
	}
	return true, nil
}

func (r *rig) listen(logger *slog.Logger) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	server := newServer(r.program.handler, logger)
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	r.url = "http://" + l.Addr().String()
	r.t.Cleanup(func() {
		_ = server.Close()
		<-done
		grace, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		r.program.close(grace)
	})
}

func (r *rig) http() *http.Client {
	if r.client != nil {
		return r.client
	}
	return http.DefaultClient
}

// subscribe makes a subscription through the management API and returns its first key.
func (r *rig) subscribe(product, id string) string {
	r.t.Helper()
	remote := admin.Remote{URL: r.url, AdminKey: adminKey, Client: r.http()}
	c, err := remote.Create(r.t.Context(), admin.NewSubscription{ID: id, Product: product})
	if err != nil {
		r.t.Fatal(err)
	}
	return c.Primary
}

func (r *rig) setState(id string, s auth.State) {
	r.t.Helper()
	remote := admin.Remote{URL: r.url, AdminKey: adminKey, Client: r.http()}
	if _, err := remote.SetState(r.t.Context(), id, s); err != nil {
		r.t.Fatal(err)
	}
}

// endpoint is the first region's address.
func (r *rig) endpoint() string { return r.endpoints[0] }

// answer is what a client saw.
type answer struct {
	status int
	header http.Header
	body   []byte
	err    error // of reading the body: a cut
}

func (a answer) event(t *testing.T, path ...string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(a.body, &v); err != nil {
		t.Fatalf("body is no JSON: %v\n%s", err, a.body)
	}
	for _, p := range path {
		m, _ := v.(map[string]any)
		v = m[p]
	}
	return v
}

func (r *rig) post(path, body string, headers ...string) answer {
	return r.do(http.MethodPost, path, body, append([]string{"api-key=" + r.key, "Content-Type=application/json"}, headers...)...)
}

func (r *rig) do(method, path, body string, headers ...string) answer {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.url+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	for _, kv := range headers {
		name, value, _ := strings.Cut(kv, "=")
		req.Header.Set(name, value)
	}
	resp, err := r.http().Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, b, err}
}

// raw sends bytes as they are and reads one answer: for requests no client library makes.
func (r *rig) raw(request string) answer {
	r.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	go func() {
		_, _ = io.WriteString(conn, request)
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, b, err}
}

// lines reads the whole journal.
func readJournal(t *testing.T, blobs journal.Blobs) []gateway.Line {
	t.Helper()
	var lines []gateway.Line
	for m, err := range journal.Read(context.Background(), blobs, "") {
		if err != nil {
			t.Fatal(err)
		}
		for _, raw := range m.Records {
			line, err := gateway.ParseLine(raw)
			if err != nil {
				t.Fatalf("%v\n%s", err, raw)
			}
			lines = append(lines, line)
		}
	}
	return lines
}

// record returns the end record that the answer's id names, waiting for it if the client
// was faster.
func (r *rig) record(id string) gateway.Record {
	r.t.Helper()
	if id == "" {
		r.t.Fatal("the answer names no record")
	}
	return r.find("record "+id, func(rec gateway.Record) bool { return rec.ID == id })
}

func (r *rig) find(what string, want func(gateway.Record) bool) gateway.Record {
	r.t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for {
		for _, line := range readJournal(r.t, r.blobs) {
			if line.Type == gateway.End && want(line.Record) {
				return line.Record
			}
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("no end record: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (r *rig) recordOf(a answer) gateway.Record {
	r.t.Helper()
	return r.record(a.header.Get("X-Gateway-Request-Id"))
}

func (r *rig) ends() int {
	n := 0
	for _, line := range readJournal(r.t, r.blobs) {
		if line.Type == gateway.End {
			n++
		}
	}
	return n
}

func events(stream []byte) []string {
	var list []string
	for e := range bytes.SplitSeq(bytes.TrimSuffix(stream, []byte("\n\n")), []byte("\n\n")) {
		list = append(list, string(e))
	}
	return list
}
