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
	Profile aoaisim.Profile
	Random  bool   // true = regions fail and throttle at random
	Memory  bool   // true = storage in memory only
	EnvFile string // file for the settings; default dist/dev.env
	Regions []RegionOptions
}

// SetKind chooses between kind regions and regions that fail and throttle as Azure's do.
func (o *Options) SetKind(kind bool) {
	if o.Random = !kind; kind {
		o.Profile = aoaisim.Kind
	}
}

// RegionOptions describe one simulated region. The zero value of Options.Regions means
// DefaultRegions.
type RegionOptions struct {
	Name       string
	Credential string                        // name of a secret, or managedIdentity
	Priority   int                           // default: the position in the list, from 1
	Models     map[string]string             // name that clients use → name of the deployment
	Sim        func(*aoaisim.Options)        // changes the options of the simulated region
	Limits     map[string]aoaisim.Deployment // by deployment; deployments that are not listed are unlimited
}

// ManagedIdentity as a region's Credential means that the region accepts tokens and no key.
const ManagedIdentity = "managedIdentity"

// models are the deployed models, by the name that clients use. "modelname" is the name in
// an old example program.
var models = map[string]string{
	"gpt-4o-mini": "gpt-4o-mini", "gpt-4o": "gpt-4o", "o4-mini": "o4-mini",
	"modelname": "gpt-35-turbo-instruct", "text-embedding-3-small": "text-embedding-3-small",
}

// DefaultRegions are the two regions of the local stack. One has a key and one uses the
// managed identity, and their deployments have different names.
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

// Region is a running simulated region.
type Region struct {
	Name    string          `json:"name"`
	URL     string          `json:"url"`
	Control string          `json:"control"`
	Sim     *aoaisim.Region `json:"-"`
}

// Services are all services that the gateway uses.
type Services struct {
	Regions  []Region
	Logs     *loganalytics.Sink
	Storage  string // connection string
	AdminKey string
	EnvFile  string // absolute path
	env      []variable
	stops    []func()
}

// Env returns the settings of the gateway in the form NAME=value.
func (s *Services) Env() []string {
	list := make([]string, len(s.env))
	for i, v := range s.env {
		list[i] = v.name + "=" + v.value
	}
	return list
}

// Stop ends all services in the reverse order of their start.
func (s *Services) Stop() {
	for _, stop := range slices.Backward(s.stops) {
		stop()
	}
	s.stops = nil
}

// Start starts storage, identity, Log Analytics and regions. When all of them answer, it
// writes the settings. ctx limits only the start.
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
	id, err := StartIdentity(IdentityOptions{RegionToken: token, Tokens: tokens})
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
		b, err := s.startRegion(r, o, token, secrets)
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
		{"AZURE_CLIENT_ID", id.ClientID},
	}
	return writeEnv(s.EnvFile, s.env)
}

// startStorage starts Azurite with the first data folder that no other stack uses.
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

// startLogs starts the stand-in for Log Analytics. It stores its certificate and that of the
// regions beside the settings file, and its rows too unless storage is in memory only.
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
		return "", fmt.Errorf("the stand-in for Log Analytics cannot be started: %w", err)
	}
	s.stops = append(s.stops, s.Logs.Close)
	caFile = filepath.Join(dir, name+"-ca.pem")
	return caFile, replaceFile(caFile, append(aoaisim.CA(), s.Logs.CA...))
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

func (s *Services) startRegion(r RegionOptions, all Options, token string, secrets map[string]string) (backend, error) {
	o := aoaisim.Options{
		Name: r.Name, Profile: all.Profile, Random: all.Random, Deployments: map[string]aoaisim.Deployment{}, Key: "key-" + secret(),
	}
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
		if all.Random {
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
		return backend{}, fmt.Errorf("the region %s cannot be started: %w", r.Name, err)
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

// holdFolder locks dir, or dir-2 … dir-9 if other stacks are running. The lock file has the
// id of the process that holds it. The lock of a process that does not exist any more is
// ignored.
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
	return "", nil, errors.New("nine local stacks are running already; stop one of them")
}
