package stack_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"aoaigateway/handler/logs"
	"aoaigateway/handler/logs/export"
)

// The settings file leads to the sink as the deployed settings lead to Log Analytics: the
// identity endpoint gives the token, the CA file the trust.
func TestSettingsFileOpensSink(t *testing.T) {
	s := start(t)
	for _, name := range []string{"IDENTITY_ENDPOINT", "IDENTITY_HEADER"} {
		t.Setenv(name, sourced(t, s.EnvFile, name))
	}
	identity, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{
		ID: azidentity.ClientID(sourced(t, s.EnvFile, "AZURE_CLIENT_ID")),
	})
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(sourced(t, s.EnvFile, "GATEWAY_DEV_CA_FILE"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	t.Cleanup(transport.CloseIdleConnections)
	shipper, err := export.NewShipper(export.ShipperOptions{
		Endpoint: sourced(t, s.EnvFile, "GATEWAY_LOGS_ENDPOINT"), RuleID: sourced(t, s.EnvFile, "GATEWAY_LOGS_RULE"), Credential: identity,
		Transport:  transport,
		DeadLetter: func(context.Context, logs.Row, string) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := shipper.Ship(ctx, []logs.Row{{TimeGenerated: time.Now(), RecordID: "r1"}}); err != nil {
		t.Fatal(err)
	}
	_, rows := call(t, http.MethodGet, s.Logs.Control+"/rows", nil)
	var row logs.Row
	if err := json.Unmarshal([]byte(strings.TrimSpace(rows)), &row); err != nil || row.RecordID != "r1" {
		t.Errorf("%v: %s", err, rows)
	}
	if _, violations := call(t, http.MethodGet, s.Logs.Control+"/violations", nil); strings.TrimSpace(violations) != "[]" {
		t.Errorf("%s", violations)
	}
}
