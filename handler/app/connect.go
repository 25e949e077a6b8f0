package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	azpolicy "github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"aoaigateway/handler/app/settings"
	"aoaigateway/handler/backend"
	"aoaigateway/handler/blob"
	"aoaigateway/handler/identity"
	"aoaigateway/handler/logs"
	"aoaigateway/handler/logs/export"
	"aoaigateway/handler/secret"
	"aoaigateway/handler/table"
)

// The names of the tables and of the container in which the gateway keeps its data.
const (
	SubscriptionTable = "subscriptions"
	QuotaTable        = "quota"
	affinityTable     = "affinity"
	RegionTable       = "regions"
	UsageTable        = "usage"
	JournalTable      = "journal"
	AuditContainer    = "audit"
)

// Services are the services outside this process that the gateway uses.
type Services struct {
	Subscriptions table.Store
	Quota         table.Store
	Affinity      table.Store
	Regions       table.Store // throttled and unavailable deployments, shared by all instances
	Usage         table.Store
	Journal       table.Store // the manifest: one entry for each file of the journal
	Blobs         blob.Store
	Secrets       secret.Source
	Identity      azcore.TokenCredential
	Transport     http.RoundTripper // for requests to regions and to Log Analytics
	Exporter      *export.Exporter  // sends rows to Log Analytics; nil = no rows are sent
}

// connect opens the services that the settings name. It does not use the network yet.
func connect(s settings.Values, logger *slog.Logger) (e Services, err error) {
	if e.Identity, err = Identity(s, logger); err != nil {
		return e, err
	}
	roots, err := rootCertificates(s)
	if err != nil {
		return e, err
	}
	e.Transport = backend.NewTransport(roots)
	access := Access{e.Identity, &http.Client{Transport: newAzureTransport(roots)}}
	if e.Secrets, err = openSecrets(s, access, logger); err != nil {
		return e, err
	}
	for _, t := range []struct {
		name  string
		retry table.RetryPolicy
		store *table.Store
	}{
		{SubscriptionTable, table.Retrying, &e.Subscriptions},
		{QuotaTable, table.Once, &e.Quota},
		{affinityTable, table.Retrying, &e.Affinity},
		{RegionTable, table.Once, &e.Regions},
		{UsageTable, table.Retrying, &e.Usage},
		{JournalTable, table.Once, &e.Journal},
	} {
		if *t.store, err = OpenTable(s, access, t.name, t.retry); err != nil {
			return e, err
		}
	}
	if e.Blobs, err = OpenBlobs(s, access); err != nil {
		return e, err
	}
	e.Exporter, err = OpenExporter(s, e, logger)
	return e, err
}

// Access says how to reach Azure Storage and Key Vault.
type Access struct {
	Credential azcore.TokenCredential // nil = the settings have a connection string
	Transport  azpolicy.Transporter   // nil = the SDK's, which keeps ten connections to a host
}

// newAzureTransport returns the transport for Azure Storage and Key Vault. It keeps as many
// connections as a busy instance has operations in flight: a new connection costs a TLS
// handshake, and in Azure a port for outgoing connections (SNAT) for minutes. These services
// do not use HTTP/2.
func newAzureTransport(roots *x509.CertPool) *http.Transport {
	dial := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dial.DialContext,
		TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: 5 * time.Second,
		MaxIdleConns:        2 * keptConnections, // tables and blobs are two hosts
		MaxIdleConnsPerHost: keptConnections,
		IdleConnTimeout:     90 * time.Second,
	}
}

const keptConnections = 256

// Identity returns the credential for all Azure services. All services share it, because it
// keeps tokens. It is nil if no service needs a credential.
func Identity(s settings.Values, logger *slog.Logger) (azcore.TokenCredential, error) {
	if len(tokenScopes(s)) == 0 {
		return nil, nil //nolint:nilnil // no service needs a credential
	}
	var o azidentity.ManagedIdentityCredentialOptions
	if s.ClientID != "" {
		o.ID = azidentity.ClientID(s.ClientID)
	}
	c, err := azidentity.NewManagedIdentityCredential(&o)
	if err != nil {
		return nil, fmt.Errorf("the managed identity cannot be used: %w", err)
	}
	return identity.Keep(c, logger), nil
}

