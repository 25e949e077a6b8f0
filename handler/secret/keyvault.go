package secret

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
	"golang.org/x/sync/singleflight"
)

// KeyVaultOptions say where the vault is and how long a value is trusted.
type KeyVaultOptions struct {
	URL        string
	Credential azcore.TokenCredential
	Transport  policy.Transporter // nil = the SDK's
	TTL        time.Duration      // a value is used this long before it is asked for again; default 10 min
	RetryAfter time.Duration      // after a failed renewal the old value serves this long; default 30 s
	Timeout    time.Duration      // of one question to the vault, retries included; default 10 s
	Logger     *slog.Logger

	// Emulator relaxes two checks no vault in Azure needs relaxed: that the vault's host
	// belongs to the challenge's resource, and the newest API version.
	Emulator bool
}

// KeyVault is a Source over Azure Key Vault. A value is fetched once for all who wait
// for it, kept for TTL, and served stale while the vault is away: a gateway that has
// its keys does not stop for a vault that does not answer.
type KeyVault struct {
	options KeyVaultOptions
	client  *azsecrets.Client
	flight  singleflight.Group

	mu    sync.Mutex
	known map[string]value
}

type value struct {
	text  string
	until time.Time
}

var _ Source = (*KeyVault)(nil)

// NewKeyVault returns a source; it asks nothing yet.
func NewKeyVault(o KeyVaultOptions) (*KeyVault, error) {
	o.TTL = defaulted(o.TTL, 10*time.Minute)
	o.RetryAfter = defaulted(o.RetryAfter, 30*time.Second)
	o.Timeout = defaulted(o.Timeout, 10*time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	client := azsecrets.ClientOptions{ClientOptions: azcore.ClientOptions{Transport: o.Transport, Retry: policy.RetryOptions{MaxRetries: 2, RetryDelay: 200 * time.Millisecond, MaxRetryDelay: 2 * time.Second}}}
	if o.Emulator {
		client.DisableChallengeResourceVerification = true
		client.APIVersion = "2025-07-01"
	}
	c, err := azsecrets.NewClient(o.URL, o.Credential, &client)
	if err != nil {
		return nil, fmt.Errorf("secret: key vault %s: %w", o.URL, err)
	}
	return &KeyVault{options: o, client: c, known: map[string]value{}}, nil
}

func defaulted(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

// Get implements Source.
func (k *KeyVault) Get(ctx context.Context, name string) (string, error) {
	v, ok := k.remembered(name)
	if ok && time.Now().Before(v.until) {
		return v.text, nil
	}
	fresh, err := k.fetch(ctx, name)
	if err == nil || !ok || errors.Is(err, ErrNotFound) {
		return fresh, err
	}
	k.options.Logger.Warn("secret served stale", "name", name, "error", err)
	k.remember(name, value{v.text, time.Now().Add(k.options.RetryAfter)})
	return v.text, nil
}

// Refresh implements Source. It asks once, and never answers with the old value.
func (k *KeyVault) Refresh(ctx context.Context, name string) (string, error) {
	return k.fetch(ctx, name)
}

// fetch asks the vault. The question belongs to all who wait for it, so that one
// caller's leaving does not fail the others.
func (k *KeyVault) fetch(ctx context.Context, name string) (string, error) {
	answer := k.flight.DoChan(name, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), k.options.Timeout)
		defer cancel()
		resp, err := k.client.GetSecret(ctx, name, "", nil)
		if e, ok := errors.AsType[*azcore.ResponseError](err); ok && e.StatusCode == http.StatusNotFound {
			return "", fmt.Errorf("%w: %s", ErrNotFound, name)
		}
		if err != nil {
			return "", fmt.Errorf("secret: %s: %w", name, err)
		}
		if resp.Value == nil || *resp.Value == "" {
			return "", fmt.Errorf("%w: %s is empty", ErrNotFound, name)
		}
		k.remember(name, value{*resp.Value, time.Now().Add(k.options.TTL)})
		return *resp.Value, nil
	})
	select {
	case r := <-answer:
		return r.Val.(string), r.Err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (k *KeyVault) remembered(name string) (value, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	v, ok := k.known[name]
	return v, ok
}

func (k *KeyVault) remember(name string, v value) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.known[name] = v
}
