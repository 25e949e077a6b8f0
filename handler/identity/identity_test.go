package identity_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"aoaigateway/handler/identity"
)

// endpoint is an identity endpoint with the delays that users measured on App Service.
type endpoint struct {
	fetches atomic.Int32
	fails   atomic.Bool
	renews  time.Duration // after this time a token must be renewed; 0 = the endpoint does not say
}

func (e *endpoint) GetToken(ctx context.Context, _ policy.TokenRequestOptions) (azcore.AccessToken, error) {
	n := e.fetches.Add(1)
	delay := 20 * time.Millisecond
	if n == 1 {
		delay = 6 * time.Second
	}
	select {
	case <-time.After(delay):
	case <-ctx.Done():
		return azcore.AccessToken{}, ctx.Err()
	}
	if e.fails.Load() {
		return azcore.AccessToken{}, errors.New("the endpoint fails")
	}
	token := azcore.AccessToken{Token: fmt.Sprint("token ", n), ExpiresOn: time.Now().Add(24 * time.Hour)}
	if e.renews > 0 {
		token.RefreshOn = time.Now().Add(e.renews)
	}
	return token, nil
}

var storage = policy.TokenRequestOptions{Scopes: []string{"https://storage.azure.com/.default"}}

func want(t *testing.T, c azcore.TokenCredential, limit time.Duration, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if token, err := c.GetToken(ctx, storage); err != nil || token.Token != text {
		t.Errorf("got %q, %v; want %q", token.Token, err, text)
	}
}

// Operations whose time limit is shorter than the first fetch fail, but the fetch goes on,
// so that a later operation with the same limit has its token.
func TestFirstTokenOutlivesCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &endpoint{}
		tokens := identity.Keep(e, slog.New(slog.DiscardHandler))
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if _, err := tokens.GetToken(ctx, storage); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("error %v", err)
				}
			})
		}
		all.Wait()
		time.Sleep(5100 * time.Millisecond)
		want(t, tokens, time.Millisecond, "token 1")
		if n := e.fetches.Load(); n != 1 {
			t.Errorf("%d fetches", n)
		}
	})
}

// At half its life a token is renewed, and no caller waits for the renewal.
func TestRenewalDelaysNobody(t *testing.T) {
	for _, renews := range []time.Duration{0, 12 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			e := &endpoint{renews: renews}
			tokens := identity.Keep(e, slog.New(slog.DiscardHandler))
			want(t, tokens, 10*time.Second, "token 1")
			time.Sleep(12*time.Hour + time.Second)
			want(t, tokens, time.Millisecond, "token 1")
			time.Sleep(time.Second)
			want(t, tokens, time.Millisecond, "token 2")
		})
	}
}

// While renewals fail the old token stays in use until it expires, and the endpoint is
// called once in 30 s, not once for each caller.
func TestFailedRenewalKeepsToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &endpoint{}
		tokens := identity.Keep(e, slog.New(slog.DiscardHandler))
		want(t, tokens, 10*time.Second, "token 1")
		e.fails.Store(true)
		time.Sleep(13 * time.Hour)
		for range 600 { // 10 minutes
			want(t, tokens, time.Millisecond, "token 1")
			time.Sleep(time.Second)
		}
		if n := e.fetches.Load(); n < 19 || n > 21 {
			t.Errorf("%d fetches in 10 minutes, want 20", n)
		}
		time.Sleep(11 * time.Hour)
		if _, err := tokens.GetToken(t.Context(), storage); err == nil {
			t.Error("an expired token is still in use")
		}
		e.fails.Store(false)
		if _, err := tokens.GetToken(t.Context(), storage); err != nil {
			t.Errorf("after the endpoint works again: %v", err)
		}
	})
}

// A service that refuses the kept token (continuous access evaluation) gets a new one.
func TestClaimsBypassKeptToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := identity.Keep(&endpoint{}, slog.New(slog.DiscardHandler))
		want(t, tokens, 10*time.Second, "token 1")
		o := storage
		o.Claims = `{"access_token":{}}`
		if token, err := tokens.GetToken(t.Context(), o); err != nil || token.Token != "token 2" {
			t.Errorf("got %q, %v", token.Token, err)
		}
		want(t, tokens, time.Millisecond, "token 2")
	})
}
