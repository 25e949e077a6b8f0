package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"aoaigateway/handler/admin"
	"aoaigateway/handler/affinity"
	"aoaigateway/handler/audit"
	"aoaigateway/handler/auth"
	"aoaigateway/handler/backend"
	"aoaigateway/handler/derive"
	"aoaigateway/handler/front"
	"aoaigateway/handler/journal"
	"aoaigateway/handler/logs"
	"aoaigateway/handler/policy"
	"aoaigateway/handler/proxy"
	"aoaigateway/handler/quota"
	"aoaigateway/handler/secret"
	"aoaigateway/handler/table"
	"aoaigateway/handler/usage"
)

// program is the gateway put together. Nothing in it has touched the network yet: a
// start must not wait for storage, nor fail with it.
type program struct {
	handler http.Handler
	limiter *quota.Limiter
	journal *journal.Writer
	pool    *backend.Pool
	deriver *derive.Deriver
	halt    context.CancelFunc // ends the deriver's loop
	halted  chan struct{}
}

// start begins what goes on beside the requests.
func (p *program) start() {
	ctx, cancel := context.WithCancel(context.Background())
	p.halt, p.halted = cancel, make(chan struct{})
	go func() {
		defer close(p.halted)
		p.deriver.Run(ctx)
	}()
}

// close lets what is under way finish: settles first, since their records may follow.
func (p *program) close(ctx context.Context) {
	p.pool.Close()
	_ = p.limiter.Close(ctx)
	_ = p.journal.Close(ctx)
	if p.halt != nil {
		p.halt()
		<-p.halted
		p.deriver.Finish(ctx)
	}
}

const (
	subscriptionTable = "subscriptions"
	quotaTable        = "quota"
	affinityTable     = "affinity"
	regionTable       = "regions"
	usageTable        = "usage"
	journalTable      = "journal"
	auditContainer    = "audit"
)

// edges are the services the gateway stands on.
type edges struct {
	subscriptions table.Store
	counters      table.Store
	objects       table.Store
	health        table.Store // of the regions, as all instances know it
	usage         table.Store
	files         table.Store // one row for each file of the journal
	blobs         journal.Blobs
	secrets       secret.Source
	identity      azcore.TokenCredential
	transport     http.RoundTripper // to the regions
	feed          *logs.Feed        // to Log Analytics; nil = no rows
}

func connect(s settings, logger *slog.Logger) (e edges, err error) {
	if e.identity, err = s.identity(); err != nil {
		return e, err
	}
	roots, err := s.roots()
	if err != nil {
		return e, err
	}
	e.transport = backend.NewTransport(roots)
	if e.secrets, err = s.secretSource(e.identity, logger); err != nil {
		return e, err
	}
	if e.subscriptions, err = s.openTable(e.identity, subscriptionTable, true); err != nil {
		return e, err
	}
	if e.counters, err = s.openTable(e.identity, quotaTable, false); err != nil {
		return e, err
	}
	if e.objects, err = s.openTable(e.identity, affinityTable, true); err != nil {
		return e, err
	}
	if e.health, err = s.openTable(e.identity, regionTable, false); err != nil {
		return e, err
	}
	if e.usage, err = s.openTable(e.identity, usageTable, true); err != nil {
		return e, err
	}
	if e.files, err = s.openTable(e.identity, journalTable, false); err != nil {
		return e, err
	}
	if e.blobs, err = s.openBlobs(e.identity); err != nil {
		return e, err
	}
	e.feed, err = s.openFeed(e, logger)
	return e, err
}

func (s settings) openBlobs(identity azcore.TokenCredential) (*journal.Azure, error) {
	return journal.NewAzure(journal.AzureOptions{ConnectionString: s.Storage, ServiceURL: s.BlobURL, Credential: identity, Container: auditContainer})
}

