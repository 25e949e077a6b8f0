package backend

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

const cognitiveScope = "https://cognitiveservices.azure.com/.default"

// authorize puts the region's credential on a request.
func (p *Pool) authorize(ctx context.Context, req *http.Request, r *Region, o tryOptions) error {
	if r.Credential == ManagedIdentity {
		if p.options.Identity == nil {
			return errors.New("backend: no identity to ask for a token")
		}
		token, err := p.options.Identity.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{cognitiveScope}})
		if err != nil {
			return fmt.Errorf("backend: token for %s: %w", r.Name, err)
		}
		req.Header.Set("Authorization", "Bearer "+token.Token)
		return nil
	}
	get := p.options.Secrets.Get
	if o.renewSecret {
		get = p.options.Secrets.Refresh
	}
	key, err := get(ctx, r.Credential)
	if err != nil {
		return fmt.Errorf("backend: secret for %s: %w", r.Name, err)
	}
	req.Header.Set("Api-Key", key)
	return nil
}
