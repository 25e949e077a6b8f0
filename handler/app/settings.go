package app

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"aoaigateway/handler/backend"
	"aoaigateway/handler/logs"
)

// settings is everything the process is told from outside. One loader fills it; no
// package reads the environment.
type Settings struct {
	Port                   string
	Backends               []backend.Region
	PolicyFile             string
	Storage                string // connection string; local work only
	TableURL               string
	BlobURL                string
	KeyVaultURL            string
	Secrets                map[string]string // instead of a vault; local work only
	AdminKeySecret         string
	APIVersionFloor        string
	Fronted                bool
	MaxBodyMB              int64
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
	Entra                  EntraSettings
	LogsURL                string // Logs Ingestion endpoint; empty = rows are not shipped
	LogsRuleID             string
	LogsStream             string
	CAFile                 string
	InAzure                bool
	ClientID               string // of a user-assigned identity
}

// setting is one row of the table that the loader walks and the README shows.
type setting struct {
	Name  string
	Value string // default; empty = none
	Help  string
	set   func(*Settings, string) error
}

var SettingRows = []setting{
	{"GATEWAY_BACKENDS", "", "Regions, a JSON array of `{name, endpoint, priority, weight, credential, apiVersion?, models: {model: deployment}}`; `credential` is `managedIdentity` or a secret's name. Required.", (*Settings).setBackends},
	{"GATEWAY_POLICY", "policy.yaml", "The policy file: products, models, limits.", func(s *Settings, v string) error { s.PolicyFile = v; return nil }},
	{"GATEWAY_STORAGE", "", "Storage connection string, or `UseDevelopmentStorage=true`. Local work only.", (*Settings).setStorage},
	{"GATEWAY_TABLE_ENDPOINT", "", "Table Storage endpoint, reached with the managed identity.", urlInto("https://<account>.table.core.windows.net", func(s *Settings) *string { return &s.TableURL })},
	{"GATEWAY_BLOB_ENDPOINT", "", "Blob Storage endpoint, reached with the managed identity.", urlInto("https://<account>.blob.core.windows.net", func(s *Settings) *string { return &s.BlobURL })},
	{"GATEWAY_KEY_VAULT_URI", "", "Key Vault that holds the secrets, reached with the managed identity.", urlInto("https://<vault>.vault.azure.net", func(s *Settings) *string { return &s.KeyVaultURL })},
	{"GATEWAY_SECRETS", "", "Secrets as a JSON object of name to value, instead of a vault. Local work only.", (*Settings).setSecrets},
	{"GATEWAY_ADMIN_KEY_SECRET", "gateway-admin-key", "Name of the secret that holds the admin key.", func(s *Settings, v string) error { s.AdminKeySecret = v; return nil }},
	{"GATEWAY_ENTRA_TENANT", "", "Id of the Entra tenant whose access tokens callers may send. Empty: tokens are not taken.", (*Settings).setEntraTenant},
	{"GATEWAY_ENTRA_AUDIENCE", "", "What tokens must be for: the client id of the gateway's registration, or `api://` and that; several with commas.", (*Settings).setEntraAudience},
	{"GATEWAY_ENTRA_PRODUCT", "", "Product of callers with a token but neither a key nor an app role `product.<name>`. Empty: they are refused.", func(s *Settings, v string) error { s.Entra.Product = v; return nil }},
	{"GATEWAY_ENTRA_AUTHORITY", "https://login.microsoftonline.com", "Where the tenant's keys are published; another one in sovereign clouds.", urlInto("https://login.microsoftonline.us", func(s *Settings) *string { return &s.Entra.Authority })},
	{"GATEWAY_API_VERSION_FLOOR", "2024-10-21", "Classic calls with an older `api-version` are sent with this one.", (*Settings).setFloor},
	{"GATEWAY_FRONTED", "false", "`true` when every request comes through the Application Gateway, whose `X-Gateway-Client-IP` is then believed.", boolInto(func(s *Settings) *bool { return &s.Fronted })},
	{"GATEWAY_MAX_BODY_MB", "100", "Longest request body, MiB.", (*Settings).setMaxBody},
	{"GATEWAY_AUDIT", "strict", "`strict`: no answer completes before its record is durable. `relaxed`: it does after `GATEWAY_AUDIT_WAIT`.", (*Settings).setAudit},
	{"GATEWAY_AUDIT_WAIT", "15s", "How long an answer's end waits for its record.", durationInto(time.Second, func(s *Settings) *time.Duration { return &s.AuditWait })},
	{"GATEWAY_JOURNAL_INTERVAL", "100ms", "Records that come within this time share one append.", durationInto(time.Millisecond, func(s *Settings) *time.Duration { return &s.JournalInterval })},
	{"GATEWAY_FIRST_BYTE_TIMEOUT", "100s", "When the next region is asked for an answer that has not begun.", durationInto(time.Millisecond, func(s *Settings) *time.Duration { return &s.FirstByteTimeout })},
	{"GATEWAY_STREAM_FIRST_BYTE_TIMEOUT", "60s", "The same for streams.", durationInto(time.Millisecond, func(s *Settings) *time.Duration { return &s.StreamFirstByteTimeout })},
	{"GATEWAY_ANSWER_TIMEOUT", "220s", "When an answer that is no stream is given up with 504. The Functions front end cuts at 230 s.", durationInto(time.Second, func(s *Settings) *time.Duration { return &s.AnswerTimeout })},
	{"GATEWAY_SILENCE_TIMEOUT", "10m", "Silence in the middle of a region's answer after which it counts as cut.", durationInto(time.Millisecond, func(s *Settings) *time.Duration { return &s.IdleTimeout })},
	{"GATEWAY_HEARTBEAT", "20s", "Silence on a stream after which a comment is sent.", durationInto(time.Millisecond, func(s *Settings) *time.Duration { return &s.Heartbeat })},
	{"GATEWAY_STREAM_BEGIN_AFTER", "100s", "When a stream is begun with a comment although no region has sent anything; failures after that are error events.", durationInto(time.Millisecond, func(s *Settings) *time.Duration { return &s.StreamBeginAfter })},
	{"GATEWAY_CLIENT_PACE", "60s", "How long a client may pause in the middle of its body, or not take its answer, before it is given up.", durationInto(time.Millisecond, func(s *Settings) *time.Duration { return &s.ClientIdleTimeout })},
	{"GATEWAY_LOGS_ENDPOINT", "", "Logs Ingestion endpoint of the data collection rule, reached with the managed identity. Empty: nothing goes to Log Analytics.", urlInto("https://<rule>.<region>-1.ingest.monitor.azure.com", func(s *Settings) *string { return &s.LogsURL })},
	{"GATEWAY_LOGS_RULE", "", "The rule's immutable id, `dcr-…`.", (*Settings).setLogsRule},
	{"GATEWAY_LOGS_STREAM", logs.Stream, "The rule's stream.", (*Settings).setLogsStream},
	{"GATEWAY_DEV_CA_FILE", "", "PEM file of certificates to trust besides the system's. Refused in Azure.", (*Settings).setCAFile},
}

