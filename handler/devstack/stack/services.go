package stack

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/devstack/azurite"
	"aoaigateway/handler/devstack/loganalytics"
	"aoaigateway/handler/devstack/tools"
	"aoaigateway/handler/logs"
)

// Options of Start.
type Options struct {
	Kind    bool   // regions without unasked faults and limits, for tests
	Memory  bool   // storage that forgets, for tests
	EnvFile string // where the settings go; default dist/dev.env
	Regions []RegionOptions
}

// RegionOptions is one simulated region; the zero value of Options.Regions means Regions(kind).
type RegionOptions struct {
	Name       string
	Credential string                        // a secret's name, or managedIdentity
	Priority   int                           // default: place in the list, from 1
	Models     map[string]string             // what clients name → deployment
	Sim        func(*aoaisim.Options)        // last changes
	Limits     map[string]aoaisim.Deployment // by deployment, instead of unlimited
}

// ManagedIdentity is the credential of a region that takes tokens instead of a key.
const ManagedIdentity = "managedIdentity"

// models are the deployed models by the name clients use. The legacy snippet asks for "modelname".
var models = map[string]string{
	"gpt-4o-mini": "gpt-4o-mini", "gpt-4o": "gpt-4o", "o4-mini": "o4-mini",
	"modelname": "gpt-35-turbo-instruct", "text-embedding-3-small": "text-embedding-3-small",
}

// DefaultRegions are the two regions of the local stack: one opened with a key, one with
// the managed identity, with other deployment names.
func DefaultRegions() []RegionOptions {
	return []RegionOptions{
		{Name: "eastus2", Credential: "eastus2-key", Models: map[string]string{
			"gpt-4o-mini": "chat-east", "gpt-4o": "gpt4o-east", "o4-mini": "reasoning-east", "modelname": "instruct-east",
			"text-embedding-3-small": "embed-east",
		}},
		{Name: "swedencentral", Credential: ManagedIdentity, Models: map[string]string{
			"gpt-4o-mini": "chat-sweden", "gpt-4o": "gpt4o-sweden", "o4-mini": "reasoning-sweden", "modelname": "instruct-sweden",
			"text-embedding-3-small": "embed-sweden",
		}},
	}
}

// Region is one running region.
type Region struct {
	Name    string          `json:"name"`
	URL     string          `json:"url"`
	Control string          `json:"control"`
	Sim     *aoaisim.Region `json:"-"`
}

// Services is everything but the gateway.
type Services struct {
	Regions  []Region
	Logs     *loganalytics.Sink
	Storage  string // connection string
	AdminKey string
	EnvFile  string // absolute
	env      []variable
	stops    []func()
}

// Env is the gateway's settings as NAME=value, to append to a process's own.
func (s *Services) Env() []string {
	list := make([]string, len(s.env))
	for i, v := range s.env {
		list[i] = v.name + "=" + v.value
	}
	return list
}

// Stop ends all in the reverse order of their start.
func (s *Services) Stop() {
	for _, stop := range slices.Backward(s.stops) {
		stop()
	}
	s.stops = nil
}

