package settings

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"aoaigateway/handler/backend"
	"aoaigateway/handler/policy"
)

// Variables that the Functions host or Azure sets.
const (
	PortVariable   = "FUNCTIONS_CUSTOMHANDLER_PORT"
	AzureVariable  = "WEBSITE_SITE_NAME" // set by every plan of Azure Functions, but never on other machines
	ClientVariable = "AZURE_CLIENT_ID"
	HostVariable   = "FUNCTIONS_CUSTOMHANDLER_WORKER_ID" // set by the Functions host for its handler
)

// azureVariables are set only in Azure. Flex Consumption does not set the last one.
var azureVariables = []string{AzureVariable, "WEBSITE_SKU_NAME", "WEBSITE_INSTANCE_ID"}

// Purpose says what the settings are read for. It determines which settings are required.
type Purpose int

// The values of Purpose.
const (
	Serving      Purpose = iota
	ReadingBlobs         // a command that uses tables and blobs
	Managing             // a command that uses tables only
)

// Configure reads the settings and the policy. The error has the mistakes of both. With an
// error, the settings that could be read are set.
func Configure(environ []string) (Values, *policy.Policy, error) {
	s, err := For(Serving, environ)
	pol, perr := LoadPolicy(s)
	return s, pol, errors.Join(err, perr)
}

// For reads all settings and requires those that the purpose needs. The error has one line
// for each mistake.
func For(purpose Purpose, environ []string) (Values, error) {
	env := map[string]string{}
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
	}
	inAzure := slices.ContainsFunc(azureVariables, func(name string) bool { return env[name] != "" })
	s := Values{Port: env[PortVariable], Hosted: env[HostVariable] != "", InAzure: inAzure, ClientID: env[ClientVariable]}
	mistakes := unknownSettings(env)
	if port, err := strconv.Atoi(s.Port); s.Port != "" && (err != nil || port < 0 || port > 65535) {
		mistakes = append(mistakes, fmt.Errorf("%s: must be a port number, not %q", PortVariable, s.Port))
	}
	for _, row := range Rows {
		value := env[row.Name]
		if value == "" {
			value = row.Default
		}
		if value == "" {
			continue
		}
		if err := row.parse(&s, value); err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				mistakes = append(mistakes, errors.New(row.Name+": "+line))
			}
		}
	}
	mistakes = append(mistakes, missing(purpose, env)...)
	mistakes = append(mistakes, s.contradictions()...)
	if s.InAzure {
		mistakes = append(mistakes, s.refusedInAzure()...)
	}
	return s, errors.Join(mistakes...)
}

// commandVariables are the variables that only the command line reads.
var commandVariables = []string{"GATEWAY_URL", "GATEWAY_ADMIN_KEY"}

