package harness

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
	"aoaigateway/handler/app"
	"aoaigateway/handler/auth"
	"aoaigateway/handler/backend"
	"aoaigateway/handler/blob"
	"aoaigateway/handler/cli"
	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal/journaltest"
	"aoaigateway/handler/policy"
	"aoaigateway/handler/secret"
	"aoaigateway/handler/table"
)

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

const AdminKey = "the-admin-key"

// rig is the whole gateway over memory stores and simulated regions, on loopback.
type Gateway struct {
	T       *testing.T
	URL     string
	Key     string
	Client  *http.Client // nil = the usual one
	Regions []*aoaisim.Region

	Endpoints []string
	Blobs     *blob.Mem
	Store     *table.Mem
	Program   *app.Program
	Settings  app.Settings
	Policy    *policy.Policy
	Services  app.Services
	Fault     atomic.Pointer[BlobFault]
}

// blobFault is what becomes of a blob operation; set while the gateway runs.
type BlobFault func(context.Context, blob.Op) (apply bool, err error)

// noAppends has every append hang until gate is closed.
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

type Options struct {
	Regions  int  // default 2
	Strict   bool // regions know only the objects they made
	Policy   string
	Settings func(*app.Settings)
	Services func(*app.Services)
}

func Start(t *testing.T, o Options) *Gateway {
	t.Helper()
	if o.Regions == 0 {
		o.Regions = 2
	}
	if o.Policy == "" {
		o.Policy = TestPolicy
	}
	r := &Gateway{T: t, Store: table.NewMem()}
	r.Blobs = &blob.Mem{Fault: r.BlobOperation}
	s := app.Settings{APIVersionFloor: "2024-10-21", MaxBodyMB: 1, AuditWait: 2 * time.Second, JournalInterval: time.Millisecond,
		AdminKeySecret: "gateway-admin-key"}
	secrets := secret.Map{"gateway-admin-key": AdminKey}
	for i := range o.Regions {
		name := string(rune('a' + i))
		region := aoaisim.New(aoaisim.Options{Name: name, Key: "key-of-" + name, Kind: true, StrictIDs: o.Strict,
			Deployments: map[string]aoaisim.Deployment{
				"chat-" + name: {Model: "gpt-4o"}, "emb-" + name: {Model: "text-embedding-3-small"}, "modelname-" +
					name: {Model: "gpt-35-turbo-instruct"},
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
		r.Regions = append(r.Regions, region)
		r.Endpoints = append(r.Endpoints, endpoint)
		secrets["secret-"+name] = "key-of-" + name
		s.Backends = append(s.Backends, backend.Region{
			Name: name, Endpoint: u, Priority: i + 1, Weight: 1, Credential: "secret-" + name,
			Models: map[string]string{"chat": "chat-" + name, "emb": "emb-" + name, "modelname": "modelname-" + name},
		})
	}
	if o.Settings != nil {
		o.Settings(&s)
	}
	pol, err := policy.Parse("policy.yaml", []byte(o.Policy))
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.NewTextHandler(t.Output(), nil))
	e := app.Services{Subscriptions: r.Store, Quota: table.NewMem(), Affinity: table.NewMem(), Regions: table.NewMem(), Usage: table.NewMem(),
		Journal: table.NewMem(), Blobs: r.Blobs, Secrets: secrets, Transport: backend.NewTransport(nil)}
	if o.Services != nil {
		o.Services(&e)
	}
	r.Settings, r.Policy, r.Services = s, pol, e
	r.Program = app.New(s, pol, e, logger)
	r.Program.Start()
	r.Listen(logger)
	r.Key = r.Subscribe("default", "team-a")
	return r
}

func (r *Gateway) BlobOperation(ctx context.Context, op blob.Op, _ string) (apply bool, err error) {
	if f := r.Fault.Load(); f != nil {
		return (*f)(ctx, op)
	}
	return true, nil
}

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

func (r *Gateway) HTTP() *http.Client {
	if r.Client != nil {
		return r.Client
	}
	return http.DefaultClient
}

// subscribe makes a subscription through the management API and returns its first key.
func (r *Gateway) Subscribe(product, id string) string {
	r.T.Helper()
	remote := cli.Remote{URL: r.URL, AdminKey: AdminKey, Client: r.HTTP()}
	c, err := remote.Create(r.T.Context(), admin.NewSubscription{ID: id, Product: product})
	if err != nil {
		r.T.Fatal(err)
	}
	return c.Primary
}

func (r *Gateway) SetState(id string, s auth.State) {
	r.T.Helper()
	remote := cli.Remote{URL: r.URL, AdminKey: AdminKey, Client: r.HTTP()}
	if _, err := remote.SetState(r.T.Context(), id, s); err != nil {
		r.T.Fatal(err)
	}
}

// endpoint is the first region's address.
func (r *Gateway) Endpoint() string { return r.Endpoints[0] }

// answer is what a client saw.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
	Err    error // of reading the body: a cut
}

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

func (r *Gateway) Post(path, body string, headers ...string) Answer {
	return r.Do(http.MethodPost, path, body, append([]string{"api-key=" + r.Key, "Content-Type=application/json"}, headers...)...)
}

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

// raw sends bytes as they are and reads one answer: for requests no client library makes.
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

// record returns the end record that the answer's id names, waiting for it if the client
// was faster.
func (r *Gateway) Record(id string) gateway.Record {
	r.T.Helper()
	if id == "" {
		r.T.Fatal("the answer names no record")
	}
	return r.Find("record "+id, func(rec gateway.Record) bool { return rec.ID == id })
}

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

func (r *Gateway) RecordOf(a Answer) gateway.Record {
	r.T.Helper()
	return r.Record(a.Header.Get("X-Gateway-Request-Id"))
}

func (r *Gateway) Ends() int {
	n := 0
	for _, line := range journaltest.Lines(r.T, r.Blobs) {
		if line.Type == gateway.End {
			n++
		}
	}
	return n
}

func Events(stream []byte) []string {
	var list []string
	for e := range bytes.SplitSeq(bytes.TrimSuffix(stream, []byte("\n\n")), []byte("\n\n")) {
		list = append(list, string(e))
	}
	return list
}
