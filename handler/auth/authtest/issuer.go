// Package authtest simulates an Entra tenant in tests: it publishes keys and signs access
// tokens with them.
package authtest

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// Ids of the tenant, of its only user and of its only application.
const (
	Tenant = "11111111-0000-4000-8000-000000000001"
	Client = "22222222-0000-4000-8000-000000000002" // the gateway's app registration
	Person = "33333333-0000-4000-8000-000000000003"
	App    = "44444444-0000-4000-8000-000000000004"
)

// Issuer is the simulated tenant. It is an http.RoundTripper and an http.Handler.
type Issuer struct {
	mu      sync.Mutex
	keys    map[string]*rsa.PrivateKey
	current string
	away    bool
	asked   int
}

// New returns a tenant with one key.
func New() *Issuer {
	i := &Issuer{keys: map[string]*rsa.PrivateKey{}}
	i.Rotate("key-1")
	return i
}

// Rotate replaces all keys by a new one with the id kid. Later tokens are signed with it.
func (i *Issuer) Rotate(kid string) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys, i.current = map[string]*rsa.PrivateKey{kid: key}, kid
}

// SetAway makes the tenant answer all requests with an error if away is true; false ends
// that.
func (i *Issuer) SetAway(away bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.away = away
}

// Asked returns how often clients have requested the keys.
func (i *Issuer) Asked() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked
}

// Key returns the current signing key and its id.
func (i *Issuer) Key() (kid string, key *rsa.PrivateKey) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.current, i.keys[i.current]
}

// RoundTrip answers a request without a network.
func (i *Issuer) RoundTrip(r *http.Request) (*http.Response, error) {
	status, body := i.answer(r.URL.Path)
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(body)), Request: r,
	}, nil
}

// ServeHTTP answers requests for the published keys.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status, body := i.answer(r.URL.Path)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

func (i *Issuer) answer(path string) (status int, body []byte) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.asked++
	if i.away || path != "/"+Tenant+"/discovery/v2.0/keys" {
		return http.StatusServiceUnavailable, []byte(`{"error":"away"}`)
	}
	list := []map[string]any{{"kty": "EC", "kid": "other", "crv": "P-256"}}
	for kid, k := range i.keys {
		list = append(list, map[string]any{
			"kty": "RSA", "use": "sig", "kid": kid, "e": "AQAB", "n": base64.RawURLEncoding.EncodeToString(k.N.Bytes()), "x5c": []string{"…"},
		})
	}
	body, err := json.Marshal(map[string]any{"keys": list})
	if err != nil {
		panic(err)
	}
	return http.StatusOK, body
}

// Claims returns the claims of a version 2.0 token that the user got through App. It is
// valid for an hour.
func Claims(roles ...string) map[string]any {
	now := time.Now().Unix()
	return map[string]any{
		"iss": "https://login.microsoftonline.com/" + Tenant + "/v2.0", "tid": Tenant, "aud": Client, "ver": "2.0",
		"iat": now, "nbf": now, "exp": now + 3600,
		"oid": Person, "azp": App, "scp": "user_impersonation", "preferred_username": "kim@example.com", "roles": roles,
	}
}

// AppClaims returns the claims of a version 1.0 token that App got for itself.
func AppClaims(roles ...string) map[string]any {
	c := Claims(roles...)
	for _, name := range []string{"azp", "scp", "preferred_username"} {
		delete(c, name)
	}
	c["iss"], c["aud"], c["ver"] = "https://sts.windows.net/"+Tenant+"/", "api://"+Client, "1.0"
	c["appid"], c["oid"], c["app_displayname"] = App, "55555555-0000-4000-8000-000000000005", "Nightly"
	return c
}

// Token returns a token with the given claims, signed with the current key.
func (i *Issuer) Token(claims map[string]any) string {
	body, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	kid, _ := i.Key()
	return i.Sign(fmt.Sprintf(`{"typ":"JWT","alg":"RS256","kid":%q}`, kid), string(body))
}

// Sign returns a token with exactly this header and these claims. It signs with RS256 even
// if the header names another algorithm.
func (i *Issuer) Sign(header, claims string) string {
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
	sum := sha256.New()
	_, _ = io.WriteString(sum, text)
	_, key := i.Key()
	sig, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum.Sum(nil))
	if err != nil {
		panic(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(sig)
}
