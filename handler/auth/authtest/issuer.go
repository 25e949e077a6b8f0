// Package authtest is a tenant of Entra for tests: it publishes keys and signs access
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

// Ids of the tenant, of its one person and of its one application.
const (
	Tenant = "11111111-0000-4000-8000-000000000001"
	Client = "22222222-0000-4000-8000-000000000002" // the gateway's registration
	Person = "33333333-0000-4000-8000-000000000003"
	App    = "44444444-0000-4000-8000-000000000004"
)

// Issuer is the tenant. It is an http.RoundTripper and an http.Handler.
type Issuer struct {
	mu      sync.Mutex
	keys    map[string]*rsa.PrivateKey
	current string
	away    bool
	asked   int
}

// New makes a tenant with one key.
func New() *Issuer {
	i := &Issuer{keys: map[string]*rsa.PrivateKey{}}
	i.Rotate("key-1")
	return i
}

// Rotate withdraws all keys, publishes a new one under kid, and signs with it from now on.
func (i *Issuer) Rotate(kid string) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys, i.current = map[string]*rsa.PrivateKey{kid: key}, kid
}

// SetAway makes the tenant answer with errors only, or answer normally again.
func (i *Issuer) SetAway(away bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.away = away
}

// Asked is how often the keys were requested.
func (i *Issuer) Asked() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked
}

// Key is the key that it signs with.
func (i *Issuer) Key() (kid string, key *rsa.PrivateKey) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.current, i.keys[i.current]
}

// RoundTrip answers without a network.
func (i *Issuer) RoundTrip(r *http.Request) (*http.Response, error) {
	status, body := i.answer(r.URL.Path)
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(body)), Request: r,
	}, nil
}

// ServeHTTP publishes the keys.
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

// Claims are those of a version 2.0 token that a person got through App. They are valid for
// an hour.
func Claims(roles ...string) map[string]any {
	now := time.Now().Unix()
	return map[string]any{
		"iss": "https://login.microsoftonline.com/" + Tenant + "/v2.0", "tid": Tenant, "aud": Client, "ver": "2.0",
		"iat": now, "nbf": now, "exp": now + 3600,
		"oid": Person, "azp": App, "scp": "user_impersonation", "preferred_username": "kim@example.com", "roles": roles,
	}
}

// AppClaims are those of a version 1.0 token that App got for itself.
func AppClaims(roles ...string) map[string]any {
	c := Claims(roles...)
	for _, name := range []string{"azp", "scp", "preferred_username"} {
		delete(c, name)
	}
	c["iss"], c["aud"], c["ver"] = "https://sts.windows.net/"+Tenant+"/", "api://"+Client, "1.0"
	c["appid"], c["oid"], c["app_displayname"] = App, "55555555-0000-4000-8000-000000000005", "Nightly"
	return c
}

// Token signs claims with the current key.
func (i *Issuer) Token(claims map[string]any) string {
	body, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	kid, _ := i.Key()
	return i.Sign(fmt.Sprintf(`{"typ":"JWT","alg":"RS256","kid":%q}`, kid), string(body))
}

// Sign signs a header and claims as they are, with RS256 whatever the header says.
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
