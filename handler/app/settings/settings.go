// Package settings reads the settings from environment variables: it has a table of all
// settings, the function that reads them, and their parsers.
package settings

import (
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"aoaigateway/handler/audit"
	"aoaigateway/handler/auth"
	"aoaigateway/handler/backend"
	"aoaigateway/handler/body"
	"aoaigateway/handler/front"
	"aoaigateway/handler/journal"
	"aoaigateway/handler/logs"
	"aoaigateway/handler/proxy"
)

// Values has the values of all settings. No other package reads environment variables.
type Values struct {
	Port     string     // port that the Functions host has chosen; empty = the process was not started to serve requests
	Hosted   bool       // true = the Functions host started the process, so the process ends when the host does
	InAzure  bool       // true = the process runs in App Service or Functions
	ClientID string     // client id of a user-assigned identity
	LogLevel slog.Level // lowest level of the process's log lines

	Backends       []backend.Region
	PolicyFile     string
	Storage        string // storage connection string; for local work only
	TableURL       string
	BlobURL        string
	KeyVaultURL    string
	Secrets        map[string]string // by name; used instead of Key Vault, for local work only
	AdminKeySecret string
	Entra          auth.EntraOptions // without Transport and Logger
	CAFile         string

	APIVersionFloor        string
	Fronted                bool
	MaxBodyMB              int64
	BodyMemoryMB           int64 // 0 = a quarter of the process's memory limit
	BodyDiskMB             int64
	AuditRelaxed           bool
	AuditWait              time.Duration
	JournalInterval        time.Duration
	FirstByteTimeout       time.Duration
	StreamFirstByteTimeout time.Duration
	AnswerTimeout          time.Duration
	IdleTimeout            time.Duration
	Heartbeat              time.Duration
	StreamBeginAfter       time.Duration
	ClientIdleTimeout      time.Duration

	LogsURL    string // Logs Ingestion endpoint; empty = no rows are sent to Log Analytics
	LogsRuleID string
	LogsStream string
}

// setting is one row of the table of settings, which the README shows.
type setting struct {
	Name    string
	Default string // empty = none
	Help    string
	parse   func(s *Values, value string) error
}

