package harness

import (
	"context"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"aoaigateway/handler/devstack/loganalytics"
)

// TokenMaker simulates the managed identity.
type TokenMaker struct{ loganalytics.Tokens }

// GetToken implements azcore.TokenCredential.
func (m TokenMaker) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	token := m.Make(strings.TrimSuffix(o.Scopes[0], "/.default"), time.Hour)
	return azcore.AccessToken{Token: token, ExpiresOn: time.Now().Add(time.Hour)}, nil
}
