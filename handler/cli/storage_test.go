package cli

import (
	"os"
	"path/filepath"
	"testing"

	azpolicy "github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"aoaigateway/handler/app/settings"
)

// The person's token comes from az, or else from azd. A stand-in for each prints a token.
func TestOperatorCredential(t *testing.T) {
	const fromAzd = `echo '{"token":"from-azd","expiresOn":"2099-12-31T00:00:00Z"}'`
	for name, c := range map[string]struct{ az, azd, want string }{
		"az":               {`echo '{"accessToken":"from-az","expires_on":4102444800}'`, fromAzd, "from-az"},
		"az is signed out": {`echo "Please run 'az login' to setup account." >&2; exit 1`, fromAzd, "from-azd"},
	} {
		t.Run(name, func(t *testing.T) {
			bin := t.TempDir()
			for tool, script := range map[string]string{"az": c.az, "azd": c.azd} {
				if err := os.WriteFile(filepath.Join(bin, tool), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
			credential, err := operator(settings.Values{TableURL: "https://x.table.core.windows.net"})
			if err != nil {
				t.Fatal(err)
			}
			token, err := credential.GetToken(t.Context(), azpolicy.TokenRequestOptions{Scopes: []string{"https://storage.azure.com/.default"}})
			if err != nil || token.Token != c.want {
				t.Errorf("%q, %v; want %q", token.Token, err, c.want)
			}
		})
	}
}