// Start runs storage, identity and regions, and writes the settings when all answer. ctx
// bounds the start only.
func Start(ctx context.Context, o Options) (*Services, error) {
	root, err := tools.Root()
	if err != nil {
		return nil, err
	}
	if o.EnvFile == "" {
		o.EnvFile = filepath.Join(root, "dist", "dev.env")
	}
	if len(o.Regions) == 0 {
		o.Regions = DefaultRegions()
	}
	s := &Services{AdminKey: "admin-" + secret(), EnvFile: o.EnvFile}
	if err := s.start(ctx, root, o); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

func (s *Services) start(ctx context.Context, root string, o Options) error {
	if err := s.startStorage(ctx, root, o.Memory); err != nil {
		return err
	}
	token := "token-" + secret()
	tokens := loganalytics.Tokens{Secret: []byte(secret())}
	id, err := StartIdentity(token, tokens)
	if err != nil {
		return err
	}
	s.stops = append(s.stops, id.Stop)
	caFile, err := s.startLogs(o, tokens)
	if err != nil {
		return err
	}
	secrets := map[string]string{"gateway-admin-key": s.AdminKey}
	var backends []backend
	for i, r := range o.Regions {
		b, err := s.startRegion(r, o.Kind, token, secrets)
		if err != nil {
			return err
		}
		if b.Priority == 0 {
			b.Priority = i + 1
		}
		backends = append(backends, b)
	}
	s.env = []variable{
		{"GATEWAY_BACKENDS", asJSON(backends)},
		{"GATEWAY_STORAGE", s.Storage},
		{"GATEWAY_SECRETS", asJSON(secrets)},
		{"GATEWAY_POLICY", filepath.Join(root, "infra", "policy.yaml")},
		{"GATEWAY_LOGS_ENDPOINT", s.Logs.URL},
		{"GATEWAY_LOGS_RULE", s.Logs.Rule},
		{"GATEWAY_DEV_CA_FILE", caFile},
		{"IDENTITY_ENDPOINT", id.URL},
		{"IDENTITY_HEADER", id.Header},
	}
	return writeEnv(s.EnvFile, s.env)
}

// startStorage runs Azurite over the first data folder that no other stack holds.
func (s *Services) startStorage(ctx context.Context, root string, memory bool) error {
	dir := ""
	if !memory {
		held, release, err := holdFolder(filepath.Join(root, "dist", "azurite"))
		if err != nil {
			return err
		}
		dir = held
		s.stops = append(s.stops, release)
	}
	server, err := azurite.Start(ctx, azurite.Options{Dir: dir})
	if err != nil {
		return err
	}
	s.stops = append(s.stops, server.Stop)
	s.Storage = server.ConnectionString()
	return nil
}

// startLogs runs the Log Analytics stand-in. Its certificate, and its rows unless storage
// forgets too, stand beside the settings.
func (s *Services) startLogs(o Options, tokens loganalytics.Tokens) (caFile string, err error) {
	dir, name := filepath.Split(o.EnvFile)
	name = strings.TrimSuffix(name, filepath.Ext(name))
	columns := map[string]string{}
	for _, c := range logs.Columns() {
		columns[c.Name] = c.Type
	}
	sink := loganalytics.Options{Columns: columns, Token: tokens.Check}
	if !o.Memory {
		sink.File = filepath.Join(dir, name+"-logs.ndjson")
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return "", err
		}
	}
	if s.Logs, err = loganalytics.Start(sink); err != nil {
		return "", fmt.Errorf("log analytics: %w", err)
	}
	s.stops = append(s.stops, s.Logs.Close)
	caFile = filepath.Join(dir, name+"-ca.pem")
	return caFile, replaceFile(caFile, s.Logs.CA)
}

// backend is one element of GATEWAY_BACKENDS.
type backend struct {
	Name       string            `json:"name"`
	Endpoint   string            `json:"endpoint"`
	Priority   int               `json:"priority"`
	Weight     int               `json:"weight"`
	Credential string            `json:"credential"`
	Models     map[string]string `json:"models"`
}

func (s *Services) startRegion(r RegionOptions, kind bool, token string, secrets map[string]string) (backend, error) {
	o := aoaisim.Options{Name: r.Name, Kind: kind, Deployments: map[string]aoaisim.Deployment{}, Key: "key-" + secret()}
	if r.Credential == ManagedIdentity {
		o.Token = token
	} else {
		secrets[r.Credential] = o.Key
	}
	for name, deployment := range r.Models {
		d := aoaisim.Deployment{Model: models[name]}
		if d.Model == "" {
			d.Model = name
		}
		if !kind {
			d.TokensPerMinute, d.RequestsPerMinute = 60_000, 360
		}
		o.Deployments[deployment] = d
	}
	maps.Copy(o.Deployments, r.Limits)
	if r.Sim != nil {
		r.Sim(&o)
	}
	sim := aoaisim.New(o)
	url, control, err := sim.Start()
	if err != nil {
		return backend{}, fmt.Errorf("region %s: %w", r.Name, err)
	}
	s.stops = append(s.stops, sim.Close)
	s.Regions = append(s.Regions, Region{Name: r.Name, URL: url, Control: control, Sim: sim})
	return backend{Name: r.Name, Endpoint: url, Priority: r.Priority, Weight: 1, Credential: r.Credential, Models: r.Models}, nil
}

func secret() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func asJSON(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

// holdFolder takes dir, or dir-2 … dir-9 when other stacks run, by a lock file that names
// the holder; the lock of a process that is gone is void.
func holdFolder(dir string) (string, func(), error) {
	for n := 1; n < 10; n++ {
		name := dir
		if n > 1 {
			name = fmt.Sprintf("%s-%d", dir, n)
		}
		if err := os.MkdirAll(name, 0o750); err != nil {
			return "", nil, err
		}
		lock := name + ".pid"
		if takePid(lock) {
			return name, func() { _ = os.Remove(lock) }, nil
		}
	}
	return "", nil, errors.New("nine local stacks run already; stop one")
}
