package secret

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
	"github.com/tidwall/gjson"
	"golang.org/x/sync/singleflight"
)

const (
	defaultTTL        = 10 * time.Minute
	defaultRetryAfter = 30 * time.Second
	defaultTimeout    = 10 * time.Second
	defaultRefused    = 24 * time.Hour
)

// KeyVaultOptions say which vault to use and how long a value is cached. A zero time means
// its default.
type KeyVaultOptions struct {
	URL        string
	Credential azcore.TokenCredential
	Transport  policy.Transporter // nil = the SDK's transport
	TTL        time.Duration      // a value is read again after this time
	RetryAfter time.Duration      // after a failed read, the old value is used this long before another read

	// RefusedLimits say, by name, how long an old value stays in use while the vault answers
	// 401 or 403. The default is 24 hours.
	RefusedLimits map[string]time.Duration

	Timeout time.Duration // limit of one read, including retries
	Logger  *slog.Logger

	// Emulator allows the use of an emulator: it does not check that the vault's host
	// belongs to the resource in the authentication challenge, and it uses an older API
	// version.
	Emulator bool
}

// KeyVault is a Source that reads from Azure Key Vault. Callers that wait for the same
// value share one read. A value is cached for TTL. If the vault cannot be reached then, the
// old value stays in use, so that a gateway that has its secrets continues without the
// vault. If the vault refuses the read, the old value stays in use for a limited time. A
// secret that was deleted or disabled is not used any more.
type KeyVault struct {
	options KeyVaultOptions
	client  *azsecrets.Client
	flight  singleflight.Group

	mu    sync.Mutex
	known map[string]value
}

type value struct {
	text  string
	read  time.Time // when the vault returned it
	until time.Time // when to read it again
}

var _ Source = (*KeyVault)(nil)

// NewKeyVault returns a Source. It does not use the network yet.
func NewKeyVault(o KeyVaultOptions) (*KeyVault, error) {
	o.TTL = cmp.Or(o.TTL, defaultTTL)
	o.RetryAfter = cmp.Or(o.RetryAfter, defaultRetryAfter)
	o.Timeout = cmp.Or(o.Timeout, defaultTimeout)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	client := azsecrets.ClientOptions{ClientOptions: azcore.ClientOptions{
		Transport: o.Transport,
		Retry:     policy.RetryOptions{MaxRetries: 2, RetryDelay: 200 * time.Millisecond, MaxRetryDelay: 2 * time.Second},
	}}
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
	if refused(err) {
		limit := cmp.Or(k.options.RefusedLimits[name], defaultRefused)
		if time.Since(v.read) > limit {
			return "", err
		}
		k.options.Logger.Error("the vault refuses to return a secret; the gateway uses the old value for a limited time",
			"name", name, "until", v.read.Add(limit), "error", err)
	} else {
		k.options.Logger.Warn("the vault cannot be read; the gateway continues to use the old value of the secret", "name", name, "error", err)
	}
	v.until = time.Now().Add(k.options.RetryAfter)
	k.remember(name, v)
	return v.text, nil
}

// refused reports whether the vault answered that the gateway may not read the secret.
func refused(err error) bool {
	e, ok := errors.AsType[*azcore.ResponseError](err)
	return ok && (e.StatusCode == http.StatusUnauthorized || e.StatusCode == http.StatusForbidden)
}

// Refresh implements Source. It never returns a cached value.
func (k *KeyVault) Refresh(ctx context.Context, name string) (string, error) {
	return k.fetch(ctx, name)
}

// fetch reads a value from the vault. All waiting callers share the read, so the end of one
// caller's context does not end it.
func (k *KeyVault) fetch(ctx context.Context, name string) (string, error) {
	answer := k.flight.DoChan(name, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), k.options.Timeout)
		defer cancel()
		resp, err := k.client.GetSecret(ctx, name, "", nil)
		if e, ok := errors.AsType[*azcore.ResponseError](err); ok {
			switch {
			case e.StatusCode == http.StatusNotFound:
				return "", fmt.Errorf("%w: %s", ErrNotFound, name)
			case disabled(e):
				return "", fmt.Errorf("%w: %s is disabled", ErrNotFound, name)
			}
		}
		if err != nil {
			return "", fmt.Errorf("secret: %s: %w", name, err)
		}
		if resp.Value == nil || *resp.Value == "" {
			return "", fmt.Errorf("%w: the value of %s is empty", ErrNotFound, name)
		}
		now := time.Now()
		k.remember(name, value{text: *resp.Value, read: now, until: now.Add(k.options.TTL)})
		return *resp.Value, nil
	})
	select {
	case r := <-answer:
		return r.Val.(string), r.Err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// disabled reports whether the secret was disabled. The vault answers 403 Forbidden then,
// with the inner code SecretDisabled.
func disabled(e *azcore.ResponseError) bool {
	if e.StatusCode != http.StatusForbidden || e.RawResponse == nil {
		return false
	}
	body, err := runtime.Payload(e.RawResponse)
	return err == nil && gjson.GetBytes(body, "error.innererror.code").String() == "SecretDisabled"
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
