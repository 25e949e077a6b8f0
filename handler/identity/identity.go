// Package identity keeps the tokens of a managed identity.
//
// The first token of an instance can take several seconds, which is longer than the time
// limits of most storage operations. So a token is fetched outside the time limit of the
// operation that needs it, and renewed while the old one is still valid.
package identity

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"golang.org/x/sync/singleflight"
)

const (
	fetchTimeout = 30 * time.Second // time limit of one fetch, including the credential's own retries
	renewPause   = 30 * time.Second // after a failed renewal, until the next one
	spare        = 2 * time.Minute  // a token is not used in the last part of its life, because a request takes time
)

// Tokens is a credential that returns kept tokens of another credential. Callers that wait
// for the same token share one fetch. The end of one caller's context does not end the
// fetch. Safe for concurrent use.
type Tokens struct {
	inner  azcore.TokenCredential
	logger *slog.Logger
	flight singleflight.Group

	mu   sync.Mutex
	kept map[string]keptToken // by scope
}

type keptToken struct {
	azcore.AccessToken

	renew time.Time // when to fetch the next token
}

var _ azcore.TokenCredential = (*Tokens)(nil)

// Keep returns a credential that keeps the tokens of inner. Inner must be a managed
// identity: its tokens depend only on the scope, not on the tenant or the claims of a
// request.
func Keep(inner azcore.TokenCredential, logger *slog.Logger) *Tokens {
	return &Tokens{inner: inner, logger: logger, kept: map[string]keptToken{}}
}

// GetToken implements azcore.TokenCredential.
func (t *Tokens) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	if o.Claims == "" { // a service that sends claims has refused the kept token
		token, ok := t.lookUp(key(o))
		if now := time.Now(); ok && now.Before(token.ExpiresOn.Add(-spare)) {
			if now.After(token.renew) {
				t.fetch(o)
			}
			return token.AccessToken, nil
		}
	}
	select {
	case r := <-t.fetch(o):
		token, _ := r.Val.(azcore.AccessToken)
		return token, r.Err
	case <-ctx.Done():
		return azcore.AccessToken{}, ctx.Err()
	}
}

// fetch starts a fetch of the token, or joins the one that runs.
func (t *Tokens) fetch(o policy.TokenRequestOptions) <-chan singleflight.Result {
	return t.flight.DoChan(key(o)+" "+o.Claims, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
		defer cancel()
		token, err := t.inner.GetToken(ctx, o)
		if err != nil {
			t.logger.Warn("the token of the managed identity cannot be fetched", "scope", key(o), "error", err)
			t.postpone(key(o))
			return nil, err
		}
		t.keep(key(o), token)
		return token, nil
	})
}

// keep stores a token. It is renewed when the issuer says so, otherwise at half its life.
func (t *Tokens) keep(scope string, token azcore.AccessToken) {
	renew := token.RefreshOn
	if renew.IsZero() {
		renew = time.Now().Add(time.Until(token.ExpiresOn) / 2)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept[scope] = keptToken{token, renew}
}

func (t *Tokens) postpone(scope string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if token, ok := t.kept[scope]; ok {
		token.renew = time.Now().Add(renewPause)
		t.kept[scope] = token
	}
}

func (t *Tokens) lookUp(scope string) (keptToken, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	token, ok := t.kept[scope]
	return token, ok
}

func key(o policy.TokenRequestOptions) string {
	if len(o.Scopes) == 0 {
		return ""
	}
	return o.Scopes[0]
}