// warmUp begins to fetch the tokens that the first requests will need. An instance's first
// token can take several seconds.
func warmUp(s settings.Values, credential azcore.TokenCredential) {
	if credential == nil {
		return
	}
	for _, scope := range tokenScopes(s) {
		go func() { // a failure is logged by the credential, and the first request fetches again
			_, _ = credential.GetToken(context.Background(), azpolicy.TokenRequestOptions{Scopes: []string{scope}})
		}()
	}
}

// tokenScopes returns the scopes of the services that the gateway uses with its managed
// identity, as the SDK's clients name them.
func tokenScopes(s settings.Values) (scopes []string) {
	if s.Storage == "" {
		scopes = append(scopes, "https://storage.azure.com/.default")
	}
	if s.KeyVaultURL != "" {
		scopes = append(scopes, "https://vault.azure.net/.default")
	}
	if s.LogsURL != "" {
		scopes = append(scopes, "https://monitor.azure.com//.default")
	}
	if slices.ContainsFunc(s.Backends, func(r backend.Region) bool { return r.Credential == backend.ManagedIdentity }) {
		scopes = append(scopes, backend.CognitiveScope)
	}
	return scopes
}

// OpenTable returns a table of the storage account. It does not use the network yet.
func OpenTable(s settings.Values, a Access, name string, retry table.RetryPolicy) (*table.Azure, error) {
	o := table.AzureOptions{ConnectionString: s.Storage, Table: name, Retry: retry, Transport: a.Transport}
	if s.Storage == "" {
		o.ServiceURL, o.Credential = s.TableURL, a.Credential
	}
	return table.NewAzure(o)
}

// OpenBlobs returns the container of the journal and of bodies. It does not use the network
// yet.
func OpenBlobs(s settings.Values, a Access) (*blob.Azure, error) {
	return blob.NewAzure(blob.AzureOptions{
		ConnectionString: s.Storage, ServiceURL: s.BlobURL, Credential: a.Credential, Container: AuditContainer, Transport: a.Transport,
	})
}

// OpenExporter returns the Exporter to Log Analytics; nil = the settings have no Logs
// Ingestion endpoint. Rows that Log Analytics refuses permanently are stored as dead
// letters in the audit container.
func OpenExporter(s settings.Values, e Services, logger *slog.Logger) (*export.Exporter, error) {
	if s.LogsURL == "" {
		return nil, nil //nolint:nilnil // no rows are sent
	}
	shipper, err := export.NewShipper(export.ShipperOptions{
		Endpoint: s.LogsURL, RuleID: s.LogsRuleID, Stream: s.LogsStream, Credential: e.Identity, Transport: e.Transport, Logger: logger,
		DeadLetter: export.DeadLetterIn(e.Blobs.Put),
	})
	if err != nil {
		return nil, err
	}
	open := func(ctx context.Context, name string) (io.ReadCloser, error) { return e.Blobs.Open(ctx, name, 0) }
	return &export.Exporter{Mapper: logs.Mapper{BodyURL: auditURL(s), Open: open}, Shipper: shipper}, nil
}

// auditURL is the URL of the audit container.
func auditURL(s settings.Values) string {
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

// refusedAdminKey is how long an instance accepts the admin key that it knows while the vault
// refuses to return it. An operator who takes the vault's role away ends the key's use.
const refusedAdminKey = time.Hour

func openSecrets(s settings.Values, a Access, logger *slog.Logger) (secret.Source, error) {
	if s.KeyVaultURL == "" {
		return secret.Map(s.Secrets), nil
	}
	return secret.NewKeyVault(secret.KeyVaultOptions{
		URL: s.KeyVaultURL, Credential: a.Credential, Transport: a.Transport, Logger: logger,
		RefusedLimits: map[string]time.Duration{s.AdminKeySecret: refusedAdminKey},
	})
}

func rootCertificates(s settings.Values) (*x509.CertPool, error) {
	if s.CAFile == "" {
		return nil, nil //nolint:nilnil // nil = the system's certificates
	}
	pem, err := os.ReadFile(s.CAFile)
	if err != nil {
		return nil, fmt.Errorf("GATEWAY_DEV_CA_FILE: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	pool.AppendCertsFromPEM(pem) // cannot fail: parseCAFile has checked the file
	return pool, nil
}