func build(s settings, pol *policy.Policy, e edges, logger *slog.Logger) *program {
	rows := journal.NewRows(e.files)
	writer := journal.New(journal.Options{Blobs: e.blobs, Rows: rows, Logger: logger, Interval: s.Interval})
	book := usage.New(e.usage)
	deriver := derive.NewDeriver(derive.DeriverOptions{Journal: writer, Rows: rows, Blobs: e.blobs, Consumers: consumers(e, book), Logger: logger})
	log := audit.New(audit.Options{Journal: writer, Bodies: e.blobs, Wait: s.AuditWait, Relaxed: s.Relaxed, Logger: logger})
	limiter := quota.New(quota.Options{Store: e.counters, Policy: pol, Logger: logger})
	for i := range s.Backends {
		s.Backends[i].Routes = routesOf(pol, s.Backends[i])
	}
	pool := backend.New(backend.Options{
		Regions: s.Backends, Secrets: e.secrets, Identity: e.identity, Transport: e.transport, Logger: logger,
		FirstByte: s.FirstByte, StreamFirstByte: s.StreamFirst, Silence: s.Silence, Shared: e.health,
	})
	keys := auth.NewSubscriptions(e.subscriptions)
	entra := s.entra(e.transport, logger)
	callers := auth.New(keys, auth.Options{Entra: entra})
	management := &admin.API{
		Manager: &admin.Manager{Subscriptions: keys, Policy: pol, Book: book, Changed: callers.Forget, Logger: logger},
		Pool:    pool, Secrets: e.secrets, AdminKey: s.AdminSecret, Entra: entra,
	}
	owners := affinity.New(affinity.Options{Store: e.objects, Wait: s.AuditWait})
	inference := proxy.New(proxy.Options{
		Limiter: limiter, Pool: pool, Owners: owners, Policy: pol, Logger: logger, VersionFloor: s.Floor,
		MaxBody: s.MaxBodyMB << 20, Heartbeat: s.Heartbeat, CommitAfter: s.CommitAfter, AnswerTimeout: s.AnswerTime,
		ClientPace: s.ClientPace,
	})
	handler := front.New(front.Options{
		Auth: callers, Audit: log, Proxy: inference, Admin: management.Serve, Timer: []front.Step{
			{Name: "affinity", Run: owners.Purge},
			{Name: "journal", Run: deriver.Sweep},
		},
		Logger: logger, Fronted: s.Fronted, InAzure: s.InAzure, Pace: s.ClientPace,
	})
	return &program{handler: handler, limiter: limiter, journal: writer, pool: pool, deriver: deriver}
}

// routesOf are the policy's words on a region, model by model.
func routesOf(pol *policy.Policy, r backend.Region) map[string]backend.Route {
	found := map[string]backend.Route{}
	for name := range r.Models {
		m, _ := pol.Model(name)
		if route, ok := m.Regions[r.Name]; ok {
			found[name] = backend.Route(route)
		}
	}
	return found
}

// identity is the one credential of the process: it caches tokens for all who ask.
func (s settings) identity() (azcore.TokenCredential, error) {
	if s.Storage != "" && s.VaultURL == "" && s.LogsURL == "" && !s.regionsUseIdentity() {
		return nil, nil //nolint:nilnil // nobody will ask
	}
	var o azidentity.ManagedIdentityCredentialOptions
	if s.ClientID != "" {
		o.ID = azidentity.ClientID(s.ClientID)
	}
	c, err := azidentity.NewManagedIdentityCredential(&o)
	if err != nil {
		return nil, fmt.Errorf("managed identity: %w", err)
	}
	return c, nil
}

func (s settings) regionsUseIdentity() bool {
	for _, r := range s.Backends {
		if r.Credential == backend.ManagedIdentity {
			return true
		}
	}
	return false
}

func (s settings) openTable(identity azcore.TokenCredential, name string, retries bool) (*table.Azure, error) {
	o := table.AzureOptions{ConnectionString: s.Storage, Table: name, Retries: retries}
	if s.Storage == "" {
		o.ServiceURL, o.Credential = s.TableURL, identity
	}
	return table.NewAzure(o)
}

// openFeed is nil without an endpoint. Rows that are refused stand in the audit container,
// below aside/.
func (s settings) openFeed(e edges, logger *slog.Logger) (*logs.Feed, error) {
	if s.LogsURL == "" {
		return nil, nil //nolint:nilnil // no rows then
	}
	shipper, err := logs.NewShipper(logs.ShipperOptions{
		Endpoint: s.LogsURL, RuleID: s.LogsRule, Stream: s.LogsStream, Credential: e.identity, Transport: e.transport, Logger: logger,
		Aside: logs.AsideIn(e.blobs.Put),
	})
	if err != nil {
		return nil, err
	}
	open := func(ctx context.Context, name string) (io.ReadCloser, error) { return e.blobs.Open(ctx, name, 0) }
	return &logs.Feed{Rows: logs.Rows{BodyURL: s.bodyURL(), Open: open}, Shipper: shipper}, nil
}

// bodyURL is where the audit container's blobs are.
func (s settings) bodyURL() string {
	base := s.BlobURL
	if s.Storage != "" {
		_, base, _ = strings.Cut(s.Storage, "BlobEndpoint=")
		base, _, _ = strings.Cut(base, ";")
	}
	if base == "" {
		return auditContainer
	}
	return strings.TrimSuffix(base, "/") + "/" + auditContainer
}

func (s settings) secretSource(identity azcore.TokenCredential, logger *slog.Logger) (secret.Source, error) {
	if s.VaultURL == "" {
		return secret.Map(s.Secrets), nil
	}
	return secret.NewKeyVault(secret.KeyVaultOptions{URL: s.VaultURL, Credential: identity, Logger: logger})
}

func (s settings) roots() (*x509.CertPool, error) {
	if s.CAFile == "" {
		return nil, nil //nolint:nilnil // nil means the system's roots
	}
	pem, err := os.ReadFile(s.CAFile)
	if err != nil {
		return nil, fmt.Errorf("GATEWAY_DEV_CA_FILE: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	pool.AppendCertsFromPEM(pem) // the loader saw that there are some
	return pool, nil
}
