package app

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
	"aoaigateway/handler/blob"
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
type Program struct {
	Handler http.Handler
	limiter *quota.Limiter
	Journal *journal.Writer
	pool    *backend.Pool
	deriver *derive.Deriver
	halt    context.CancelFunc // ends the deriver's loop
	halted  chan struct{}
}

// start begins what goes on beside the requests.
func (p *Program) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	p.halt, p.halted = cancel, make(chan struct{})
	go func() {
		defer close(p.halted)
		p.deriver.Run(ctx)
	}()
}

// close lets what is under way finish: settles first, since their records may follow.
func (p *Program) Close(ctx context.Context) {
	p.pool.Close()
	_ = p.limiter.Close(ctx)
	_ = p.Journal.Close(ctx)
	if p.halt != nil {
		p.halt()
		<-p.halted
		p.deriver.Finish(ctx)
	}
}

const (
	SubscriptionTable = "subscriptions"
	QuotaTable        = "quota"
	AffinityTable     = "affinity"
	RegionTable       = "regions"
	UsageTable        = "usage"
	JournalTable      = "journal"
	AuditContainer    = "audit"
)

// edges are the services the gateway stands on.
type Services struct {
	Subscriptions table.Store
	Quota         table.Store
	Affinity      table.Store
	Regions       table.Store // of the regions, as all instances know it
	Usage         table.Store
	Journal       table.Store // one row for each file of the journal
	Blobs         blob.Store
	Secrets       secret.Source
	Identity      azcore.TokenCredential
	Transport     http.RoundTripper // to the regions
	Feed          *logs.Feed        // to Log Analytics; nil = no rows
}

func Connect(s Settings, logger *slog.Logger) (e Services, err error) {
	if e.Identity, err = s.Identity(); err != nil {
		return e, err
	}
	roots, err := s.roots()
	if err != nil {
		return e, err
	}
	e.Transport = backend.NewTransport(roots)
	if e.Secrets, err = s.secretSource(e.Identity, logger); err != nil {
		return e, err
	}
	if e.Subscriptions, err = s.OpenTable(e.Identity, SubscriptionTable, table.Retrying); err != nil {
		return e, err
	}
	if e.Quota, err = s.OpenTable(e.Identity, QuotaTable, table.Once); err != nil {
		return e, err
	}
	if e.Affinity, err = s.OpenTable(e.Identity, AffinityTable, table.Retrying); err != nil {
		return e, err
	}
	if e.Regions, err = s.OpenTable(e.Identity, RegionTable, table.Once); err != nil {
		return e, err
	}
	if e.Usage, err = s.OpenTable(e.Identity, UsageTable, table.Retrying); err != nil {
		return e, err
	}
	if e.Journal, err = s.OpenTable(e.Identity, JournalTable, table.Once); err != nil {
		return e, err
	}
	if e.Blobs, err = s.OpenBlobs(e.Identity); err != nil {
		return e, err
	}
	e.Feed, err = s.OpenFeed(e, logger)
	return e, err
}

func (s Settings) OpenBlobs(identity azcore.TokenCredential) (*blob.Azure, error) {
	return blob.NewAzure(blob.AzureOptions{ConnectionString: s.Storage, ServiceURL: s.BlobURL, Credential: identity, Container: AuditContainer})
}

