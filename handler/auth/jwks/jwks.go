// Package jwks fetches and caches the keys that a token issuer publishes (RFC 7517).
package jwks

import (
	"context"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"aoaigateway/handler/gateway"
)

// How long fetched keys are used, and how often they are fetched. Entra publishes a key
// well before it signs tokens with it.
const (
	freshFor     = time.Hour        // keys fetched longer ago are used, and fetched again in the background
	usableFor    = 24 * time.Hour   // keys fetched longer ago are not used
	fetchPause   = 30 * time.Second // least time between two fetches
	fetchTimeout = 5 * time.Second
	maxSize      = 1 << 20
)

// ErrUnknownKey reports that the issuer does not publish the key that a token names.
var ErrUnknownKey = errors.New("jwks: the issuer does not publish this key")

// Set holds the published keys of one issuer. It fetches them when the first token arrives.
// Tokens with invented key ids cause at most one fetch in each fetchPause.
type Set struct {
	url    string
	client *http.Client
	logger *slog.Logger
	flight singleflight.Group

	mu       sync.Mutex
	keys     map[string]*rsa.PublicKey // by kid; the map is replaced, never changed
	fetched  time.Time                 // when the keys were fetched
	next     time.Time                 // no fetch before this time
	failures int                       // failed fetches in a row
}

// New returns a Set of the keys published at url. It does not use the network yet.
func New(url string, transport http.RoundTripper, logger *slog.Logger) *Set {
	noRedirect := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	client := &http.Client{Transport: transport, CheckRedirect: noRedirect}
	return &Set{url: url, client: client, logger: logger}
}

// Key returns the public key with the id kid. It fails with ErrUnknownKey if the issuer
// does not publish the key, or with a *gateway.Error (IssuerUnavailable) if the keys cannot
// be fetched.
func (s *Set) Key(ctx context.Context, kid string) (*rsa.PublicKey, error) {
	now := s.lookup(kid)
	if now.key != nil && now.age < usableFor {
		if now.age >= freshFor && now.due {
			s.flight.DoChan("", func() (any, error) { return nil, s.fetch(ctx) })
		}
		return now.key, nil
	}
	var err error
	if now.due {
		err = s.wait(ctx)
		now = s.lookup(kid)
	}
	switch {
	case ctx.Err() != nil:
		return nil, gateway.ClientConnectionFailure.Because(ctx.Err())
	case now.age >= usableFor, now.key == nil && now.failing:
		return nil, gateway.IssuerUnavailable.Because(err).WithRetry(time.Second)
	case now.key == nil:
		return nil, ErrUnknownKey
	}
	return now.key, nil
}

// found is the result of looking for a key in the set.
type found struct {
	key     *rsa.PublicKey
	age     time.Duration // time since the keys were fetched
	due     bool          // fetchPause is over: the keys may be fetched
	failing bool          // the last fetch failed
}

func (s *Set) lookup(kid string) found {
	s.mu.Lock()
	defer s.mu.Unlock()
	age := usableFor
	if s.keys != nil {
		age = time.Since(s.fetched)
	}
	return found{s.keys[kid], age, !time.Now().Before(s.next), s.failures > 0}
}

// wait waits for a fetch that all waiting requests share. The fetch continues if a waiting
// request ends.
func (s *Set) wait(ctx context.Context) error {
	select {
	case r := <-s.flight.DoChan("", func() (any, error) { return nil, s.fetch(ctx) }):
		return r.Err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// fetch replaces the keys. If it fails, the old keys remain, and the next fetch may come
// sooner than otherwise.
func (s *Set) fetch(ctx context.Context) error {
	if !s.lookup("").due { // another fetch has ended since wait was called
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTimeout)
	defer cancel()
	keys, err := s.download(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.next = time.Now().Add(min(fetchPause, time.Second<<min(s.failures, 10)))
		s.failures++
		s.logger.Warn("the tenant's keys could not be fetched", "url", s.url, "error", err)
		return err
	}
	s.keys, s.fetched, s.failures = keys, time.Now(), 0
	s.next = s.fetched.Add(fetchPause)
	return nil
}

func (s *Set) download(ctx context.Context) (map[string]*rsa.PublicKey, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the issuer's key server answered %s, not 200", resp.Status)
	}
	var set struct {
		Keys []jwk `json:"keys"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxSize)).Decode(&set); err != nil {
		return nil, err
	}
	keys := map[string]*rsa.PublicKey{}
	for _, k := range set.Keys {
		if key := k.rsa(); key != nil {
			keys[k.ID] = key
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("the issuer's key server returned no usable RSA signing key")
	}
	return keys, nil
}

type jwk struct {
	Type     string `json:"kty"`
	Use      string `json:"use"`
	ID       string `json:"kid"`
	Modulus  string `json:"n"`
	Exponent string `json:"e"`
}

// rsa returns the RSA key. It returns nil for keys of another type or use, and for keys
// whose size is not accepted.
func (k jwk) rsa() *rsa.PublicKey {
	n, nerr := base64.RawURLEncoding.DecodeString(k.Modulus)
	e, eerr := base64.RawURLEncoding.DecodeString(k.Exponent)
	if k.Type != "RSA" || k.Use != "" && k.Use != "sig" || k.ID == "" || nerr != nil || eerr != nil || len(e) > 4 {
		return nil
	}
	key := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
	if bits := key.N.BitLen(); bits < 2048 || bits > 8192 || key.E < 3 || key.E%2 == 0 {
		return nil
	}
	return key
}
