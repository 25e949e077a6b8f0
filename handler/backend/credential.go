package backend

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// CognitiveScope is the scope of tokens for Azure OpenAI.
const CognitiveScope = "https://cognitiveservices.azure.com/.default"

// authorize adds the region's credential to a request: a token of the gateway's identity,
// or a secret.
func (p *Pool) authorize(ctx context.Context, req *http.Request, r *Region, o tryOptions) error {
	if r.Credential == ManagedIdentity {
		if p.options.Identity == nil {
			return errors.New("backend: the region uses managedIdentity, but the gateway has no identity")
		}
		token, err := p.options.Identity.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{CognitiveScope}})
		if err != nil {
			return fmt.Errorf("backend: cannot get a token for region %s: %w", r.Name, err)
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
		return fmt.Errorf("backend: cannot read the secret of region %s: %w", r.Name, err)
	}
	req.Header.Set("Api-Key", key)
	return nil
}