func unknownSettings(env map[string]string) (mistakes []error) {
	known := func(name string) bool {
		return slices.Contains(commandVariables, name) ||
			slices.ContainsFunc(Rows, func(row setting) bool { return row.Name == name })
	}
	for name := range env {
		if strings.HasPrefix(name, "GATEWAY_") && !known(name) {
			mistakes = append(mistakes, fmt.Errorf("%s: there is no setting with this name; %s", name, nearest(name)))
		}
	}
	slices.SortFunc(mistakes, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return mistakes
}

// nearest suggests the setting whose name is most similar to a misspelt name: it has the
// most pairs of letters in common.
func nearest(name string) string {
	best, most := "", 0
	for _, row := range Rows {
		n := 0
		for i := len("GATEWAY_"); i+2 <= len(name); i++ {
			if strings.Contains(row.Name[len("GATEWAY_"):], name[i:i+2]) {
				n++
			}
		}
		if n > most {
			best, most = row.Name, n
		}
	}
	if best == "" {
		return "handler/app/README.md lists all settings"
	}
	return "did you mean " + best + "?"
}

func missing(purpose Purpose, env map[string]string) (mistakes []error) {
	require := func(applies bool, name, local, advice string) {
		if applies && env[name] == "" && (local == "" || env[local] == "") {
			mistakes = append(mistakes, errors.New(name+": not set; "+advice))
		}
	}
	forLocalWork := func(example, local string) string {
		return "set it to " + example + ", or " + local + " for local work"
	}
	require(purpose == Serving, "GATEWAY_BACKENDS", "", "it names the regions, such as "+backendExample)
	require(true, "GATEWAY_TABLE_ENDPOINT", "GATEWAY_STORAGE", forLocalWork(tableExample, "GATEWAY_STORAGE"))
	require(purpose != Managing, "GATEWAY_BLOB_ENDPOINT", "GATEWAY_STORAGE", forLocalWork(blobExample, "GATEWAY_STORAGE"))
	require(purpose == Serving, "GATEWAY_KEY_VAULT_URI", "GATEWAY_SECRETS", forLocalWork(vaultExample, "GATEWAY_SECRETS"))
	return mistakes
}

func (s *Values) contradictions() (mistakes []error) {
	add := func(wrong bool, text string, args ...any) {
		if wrong {
			mistakes = append(mistakes, fmt.Errorf(text, args...))
		}
	}
	add(s.Storage != "" && (s.TableURL != "" || s.BlobURL != ""),
		"GATEWAY_STORAGE: set together with GATEWAY_TABLE_ENDPOINT or GATEWAY_BLOB_ENDPOINT; set either the connection string or the endpoints")
	add((s.Entra.Tenant == "") != (len(s.Entra.Audience) == 0),
		"GATEWAY_ENTRA_TENANT: needs GATEWAY_ENTRA_AUDIENCE, and the reverse; set both or neither")
	add(s.Entra.Product != "" && s.Entra.Tenant == "",
		"GATEWAY_ENTRA_PRODUCT: needs GATEWAY_ENTRA_TENANT; set GATEWAY_ENTRA_TENANT too, or remove this setting")
	add((s.LogsURL == "") != (s.LogsRuleID == ""),
		"GATEWAY_LOGS_ENDPOINT: needs GATEWAY_LOGS_RULE, and the reverse; set both or neither")
	add(strings.HasPrefix(s.LogsURL, "http:"),
		"GATEWAY_LOGS_ENDPOINT: must begin with https://, because the gateway sends a token there")
	add(s.MaxBodyMB*5 > s.BodyDiskMB*4,
		"GATEWAY_BODY_DISK_MB: is too small for one body of GATEWAY_MAX_BODY_MB, because a fifth stays free for other callers; "+
			"set it to %d or more", (s.MaxBodyMB*5+3)/4)
	add(s.Secrets != nil && s.KeyVaultURL != "",
		"GATEWAY_SECRETS: set together with GATEWAY_KEY_VAULT_URI; keep one of them")
	for _, r := range s.Backends {
		add(s.Secrets != nil && r.Credential != backend.ManagedIdentity && s.Secrets[r.Credential] == "",
			"GATEWAY_SECRETS: has no secret %q, which is the credential of the region %s; add it", r.Credential, r.Name)
	}
	return mistakes
}

func (s *Values) refusedInAzure() (mistakes []error) {
	if s.Storage != "" {
		mistakes = append(mistakes, errors.New("GATEWAY_STORAGE: contains an account key, which is not allowed in Azure; "+
			"set GATEWAY_TABLE_ENDPOINT and GATEWAY_BLOB_ENDPOINT"))
	}
	if s.Secrets != nil {
		mistakes = append(mistakes, errors.New("GATEWAY_SECRETS: not allowed in Azure; set GATEWAY_KEY_VAULT_URI instead"))
	}
	if s.CAFile != "" {
		mistakes = append(mistakes, errors.New("GATEWAY_DEV_CA_FILE: not allowed in Azure; remove it"))
	}
	return mistakes
}

// LoadPolicy reads the policy file and checks that it fits the settings.
func LoadPolicy(s Values) (*policy.Policy, error) {
	data, err := os.ReadFile(s.PolicyFile)
	if err != nil {
		return nil, fmt.Errorf("GATEWAY_POLICY: %w", err)
	}
	pol, err := policy.Parse(s.PolicyFile, data)
	if err != nil {
		return nil, err
	}
	var mistakes []error
	if _, ok := pol.Product(s.Entra.Product); s.Entra.Product != "" && !ok {
		mistakes = append(mistakes, fmt.Errorf("GATEWAY_ENTRA_PRODUCT: the policy file %s has no product %s; name one of its products",
			s.PolicyFile, s.Entra.Product))
	}
	for _, p := range pol.Products() {
		if p.HardTokens() {
			known := func(m policy.Model) bool { return m.ContextWindow > 0 }
			mistakes = append(mistakes, incompleteModels(pol, p, s, "has a hard token limit", "contextWindow", known)...)
		}
		if p.LimitsCost() {
			known := func(m policy.Model) bool { return m.Priced }
			mistakes = append(mistakes, incompleteModels(pol, p, s, "limits cost", "price", known)...)
		}
	}
	return pol, errors.Join(mistakes...)
}

// incompleteModels returns a mistake for each model that a region serves and the product
// allows, but for which the policy lacks a value that the product's limits need. For
// example, a hard limit on tokens charges the model's context window for requests that have
// no bound of their own.
func incompleteModels(
	pol *policy.Policy, p policy.Product, s Values, limit, need string, known func(policy.Model) bool,
) (mistakes []error) {
	seen := map[string]bool{}
	for _, r := range s.Backends {
		for model := range r.Models {
			m, _ := pol.Model(model)
			if !p.Allows(model) || known(m) || seen[model] {
				continue
			}
			seen[model] = true
			mistakes = append(mistakes, fmt.Errorf("%s: product %s %s and allows the model %s, whose %s is not in models; "+
				"add it, or leave the model out of the product", s.PolicyFile, p.Name, limit, model, need))
		}
	}
	return mistakes
}
