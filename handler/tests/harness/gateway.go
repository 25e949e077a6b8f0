package harness

import (
	"bufio"
	"bytes"
	"cmp"
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
	"aoaigateway/handler/app"
	"aoaigateway/handler/app/settings"
	"aoaigateway/handler/auth"
	"aoaigateway/handler/backend"
	"aoaigateway/handler/blob"
	"aoaigateway/handler/cli"
	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/devstack/aoaisim/wire"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal/journaltest"
	"aoaigateway/handler/policy"
	"aoaigateway/handler/secret"
	"aoaigateway/handler/table"
)

// TestPolicy has three products without limits.
const TestPolicy = `
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

// AdminKey is the admin key of every gateway under test.
const AdminKey = "the-admin-key"

// Gateway is the whole program over stores in memory and simulated regions, on loopback.
type Gateway struct {
	T       *testing.T
	URL     string
	Key     string
	Client  *http.Client // default: http.DefaultClient
	Regions []*aoaisim.Region

	Endpoints []string
	Blobs     *blob.Mem
	Store     *table.Mem
	Program   *app.Program
	Settings  settings.Values
	Policy    *policy.Policy
	Services  app.Services
	Fault     atomic.Pointer[BlobFault]
}

// BlobFault decides about one blob operation: whether it is applied, and the error it returns.
type BlobFault func(context.Context, blob.Op) (apply bool, err error)

// NoAppends makes every append hang until gate is closed.
func NoAppends(gate <-chan struct{}) *BlobFault {
	f := BlobFault(func(ctx context.Context, op blob.Op) (bool, error) {
		if op != blob.OpAppend {
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

// Options of Start.
type Options struct {
	Regions  int // default 2
	Profile  aoaisim.Profile
	TLS      bool // regions serve TLS with HTTP/2, as real ones do; otherwise HTTP/1.1 without TLS, which is cheaper
	Policy   string
	Settings func(*settings.Values)
	Services func(*app.Services)
}

// Start starts the program, its regions and a subscription team-a of the product default.
func Start(t *testing.T, o Options) *Gateway {
	t.Helper()
	r := &Gateway{T: t, Store: table.NewMem()}
	r.Blobs = &blob.Mem{Fault: r.BlobOperation}
	r.Settings = settings.Values{
		APIVersionFloor: "2024-10-21", MaxBodyMB: 1, AuditWait: 2 * time.Second, JournalInterval: time.Millisecond,
		AdminKeySecret: "gateway-admin-key",
	}
	secrets := secret.Map{"gateway-admin-key": AdminKey}
	for i := range cmp.Or(o.Regions, 2) {
		r.addRegion(i, o, secrets)
	}
	if o.Settings != nil {
		o.Settings(&r.Settings)
	}
	var err error
	if r.Policy, err = policy.Parse("policy.yaml", []byte(cmp.Or(o.Policy, TestPolicy))); err != nil {
		t.Fatal(err)
	}
	r.Services = app.Services{
		Subscriptions: r.Store, Quota: table.NewMem(), Affinity: table.NewMem(), Regions: table.NewMem(), Usage: table.NewMem(),
		Journal: table.NewMem(), Blobs: r.Blobs, Secrets: secrets, Transport: backend.NewTransport(wire.Roots()),
	}
	if o.Services != nil {
		o.Services(&r.Services)
	}
	logger := slog.New(slog.NewTextHandler(t.Output(), nil))
	r.Program = app.New(r.Settings, r.Policy, r.Services, logger)
	r.Program.Start()
	r.Listen(logger)
	r.Key = r.Subscribe("default", "team-a")
	return r
}

// addRegion starts the next region (a, b, …). Its priority is its position.
func (r *Gateway) addRegion(i int, o Options, secrets secret.Map) {
	r.T.Helper()
	name := string(rune('a' + i))
	region := aoaisim.New(aoaisim.Options{
		Name: name, Key: "key-of-" + name, Profile: o.Profile, Wire: wire.Options{Plain: !o.TLS},
		Deployments: map[string]aoaisim.Deployment{
			"chat-" + name:      {Model: "gpt-4o"},
			"emb-" + name:       {Model: "text-embedding-3-small"},
			"modelname-" + name: {Model: "gpt-35-turbo-instruct"},
			"think-" + name:     {Model: "o4-mini"},
		},
	})
	endpoint, _, err := region.Start()
	if err != nil {
		r.T.Fatal(err)
	}
	r.T.Cleanup(region.Close)
	u, err := url.Parse(endpoint)
	if err != nil {
		r.T.Fatal(err)
	}
	r.Regions, r.Endpoints = append(r.Regions, region), append(r.Endpoints, endpoint)
	secrets["secret-"+name] = "key-of-" + name
	r.Settings.Backends = append(r.Settings.Backends, backend.Region{
		Name: name, Endpoint: u, Priority: i + 1, Weight: 1, Credential: "secret-" + name,
		Models: map[string]string{"chat": "chat-" + name, "emb": "emb-" + name, "modelname": "modelname-" + name, "think": "think-" + name},
	})
}

// BlobOperation calls the current Fault for an operation on a blob.
func (r *Gateway) BlobOperation(ctx context.Context, op blob.Op, _ string) (apply bool, err error) {
	if f := r.Fault.Load(); f != nil {
		return (*f)(ctx, op)
	}
	return true, nil
}

// Listen serves the program on a port of its own.
func (r *Gateway) Listen(logger *slog.Logger) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.T.Fatal(err)
	}
	server := app.NewServer(r.Program.Handler, logger)
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	r.URL = "http://" + l.Addr().String()
	r.T.Cleanup(func() {
		_ = server.Close()
		<-done
		grace, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		r.Program.Close(grace)
	})
}

// HTTP returns the client of the test.
func (r *Gateway) HTTP() *http.Client {
	if r.Client != nil {
		return r.Client
	}
	return http.DefaultClient
}

// Subscribe creates a subscription through the management API and returns its primary key.
func (r *Gateway) Subscribe(product, id string) string {
	r.T.Helper()
	remote := cli.Remote{URL: r.URL, Key: AdminKey, Client: r.HTTP()}
	c, err := remote.Create(r.T.Context(), admin.NewSubscription{ID: id, Product: product})
	if err != nil {
		r.T.Fatal(err)
	}
	return c.Primary
}

// SetState changes the state of a subscription through the management API.
func (r *Gateway) SetState(id string, s auth.State) {
	r.T.Helper()
	remote := cli.Remote{URL: r.URL, Key: AdminKey, Client: r.HTTP()}
	if _, err := remote.SetState(r.T.Context(), id, s); err != nil {
		r.T.Fatal(err)
	}
}

// Endpoint is the address of the first region.
func (r *Gateway) Endpoint() string { return r.Endpoints[0] }

// Answer is what a client received.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
	Err    error // error while the body was read; nil = it was read to its end
}

// Event returns the value at path in a JSON body.
func (a Answer) Event(t *testing.T, path ...string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(a.Body, &v); err != nil {
		t.Fatalf("body is no JSON: %v\n%s", err, a.Body)
	}
	for _, p := range path {
		m, _ := v.(map[string]any)
		v = m[p]
	}
	return v
}

// Post sends a JSON body with the key of team-a. Headers are written name=value.
func (r *Gateway) Post(path, body string, headers ...string) Answer {
	return r.Do(http.MethodPost, path, body, append([]string{"api-key=" + r.Key, "Content-Type=application/json"}, headers...)...)
}

// Do sends one request and reads the whole answer.
func (r *Gateway) Do(method, path, body string, headers ...string) Answer {
	r.T.Helper()
	req, err := http.NewRequestWithContext(r.T.Context(), method, r.URL+path, strings.NewReader(body))
	if err != nil {
		r.T.Fatal(err)
	}
	for _, kv := range headers {
		name, value, _ := strings.Cut(kv, "=")
		req.Header.Set(name, value)
	}
	resp, err := r.HTTP().Do(req)
	if err != nil {
		return Answer{Err: err}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return Answer{resp.StatusCode, resp.Header, b, err}
}

// Raw sends bytes as they are and reads one answer. It is for requests that no client library makes.
func (r *Gateway) Raw(request string) Answer {
	r.T.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.URL, "http://"))
	if err != nil {
		r.T.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	go func() {
		_, _ = io.WriteString(conn, request)
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return Answer{Err: err}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return Answer{resp.StatusCode, resp.Header, b, err}
}

// Record returns the end record with this id. It waits for the record, because the client
// can have the answer earlier.
func (r *Gateway) Record(id string) gateway.Record {
	r.T.Helper()
	if id == "" {
		r.T.Fatal("the answer names no record")
	}
	return r.Find("record "+id, func(rec gateway.Record) bool { return rec.ID == id })
}

// Find returns an end record that want accepts. It waits up to 5 s for it.
func (r *Gateway) Find(what string, want func(gateway.Record) bool) gateway.Record {
	r.T.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for {
		for _, line := range journaltest.Lines(r.T, r.Blobs) {
			if line.Type == gateway.End && want(line.Record) {
				return line.Record
			}
		}
		if time.Now().After(deadline) {
			r.T.Fatalf("no end record: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// RecordOf returns the end record of an answer.
func (r *Gateway) RecordOf(a Answer) gateway.Record {
	r.T.Helper()
	return r.Record(a.Header.Get("X-Gateway-Request-Id"))
}

// Ends counts the end records in the journal.
func (r *Gateway) Ends() int {
	n := 0
	for _, line := range journaltest.Lines(r.T, r.Blobs) {
		if line.Type == gateway.End {
			n++
		}
	}
	return n
}

// Events splits a stream into its events.
func Events(stream []byte) []string {
	var list []string
	for e := range bytes.SplitSeq(bytes.TrimSuffix(stream, []byte("\n\n")), []byte("\n\n")) {
		list = append(list, string(e))
	}
	return list
}
