package settings

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

	"aoaigateway/handler/logs"
)

// The parsers below read the value of one setting into s. Their errors say what would be
// right. They do not repeat a value that may contain a secret.

func text(field func(*Values) *string) func(*Values, string) error {
	return func(s *Values, v string) error {
		*field(s) = v
		return nil
	}
}

func boolean(field func(*Values) *bool) func(*Values, string) error {
	return func(s *Values, v string) error {
		if v != "true" && v != "false" {
			return fmt.Errorf("must be true or false, not %q", v)
		}
		*field(s) = v == "true"
		return nil
	}
}

func duration(least time.Duration, field func(*Values) *time.Duration) func(*Values, string) error {
	return func(s *Values, v string) error {
		d, err := time.ParseDuration(v)
		if err != nil || d < least || d > time.Hour {
			return fmt.Errorf("must be a duration from %v to 1h, such as 15s or 100ms, not %q", least, v)
		}
		*field(s) = d
		return nil
	}
}

func endpointURL(example string, field func(*Values) *string) func(*Values, string) error {
	return func(s *Values, v string) error {
		u, err := parseEndpoint(v, example)
		if err != nil {
			return err
		}
		*field(s) = strings.TrimSuffix(u.String(), "/")
		return nil
	}
}

// parseEndpoint requires https, because requests contain credentials. It allows http for
// addresses of this machine only.
func parseEndpoint(v, example string) (*url.URL, error) {
	if strings.ContainsAny(v, "@?#;=") { // may be a connection string, a signature or a password
		return nil, errors.New("must be a URL such as " + example + ", without a user, a query or a key")
	}
	u, err := url.Parse(v)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("must be a URL such as %s, not %q", example, v)
	}
	if u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname()) {
		return u, nil
	}
	return nil, fmt.Errorf("must begin with https:// (http:// only to this machine), not %q", v)
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// DevelopmentStorage is the connection string that UseDevelopmentStorage=true stands for:
// Azurite on its default ports with its published account. The Go SDK does not know the
// short form.
const DevelopmentStorage = "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;" +
	"AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;" +
	"BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1;TableEndpoint=http://127.0.0.1:10002/devstoreaccount1;"

func parseStorage(s *Values, v string) error {
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
		return errors.New("the AccountKey is not valid base64; copy the whole key")
	}
	s.Storage = v
	return nil
}

func parseSecrets(s *Values, v string) error {
	if err := json.Unmarshal([]byte(v), &s.Secrets); err != nil || s.Secrets == nil {
		return errors.New(`must be a JSON object of strings, such as {"gateway-admin-key":"…"}`)
	}
	return nil
}

var (
	tenantForm   = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	audienceForm = regexp.MustCompile(`^([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|(api|https)://[^\s,]+)$`)
	datedVersion = regexp.MustCompile(`^20\d\d-\d\d-\d\d(-preview)?$`)
	ruleName     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$`)
)

func parseEntraTenant(s *Values, v string) error {
	if s.Entra.Tenant = strings.ToLower(v); !tenantForm.MatchString(s.Entra.Tenant) {
		return fmt.Errorf("must be the id of the tenant, as the command az account show --query tenantId prints it, not %q", v)
	}
	return nil
}

func parseEntraAudience(s *Values, v string) error {
	for audience := range strings.SplitSeq(v, ",") {
		if audience = strings.TrimSpace(audience); !audienceForm.MatchString(audience) {
			return fmt.Errorf("must be a client id, or a URI that begins with api:// or https://, not %q", audience)
		}
		s.Entra.Audience = append(s.Entra.Audience, audience)
	}
	return nil
}

func parseVersionFloor(s *Values, v string) error {
	if !datedVersion.MatchString(v) {
		return fmt.Errorf("must be an api-version such as 2024-10-21, not %q", v)
	}
	s.APIVersionFloor = v
	return nil
}

func parseMaxBody(s *Values, v string) error {
	n, err := strconv.ParseInt(v, 10, 32)
	if err != nil || n < 1 || n > 1024 {
		return fmt.Errorf("must be a whole number of MiB from 1 to 1024, not %q", v)
	}
	s.MaxBodyMB = n
	return nil
}

// mebibytes returns the parser of an amount of memory or disk space.
func mebibytes(field func(*Values) *int64) func(*Values, string) error {
	return func(s *Values, v string) error {
		n, err := strconv.ParseInt(v, 10, 32)
		if err != nil || n < 16 {
			return fmt.Errorf("must be a whole number of MiB from 16, not %q", v)
		}
		*field(s) = n
		return nil
	}
}

func parseAudit(s *Values, v string) error {
	if v != "strict" && v != "relaxed" {
		return fmt.Errorf("must be strict or relaxed, not %q", v)
	}
	s.AuditRelaxed = v == "relaxed"
	return nil
}

func parseLogLevel(s *Values, v string) error {
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, v) {
		return fmt.Errorf("must be debug, info, warn or error, not %q", v)
	}
	return s.LogLevel.UnmarshalText([]byte(v))
}

func parseLogsRule(s *Values, v string) error {
	if !ruleName.MatchString(v) {
		return fmt.Errorf("must be the rule's immutable id, such as dcr-0123456789abcdef0123456789abcdef, not %q", v)
	}
	s.LogsRuleID = v
	return nil
}

func parseLogsStream(s *Values, v string) error {
	if name, custom := strings.CutPrefix(v, "Custom-"); !custom || !ruleName.MatchString(name) {
		return fmt.Errorf("must be a custom stream such as %s, not %q", logs.Stream, v)
	}
	s.LogsStream = v
	return nil
}

func parseCAFile(s *Values, v string) error {
	pem, err := os.ReadFile(v)
	if err != nil {
		return fmt.Errorf("the file cannot be read: %w", err)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(pem) {
		return errors.New("the file contains no PEM certificate")
	}
	s.CAFile = v
	return nil
}