func New(s Settings, pol *policy.Policy, e Services, logger *slog.Logger) *Program {
	rows := journal.NewRows(e.Journal)
	writer := journal.New(journal.Options{Blobs: e.Blobs, Rows: rows, Logger: logger, Interval: s.JournalInterval})
	book := usage.New(e.Usage)
	deriver := derive.NewDeriver(derive.DeriverOptions{Journal: writer, Rows: rows, Blobs: e.Blobs, Consumers: Consumers(e, book), Logger: logger})
	log := audit.New(audit.Options{Journal: writer, Bodies: e.Blobs, Wait: s.AuditWait, Relaxed: s.AuditRelaxed, Logger: logger})
	limiter := quota.New(quota.Options{Store: e.Quota, Policy: pol, Logger: logger})
	for i := range s.Backends {
		s.Backends[i].Routes = routesOf(pol, s.Backends[i])
	}
	pool := backend.New(backend.Options{
		Regions: s.Backends, Secrets: e.Secrets, Identity: e.Identity, Transport: e.Transport, Logger: logger,
		FirstByteTimeout: s.FirstByteTimeout, StreamFirstByteTimeout: s.StreamFirstByteTimeout, IdleTimeout: s.IdleTimeout, Shared: e.Regions,
	})
	keys := auth.NewSubscriptions(e.Subscriptions)
	entra := s.entra(e.Transport, logger)
	callers := auth.New(keys, auth.Options{Entra: entra})
	management := &admin.API{
		Manager: &admin.Manager{Subscriptions: keys, Policy: pol, Book: book, OnChange: callers.Forget, Logger: logger},
		Pool:    pool, Secrets: e.Secrets, AdminKeySecret: s.AdminKeySecret, Entra: entra,
	}
	owners := affinity.New(affinity.Options{Table: e.Affinity, WriteTimeout: s.AuditWait})
	inference := proxy.New(proxy.Options{
		Limiter: limiter, Pool: pool, Owners: owners, Policy: pol, Logger: logger, APIVersionFloor: s.APIVersionFloor,
		MaxBody: s.MaxBodyMB << 20, Heartbeat: s.Heartbeat, StreamBeginAfter: s.StreamBeginAfter, AnswerTimeout: s.AnswerTimeout,
	})
	handler := front.New(front.Options{
		Auth: callers, Audit: log, Proxy: inference, Admin: management.Serve, Timer: []front.Step{
			{Name: "affinity", Run: owners.Purge},
			{Name: "journal", Run: deriver.Sweep},
		},
		Logger: logger, Fronted: s.Fronted, InAzure: s.InAzure, ClientIdleTimeout: s.ClientIdleTimeout,
	})
	return &Program{Handler: handler, limiter: limiter, Journal: writer, pool: pool, deriver: deriver}
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
func (s Settings) Identity() (azcore.TokenCredential, error) {
	if s.Storage != "" && s.KeyVaultURL == "" && s.LogsURL == "" && !s.regionsUseIdentity() {
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

func (s Settings) regionsUseIdentity() bool {
	for _, r := range s.Backends {
		if r.Credential == backend.ManagedIdentity {
			return true
		}
	}
	return false
}

func (s Settings) OpenTable(identity azcore.TokenCredential, name string, retry table.RetryPolicy) (*table.Azure, error) {
	o := table.AzureOptions{ConnectionString: s.Storage, Table: name, Retry: retry}
	if s.Storage == "" {
		o.ServiceURL, o.Credential = s.TableURL, identity
	}
	return table.NewAzure(o)
}

// openFeed is nil without an endpoint. Rows that are refused stand in the audit container,
// below aside/.
func (s Settings) OpenFeed(e Services, logger *slog.Logger) (*logs.Feed, error) {
	if s.LogsURL == "" {
		return nil, nil //nolint:nilnil // no rows then
	}
	shipper, err := logs.NewShipper(logs.ShipperOptions{
		Endpoint: s.LogsURL, RuleID: s.LogsRuleID, Stream: s.LogsStream, Credential: e.Identity, Transport: e.Transport, Logger: logger,
		Aside: logs.AsideIn(e.Blobs.Put),
	})
	if err != nil {
		return nil, err
	}
	open := func(ctx context.Context, name string) (io.ReadCloser, error) { return e.Blobs.Open(ctx, name, 0) }
	return &logs.Feed{Rows: logs.Rows{BodyURL: s.bodyURL(), Open: open}, Shipper: shipper}, nil
}

// bodyURL is where the audit container's blobs are.
func (s Settings) bodyURL() string {
	base := s.BlobURL
	if s.Storage != "" {
		_, base, _ = strings.Cut(s.Storage, "BlobEndpoint=")
		base, _, _ = strings.Cut(base, ";")
	}
	if base == "" {
		return AuditContainer
	}
	return strings.TrimSuffix(base, "/") + "/" + AuditContainer
}

func (s Settings) secretSource(identity azcore.TokenCredential, logger *slog.Logger) (secret.Source, error) {
	if s.KeyVaultURL == "" {
		return secret.Map(s.Secrets), nil
	}
	return secret.NewKeyVault(secret.KeyVaultOptions{URL: s.KeyVaultURL, Credential: identity, Logger: logger})
}

func (s Settings) roots() (*x509.CertPool, error) {
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
