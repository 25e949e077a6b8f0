package secret_test

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	azfake "github.com/Azure/azure-sdk-for-go/sdk/azcore/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets/fake"

	"aoaigateway/handler/secret"
)

// vault is the SDK's own server with a value that changes and a way to fail.
type vault struct {
	value    atomic.Value
	fail     atomic.Int32 // status to answer; 0 = none
	disabled atomic.Bool
	asked    atomic.Int32
	slow     time.Duration
	limits   map[string]time.Duration
	inner    *fake.ServerTransport
}

// Do answers in the place of the SDK's server if the secret is disabled, because that server
// knows no inner codes. The answer has the form of traffic recorded by the SDK for
// JavaScript (keyvault-secrets).
func (v *vault) Do(r *http.Request) (*http.Response, error) {
	if !v.disabled.Load() {
		return v.inner.Do(r)
	}
	v.asked.Add(1)
	const body = `{"error":{"code":"Forbidden","message":"Operation get is not allowed on a disabled secret.",` +
		`"innererror":{"code":"SecretDisabled"}}}`
	return &http.Response{
		StatusCode: http.StatusForbidden, Status: "403 Forbidden", Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(body)), Request: r,
	}, nil
}

func (v *vault) source(t *testing.T) *secret.KeyVault {
	t.Helper()
	server := fake.Server{GetSecret: func(
		_ context.Context, name, _ string, _ *azsecrets.GetSecretOptions,
	) (resp azfake.Responder[azsecrets.GetSecretResponse], e azfake.ErrorResponder) {
		v.asked.Add(1)
		time.Sleep(v.slow)
		switch {
		case name != "known":
			e.SetResponseError(http.StatusNotFound, "SecretNotFound")
		case v.fail.Load() != 0:
			e.SetResponseError(int(v.fail.Load()), "Failing")
		default:
			text, _ := v.value.Load().(string)
			resp.SetResponse(http.StatusOK, azsecrets.GetSecretResponse{Secret: azsecrets.Secret{Value: &text}}, nil)
		}
		return resp, e
	}}
	v.inner = fake.NewServerTransport(&server)
	k, err := secret.NewKeyVault(secret.KeyVaultOptions{
		URL: "https://test.vault.azure.net", Credential: &azfake.TokenCredential{}, Transport: v, RefusedLimits: v.limits,
	})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func get(t *testing.T, s secret.Source, want string) {
	t.Helper()
	if got, err := s.Get(t.Context(), "known"); err != nil || got != want {
		t.Fatalf("got %q, %v; want %q", got, err, want)
	}
}

// A value is kept for its time then asked for again.
func TestGetCachesForTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &vault{}
		v.value.Store("one")
		k := v.source(t)
		get(t, k, "one")
		v.value.Store("two")
		time.Sleep(9 * time.Minute)
		get(t, k, "one")
		time.Sleep(2 * time.Minute)
		get(t, k, "two")
		if n := v.asked.Load(); n != 2 {
			t.Fatalf("asked %d times", n)
		}
	})
}

// A vault that fails is covered by the old value.
func TestGetServesStaleValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &vault{}
		v.value.Store("one")
		k := v.source(t)
		get(t, k, "one")
		v.fail.Store(http.StatusServiceUnavailable)
		time.Sleep(11 * time.Minute)
		get(t, k, "one")
		asked := v.asked.Load()
		get(t, k, "one")
		if v.asked.Load() != asked {
			t.Fatal("asked again at once")
		}
		v.fail.Store(0)
		v.value.Store("two")
		time.Sleep(31 * time.Second)
		get(t, k, "two")
	})
}

// A secret that an operator disables ends with the cached value, and works again when it is
// enabled.
func TestDisabledSecretIsNotUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &vault{}
		v.value.Store("one")
		k := v.source(t)
		get(t, k, "one")
		v.disabled.Store(true)
		time.Sleep(11 * time.Minute)
		if got, err := k.Get(t.Context(), "known"); !errors.Is(err, secret.ErrNotFound) || !strings.Contains(err.Error(), "disabled") {
			t.Fatalf("got %q, %v", got, err)
		}
		v.disabled.Store(false)
		get(t, k, "one")
	})
}

// While the vault refuses, the old value is used for a limited time; while it cannot be
// reached, without limit.
func TestRefusedValueEnds(t *testing.T) {
	for _, c := range []struct {
		limits map[string]time.Duration
		status int32
		limit  time.Duration // 0 = none
	}{
		{nil, http.StatusForbidden, 24 * time.Hour},
		{map[string]time.Duration{"known": time.Hour}, http.StatusForbidden, time.Hour},
		{map[string]time.Duration{"other": time.Hour}, http.StatusUnauthorized, 24 * time.Hour},
		{nil, http.StatusServiceUnavailable, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			v := &vault{limits: c.limits}
			v.value.Store("one")
			k := v.source(t)
			get(t, k, "one")
			v.fail.Store(c.status)
			end := cmp.Or(c.limit, 100*time.Hour)
			for start := time.Now(); time.Since(start) < end-time.Minute; time.Sleep(time.Minute) {
				get(t, k, "one")
			}
			time.Sleep(2 * time.Minute)
			if got, err := k.Get(t.Context(), "known"); (err == nil) != (c.limit == 0) {
				t.Errorf("status %d after %v: %q, %v", c.status, end, got, err)
			}
		})
	}
}

// Refresh never answers with the old value.
func TestRefreshIsNeverStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &vault{}
		v.value.Store("one")
		k := v.source(t)
		get(t, k, "one")
		v.value.Store("two")
		if got, err := k.Refresh(t.Context(), "known"); err != nil || got != "two" {
			t.Fatalf("%q, %v", got, err)
		}
		get(t, k, "two")
		v.fail.Store(http.StatusForbidden)
		if got, err := k.Refresh(t.Context(), "known"); err == nil {
			t.Fatalf("got %q from a vault that refuses", got)
		}
	})
}

// Many callers share one request; one that leaves ends only its own wait.
func TestGetSharesOneRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &vault{slow: time.Second}
		v.value.Store("one")
		k := v.source(t)
		impatient, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := k.Get(impatient, "known"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v", err)
			}
		})
		for range 20 {
			all.Go(func() {
				time.Sleep(10 * time.Millisecond)
				get(t, k, "one")
			})
		}
		all.Wait()
		if n := v.asked.Load(); n != 1 {
			t.Fatalf("asked %d times", n)
		}
	})
}

// An unknown name is not found.
func TestGetUnknownName(t *testing.T) {
	v := &vault{}
	for _, s := range []secret.Source{v.source(t), secret.Map{}} {
		if _, err := s.Get(t.Context(), "other"); !errors.Is(err, secret.ErrNotFound) {
			t.Errorf("%T: %v", s, err)
		}
	}
}