// platform are the variables of the Functions host and of azidentity that matter here.
const (
	PortVariable   = "FUNCTIONS_CUSTOMHANDLER_PORT"
	AzureVariable  = "WEBSITE_INSTANCE_ID" // set by App Service and Functions, never locally
	ClientVariable = "AZURE_CLIENT_ID"
)

// loadSettings reads every setting and reports all mistakes together, a line each.
func LoadSettings(environ []string) (Settings, error) { return SettingsFor(Serving, environ) }

// settingsFor wants only what the work at hand needs.
func SettingsFor(what Purpose, environ []string) (Settings, error) {
	env := map[string]string{}
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		env[name] = value
	}
	s := Settings{Port: env[PortVariable], InAzure: env[AzureVariable] != "", ClientID: env[ClientVariable]}
	mistakes := unknownSettings(env)
	if port, err := strconv.Atoi(s.Port); s.Port != "" && (err != nil || port < 0 || port > 65535) {
		mistakes = append(mistakes, fmt.Errorf("%s: must be a port number, not %q", PortVariable, s.Port))
	}
	for _, row := range SettingRows {
		value := env[row.Name]
		if value == "" {
			value = row.Value
		}
		if value == "" {
			continue
		}
		if err := row.set(&s, value); err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				mistakes = append(mistakes, errors.New(row.Name+": "+line))
			}
		}
	}
	mistakes = append(mistakes, missing(what, env)...)
	mistakes = append(mistakes, s.contradictions()...)
	return s, errors.Join(mistakes...)
}