// Rows is the table of all settings.
var Rows = []setting{
	{
		"GATEWAY_BACKENDS", "",
		"Regions, a JSON array of `{name, endpoint, priority, weight, credential, apiVersion?, models: {model: deployment}}`; " +
			"`credential` is `managedIdentity` or the name of a secret. Required.",
		parseBackends,
	},
	{
		"GATEWAY_POLICY", "policy.yaml", "The policy file: products, models, limits.",
		text(func(s *Values) *string { return &s.PolicyFile }),
	},
	{
		"GATEWAY_STORAGE", "", "Storage connection string, or `UseDevelopmentStorage=true`. Local work only.",
		parseStorage,
	},
	{
		"GATEWAY_TABLE_ENDPOINT", "", "Table Storage endpoint, reached with the managed identity.",
		endpointURL(tableExample, func(s *Values) *string { return &s.TableURL }),
	},
	{
		"GATEWAY_BLOB_ENDPOINT", "", "Blob Storage endpoint, reached with the managed identity.",
		endpointURL(blobExample, func(s *Values) *string { return &s.BlobURL }),
	},
	{
		"GATEWAY_KEY_VAULT_URI", "", "Key Vault that holds the secrets, reached with the managed identity.",
		endpointURL(vaultExample, func(s *Values) *string { return &s.KeyVaultURL }),
	},
	{
		"GATEWAY_SECRETS", "", "Secrets as a JSON object of name to value, instead of a vault. Local work only.",
		parseSecrets,
	},
	{
		"GATEWAY_ADMIN_KEY_SECRET", "gateway-admin-key", "Name of the secret that holds the admin key.",
		text(func(s *Values) *string { return &s.AdminKeySecret }),
	},
	{
		"GATEWAY_ENTRA_TENANT", "", "Id of the Entra tenant whose access tokens callers may send. Empty: tokens are not accepted.",
		parseEntraTenant,
	},
	{
		"GATEWAY_ENTRA_AUDIENCE", "",
		"Accepted audiences of tokens: the client id of the gateway's app registration, or `api://` and that id; separated by commas.",
		parseEntraAudience,
	},
	{
		"GATEWAY_ENTRA_PRODUCT", "",
		"Product of callers that have a token but no key and no app role `product.<name>`. Empty: they are refused.",
		text(func(s *Values) *string { return &s.Entra.Product }),
	},
	{
		"GATEWAY_ENTRA_AUTHORITY", auth.DefaultAuthority,
		"Base URL at which the tenant's keys are published; sovereign clouds have another one.",
		endpointURL("https://login.microsoftonline.us", func(s *Values) *string { return &s.Entra.Authority }),
	},
	{
		"GATEWAY_API_VERSION_FLOOR", "2024-10-21", "Replaces an older `api-version` of a request on the classic surface.",
		parseVersionFloor,
	},
	{
		"GATEWAY_FRONTED", "false",
		"`true` when every request comes through the Application Gateway, whose `X-Gateway-Client-IP` then names the client.",
		boolean(func(s *Values) *bool { return &s.Fronted }),
	},
	{
		"GATEWAY_MAX_BODY_MB", strconv.Itoa(body.DefaultMaxBody >> 20), "Largest request body in MiB.",
		parseMaxBody,
	},
	{
		"GATEWAY_BODY_MEMORY_MB", "",
		"MiB of memory for the bodies up to 1 MiB of all requests together. Empty: a quarter of the process's memory limit.",
		mebibytes(func(s *Values) *int64 { return &s.BodyMemoryMB }),
	},
	{
		"GATEWAY_BODY_DISK_MB", strconv.Itoa(body.DefaultDisk >> 20),
		"MiB in the folder for temporary files for the larger bodies of all requests together.",
		mebibytes(func(s *Values) *int64 { return &s.BodyDiskMB }),
	},
	{
		"GATEWAY_AUDIT", "strict",
		"`strict`: no answer completes before its record is durable. `relaxed`: after `GATEWAY_AUDIT_WAIT` it completes without.",
		parseAudit,
	},
	{
		"GATEWAY_AUDIT_WAIT", short(audit.DefaultWait), "How long the end of an answer waits for its record to become durable.",
		duration(time.Second, func(s *Values) *time.Duration { return &s.AuditWait }),
	},
	{
		"GATEWAY_JOURNAL_INTERVAL", short(journal.DefaultInterval), "Time between the beginnings of two appends; records in between share one.",
		duration(time.Millisecond, func(s *Values) *time.Duration { return &s.JournalInterval }),
	},
	{
		"GATEWAY_FIRST_BYTE_TIMEOUT", short(backend.DefaultFirstByteTimeout),
		"After this time without the first byte of an answer, the next region is asked.",
		duration(time.Millisecond, func(s *Values) *time.Duration { return &s.FirstByteTimeout }),
	},
	{
		"GATEWAY_STREAM_FIRST_BYTE_TIMEOUT", short(backend.DefaultStreamFirstByteTimeout), "The same for streams.",
		duration(time.Millisecond, func(s *Values) *time.Duration { return &s.StreamFirstByteTimeout }),
	},
	{
		"GATEWAY_ANSWER_TIMEOUT", short(proxy.DefaultAnswerTimeout),
		"After this time a request for an answer that is no stream ends with 504, unless its answer has begun. Azure cuts after 230 s.",
		duration(time.Second, func(s *Values) *time.Duration { return &s.AnswerTimeout }),
	},
	{
		"GATEWAY_IDLE_TIMEOUT", short(backend.DefaultIdleTimeout),
		"A region's answer that has begun counts as broken off after this time without a byte.",
		duration(time.Millisecond, func(s *Values) *time.Duration { return &s.IdleTimeout }),
	},
	{
		"GATEWAY_HEARTBEAT", short(proxy.DefaultHeartbeat), "After this time without an event, a stream gets a comment.",
		duration(time.Millisecond, func(s *Values) *time.Duration { return &s.Heartbeat }),
	},
	{
		"GATEWAY_STREAM_BEGIN_AFTER", short(proxy.DefaultStreamBeginAfter),
		"A stream without an event after this time begins with a comment; failures after that are error events.",
		duration(time.Millisecond, func(s *Values) *time.Duration { return &s.StreamBeginAfter }),
	},
	{
		"GATEWAY_CLIENT_IDLE_TIMEOUT", short(front.DefaultClientIdleTimeout),
		"A request ends when its client sends nothing of the body, or accepts nothing of the answer, for this time.",
		duration(time.Millisecond, func(s *Values) *time.Duration { return &s.ClientIdleTimeout }),
	},
	{
		"GATEWAY_LOG_LEVEL", "info", "Lowest level of the process's own log lines: `debug`, `info`, `warn` or `error`.",
		parseLogLevel,
	},
	{
		"GATEWAY_LOGS_ENDPOINT", "",
		"Logs Ingestion endpoint of the data collection rule, reached with the managed identity. Empty: nothing goes to Log Analytics.",
		endpointURL(logsExample, func(s *Values) *string { return &s.LogsURL }),
	},
	{"GATEWAY_LOGS_RULE", "", "The rule's immutable id, `dcr-…`.", parseLogsRule},
	{"GATEWAY_LOGS_STREAM", logs.Stream, "The rule's stream.", parseLogsStream},
	{
		"GATEWAY_DEV_CA_FILE", "", "PEM file of certificates to trust besides the system's. Not allowed in Azure.",
		parseCAFile,
	},
}

// Endpoints for examples in messages.
const (
	tableExample = "https://<account>.table.core.windows.net"
	blobExample  = "https://<account>.blob.core.windows.net"
	vaultExample = "https://<vault>.vault.azure.net"
	logsExample  = "https://<rule>.<region>-1.ingest.monitor.azure.com"
)

// short writes a duration in a short form: 100ms, 60s, 10m.
func short(d time.Duration) string {
	switch {
	case d >= 10*time.Minute && d%time.Minute == 0:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d%time.Second == 0:
		return fmt.Sprintf("%ds", d/time.Second)
	}
	return d.String()
}