// commandVariables are the command line's own.
var commandVariables = []string{"GATEWAY_URL", "GATEWAY_ADMIN_KEY"}

func unknownSettings(env map[string]string) (mistakes []error) {
	known := func(name string) bool {
		return slices.Contains(commandVariables, name) || slices.ContainsFunc(SettingRows, func(row setting) bool { return row.Name == name })
	}
	for name := range env {
		if strings.HasPrefix(name, "GATEWAY_") && !known(name) {
			mistakes = append(mistakes, fmt.Errorf("%s: no such setting; %s", name, nearest(name)))
		}
	}
	slices.SortFunc(mistakes, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return mistakes
}

// nearest suggests the setting that shares the most letter pairs with a misspelt one.
func nearest(name string) string {
	best, score := "", 0
	for _, row := range SettingRows {
		n := 0
		for i := len("GATEWAY_"); i+2 <= len(name); i++ {
			if strings.Contains(row.Name[len("GATEWAY_"):], name[i:i+2]) {
				n++
			}
		}
		if n > score {
			best, score = row.Name, n
		}
	}
	if best == "" {
		return "the README lists them"
	}
	return "did you mean " + best + "?"
}

// work is what the settings are read for.
type Purpose int

const (
	Serving      Purpose = iota
	ReadingBlobs         // a verb of the command line on tables and blobs
	Managing             // one on tables
)

func missing(what Purpose, env map[string]string) (mistakes []error) {
	need := func(ok bool, text string) {
		if !ok {
			mistakes = append(mistakes, errors.New(text))
		}
	}
	need(what != Serving || env["GATEWAY_BACKENDS"] != "", "GATEWAY_BACKENDS: not set; it names the regions, such as "+backendExample)
	need(env["GATEWAY_STORAGE"] != "" || env["GATEWAY_TABLE_ENDPOINT"] != "", "GATEWAY_TABLE_ENDPOINT: not set; set it to https://<account>.table.core.windows.net, or GATEWAY_STORAGE for local work")
	need(what == Managing || env["GATEWAY_STORAGE"] != "" || env["GATEWAY_BLOB_ENDPOINT"] != "", "GATEWAY_BLOB_ENDPOINT: not set; set it to https://<account>.blob.core.windows.net, or GATEWAY_STORAGE for local work")
	need(what != Serving || env["GATEWAY_SECRETS"] != "" || env["GATEWAY_KEY_VAULT_URI"] != "", "GATEWAY_KEY_VAULT_URI: not set; set it to https://<vault>.vault.azure.net, or GATEWAY_SECRETS for local work")
	return mistakes
}

func (s *Settings) contradictions() (mistakes []error) {
	add := func(text string, args ...any) { mistakes = append(mistakes, fmt.Errorf(text, args...)) }
	if s.Storage != "" && (s.TableURL != "" || s.BlobURL != "") {
		add("GATEWAY_STORAGE: set beside GATEWAY_TABLE_ENDPOINT or GATEWAY_BLOB_ENDPOINT; keep one way to storage")
	}
	if (s.Entra.Tenant == "") != (len(s.Entra.Audience) == 0) {
		add("GATEWAY_ENTRA_TENANT: goes with GATEWAY_ENTRA_AUDIENCE; set both or neither")
	}
	if s.Entra.Product != "" && s.Entra.Tenant == "" {
		add("GATEWAY_ENTRA_PRODUCT: goes with GATEWAY_ENTRA_TENANT; set both or neither")
	}
	if (s.LogsURL == "") != (s.LogsRuleID == "") {
		add("GATEWAY_LOGS_ENDPOINT: goes with GATEWAY_LOGS_RULE; set both or neither")
	}
	if strings.HasPrefix(s.LogsURL, "http:") {
		add("GATEWAY_LOGS_ENDPOINT: must begin with https://; a token is never sent without")
	}
	if s.Secrets != nil && s.KeyVaultURL != "" {
		add("GATEWAY_SECRETS: set beside GATEWAY_KEY_VAULT_URI; keep one of them")
	}
	if s.Secrets != nil {
		for _, r := range s.Backends {
			if r.Credential != backend.ManagedIdentity && s.Secrets[r.Credential] == "" {
				add("GATEWAY_SECRETS: has no %q, the credential of region %s", r.Credential, r.Name)
			}
		}
	}
	if !s.InAzure {
		return mistakes
	}
	if s.Storage != "" {
		add("GATEWAY_STORAGE: holds an account key, which is refused in Azure; set GATEWAY_TABLE_ENDPOINT and GATEWAY_BLOB_ENDPOINT")
	}
	if s.Secrets != nil {
		add("GATEWAY_SECRETS: refused in Azure; set GATEWAY_KEY_VAULT_URI")
	}
	if s.CAFile != "" {
		add("GATEWAY_DEV_CA_FILE: refused in Azure; remove it")
	}
	return mistakes
}

const backendExample = `[{"name":"eastus2","endpoint":"https://my-eastus2.openai.azure.com","priority":1,"weight":1,"credential":"managedIdentity","models":{"gpt-4o":"gpt-4o"}}]`

type backendJSON struct {
	Name       string            `json:"name"`
	Endpoint   string            `json:"endpoint"`
	Priority   *int              `json:"priority"`
	Weight     *int              `json:"weight"`
	Credential string            `json:"credential"`
	APIVersion string            `json:"apiVersion"`
	Models     map[string]string `json:"models"`
}

func (s *Settings) setBackends(v string) error {
	var list []backendJSON
	d := json.NewDecoder(strings.NewReader(v))
	d.DisallowUnknownFields()
	if err := d.Decode(&list); err != nil {
		return fmt.Errorf("is not the JSON array wanted (%w); an example is %s", err, backendExample)
	}
	if d.More() {
		return errors.New("has text after its JSON array; an example is " + backendExample)
	}
	if len(list) == 0 {
		return errors.New("names no region; an example is " + backendExample)
	}
	var mistakes []error
	seen := map[string]bool{}
	for i, b := range list {
		r, problems := b.region()
		if seen[b.Name] {
			problems = append(problems, "name stands twice")
		}
		seen[b.Name] = true
		for _, p := range problems {
			mistakes = append(mistakes, fmt.Errorf("region %d (%q): %s", i+1, b.Name, p))
		}
		s.Backends = append(s.Backends, r)
	}
	return errors.Join(mistakes...)
}

var plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func (b backendJSON) region() (r backend.Region, problems []string) {
	r = backend.Region{Name: b.Name, Priority: 1, Weight: 1, Credential: b.Credential, APIVersion: b.APIVersion, Models: b.Models}
	if b.Priority != nil {
		r.Priority = *b.Priority
	}
	if b.Weight != nil {
		r.Weight = *b.Weight
	}
	want := func(ok bool, text string) {
		if !ok {
			problems = append(problems, text)
		}
	}
	want(plainName.MatchString(b.Name), "name must be letters, digits, dots and dashes")
	want(r.Priority >= 1, "priority must be 1 or more; the lowest is asked first")
	want(r.Weight >= 1, "weight must be 1 or more")
	want(b.APIVersion == "" || datedVersion.MatchString(b.APIVersion), fmt.Sprintf("apiVersion must be one such as 2024-10-21, not %q", b.APIVersion))
	want(b.Credential != "", `credential must be "managedIdentity" or a secret's name`)
	want(len(b.Models) > 0, `models must map at least one model to a deployment, such as {"gpt-4o":"gpt-4o"}`)
	for model, deployment := range b.Models {
		want(plainName.MatchString(model) && plainName.MatchString(deployment), fmt.Sprintf("models: %q: %q must both be deployment names", model, deployment))
	}
	u, err := endpoint(b.Endpoint, "https://my-account.openai.azure.com")
	if err != nil {
		return r, append(problems, "endpoint "+err.Error())
	}
	r.Endpoint = u
	return r, problems
}

// endpoint wants https; plain http carries credentials only as far as this machine.
func endpoint(v, example string) (*url.URL, error) {
	if strings.ContainsAny(v, "@?#;=") { // a connection string, a signature, a password: not to be repeated
		return nil, errors.New("must be a URL such as " + example + ", without a user, a query or a key")
	}
	u, err := url.Parse(v)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("must be a URL such as %s, not %q", example, v)
	}
	if u.Scheme == "https" || u.Scheme == "http" && loopback(u.Hostname()) {
		return u, nil
	}
	return nil, fmt.Errorf("must begin with https:// (http:// only to this machine), not %q", v)
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

func urlInto(example string, field func(*Settings) *string) func(*Settings, string) error {
	return func(s *Settings, v string) error {
		u, err := endpoint(v, example)
		if err != nil {
			return err
		}
		*field(s) = strings.TrimSuffix(u.String(), "/")
		return nil
	}
}

func boolInto(field func(*Settings) *bool) func(*Settings, string) error {
	return func(s *Settings, v string) error {
		if v != "true" && v != "false" {
			return fmt.Errorf("must be true or false, not %q", v)
		}
		*field(s) = v == "true"
		return nil
	}
}

func durationInto(least time.Duration, field func(*Settings) *time.Duration) func(*Settings, string) error {
	return func(s *Settings, v string) error {
		d, err := time.ParseDuration(v)
		if err != nil || d < least || d > time.Hour {
			return fmt.Errorf("must be a duration from %v to 1h, such as 15s or 100ms, not %q", least, v)
		}
		*field(s) = d
		return nil
	}
}

// developmentStorage is what UseDevelopmentStorage=true stands for: Azurite on its usual
// ports with its published account, which no Go SDK expands.
const DevelopmentStorage = "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;" +
	"AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;" +
	"BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1;TableEndpoint=http://127.0.0.1:10002/devstoreaccount1;"

func (s *Settings) setStorage(v string) error {
	if strings.EqualFold(strings.TrimSuffix(strings.TrimSpace(v), ";"), "UseDevelopmentStorage=true") {
		s.Storage = DevelopmentStorage
		return nil
	}
	if !strings.Contains(v, "AccountName=") || !strings.Contains(v, "AccountKey=") {
		return errors.New("must be UseDevelopmentStorage=true or a connection string with AccountName and AccountKey")
	}
	_, key, _ := strings.Cut(v, "AccountKey=")
	key, _, _ = strings.Cut(key, ";")
	if _, err := base64.StdEncoding.DecodeString(key); err != nil {
		return errors.New("has an AccountKey that is no base64; copy the whole key")
	}
	s.Storage = v
	return nil
}

func (s *Settings) setSecrets(v string) error {
	if err := json.Unmarshal([]byte(v), &s.Secrets); err != nil || s.Secrets == nil {
		return errors.New(`must be a JSON object of strings, such as {"gateway-admin-key":"…"}`) // never the value: it holds secrets
	}
	return nil
}

var datedVersion = regexp.MustCompile(`^20\d\d-\d\d-\d\d(-preview)?$`)

func (s *Settings) setFloor(v string) error {
	if !datedVersion.MatchString(v) {
		return fmt.Errorf("must be an api-version such as 2024-10-21, not %q", v)
	}
	s.APIVersionFloor = v
	return nil
}

func (s *Settings) setMaxBody(v string) error {
	n, err := strconv.ParseInt(v, 10, 32)
	if err != nil || n < 1 || n > 1024 {
		return fmt.Errorf("must be a whole number of MiB from 1 to 1024, not %q", v)
	}
	s.MaxBodyMB = n
	return nil
}

func (s *Settings) setAudit(v string) error {
	if v != "strict" && v != "relaxed" {
		return fmt.Errorf("must be strict or relaxed, not %q", v)
	}
	s.AuditRelaxed = v == "relaxed"
	return nil
}

var ruleName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$`)

func (s *Settings) setLogsRule(v string) error {
	if !ruleName.MatchString(v) {
		return fmt.Errorf("must be the rule's immutable id, such as dcr-0123456789abcdef0123456789abcdef, not %q", v)
	}
	s.LogsRuleID = v
	return nil
}

func (s *Settings) setLogsStream(v string) error {
	if name, custom := strings.CutPrefix(v, "Custom-"); !custom || !ruleName.MatchString(name) {
		return fmt.Errorf("must be a custom stream such as %s, not %q", logs.Stream, v)
	}
	s.LogsStream = v
	return nil
}

func (s *Settings) setCAFile(v string) error {
	pem, err := os.ReadFile(v)
	if err != nil {
		return fmt.Errorf("cannot be read: %w", err)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(pem) {
		return errors.New("holds no PEM certificate")
	}
	s.CAFile = v
	return nil
}
