package auth

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"

	"aoaigateway/handler/gateway"
)

const (
	defaultTTL      = time.Minute
	defaultStaleFor = 10 * time.Minute
	defaultSize     = 20_000
)

// Options of an Authenticator. A zero number or time means its default.
type Options struct {
	TTL      time.Duration // how long the result of a key's lookup is used without another lookup
	StaleFor time.Duration // how long the lookup of a valid key is used while the table cannot be read
	Size     int           // entries in each of the two caches: of valid keys and of invalid keys
	Entra    *Entra        // checks tokens; nil = no tokens are accepted
}

// Authenticator finds out who sent a request, and refuses unknown callers. Safe for
// concurrent use.
type Authenticator struct {
	options        Options
	subscriptions  *Subscriptions
	valid, invalid *lru.Cache[string, keyAnswer] // by key hash; two caches, so that guessed keys do not evict valid ones
	flight         singleflight.Group
}

// keyAnswer is the result of a key's lookup in the table.
type keyAnswer struct {
	sub Subscription
	err error // errInvalidKey; nil = the key is valid
	at  time.Time
}

// New returns an Authenticator with empty caches.
func New(s *Subscriptions, o Options) *Authenticator {
	o.TTL, o.StaleFor = cmp.Or(o.TTL, defaultTTL), cmp.Or(o.StaleFor, defaultStaleFor)
	o.Size = max(cmp.Or(o.Size, defaultSize), 1)
	valid, _ := lru.New[string, keyAnswer](o.Size) // fails only for sizes below 1
	invalid, _ := lru.New[string, keyAnswer](o.Size)
	return &Authenticator{options: o, subscriptions: s, valid: valid, invalid: invalid}
}

// Authenticate returns the caller of the request. With an error it still returns what is
// known of the caller, for the record. It does not set Caller.IP; package front does.
func (a *Authenticator) Authenticate(r *http.Request) (gateway.Caller, error) {
	key, token := credentials(r.Header, r.URL.RawQuery)
	entra := a.options.Entra
	switch {
	case key == "" && token == "":
		return gateway.Caller{}, gateway.SubscriptionKeyNotFound.Because(nil)
	case key == "" && entra == nil:
		return gateway.Caller{}, gateway.TokenNotAccepted.Because(nil)
	case key == "":
		who, err := entra.Verify(r.Context(), token)
		if err != nil {
			return gateway.Caller{}, err
		}
		return entra.caller(who, r.Header.Get(productHeader))
	}
	caller, err := a.byKey(r.Context(), key)
	if err != nil || token == "" || entra == nil {
		return caller, err
	}
	// A request with an invalid token is refused even if its key is valid. Otherwise its
	// usage would be counted without the user.
	who, err := entra.Verify(r.Context(), token)
	caller.User = who.Object
	return caller, err
}

func (a *Authenticator) byKey(ctx context.Context, key string) (gateway.Caller, error) {
	hash := hashOf(key)
	sub, err := a.lookup(ctx, hash)
	if err != nil {
		return gateway.Caller{}, err
	}
	caller := gateway.Caller{Subscription: sub.ID, Name: sub.Name, Product: sub.Product, KeySlot: sub.slotOf(hash)}
	if sub.State != Active {
		return caller, errInvalidKey()
	}
	return caller, nil
}

func (a *Authenticator) lookup(ctx context.Context, hash string) (Subscription, error) {
	old, ok := a.valid.Get(hash)
	if !ok {
		old, ok = a.invalid.Get(hash)
	}
	if ok && time.Since(old.at) < a.options.TTL {
		return old.sub, old.err
	}
	fresh := a.flight.DoChan(hash, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		sub, err := a.subscriptions.byHash(ctx, hash)
		switch {
		case err == nil:
			a.valid.Add(hash, keyAnswer{sub, nil, time.Now()})
			a.invalid.Remove(hash)
		case gateway.KindOf(err) == gateway.Unauthenticated:
			a.invalid.Add(hash, keyAnswer{sub, err, time.Now()})
			a.valid.Remove(hash)
		}
		return sub, err
	})
	select {
	case r := <-fresh:
		unreachable := r.Err != nil && gateway.KindOf(r.Err) != gateway.Unauthenticated
		if unreachable && ok && old.err == nil && time.Since(old.at) < a.options.StaleFor {
			return old.sub, nil
		}
		return r.Val.(Subscription), r.Err
	case <-ctx.Done():
		return Subscription{}, gateway.ClientConnectionFailure.Because(ctx.Err())
	}
}

// Forget empties both caches. The management API calls it after a change of subscriptions.
func (a *Authenticator) Forget() {
	a.valid.Purge()
	a.invalid.Purge()
}

// credentials returns the first key that it finds: first in the headers and parameters of
// API Management, then in those of OpenAI's clients. It ignores the other keys, so that a
// dummy key which a client sends does no harm. A Bearer value that is a JWT is the token,
// whether or not there is a key.
func credentials(h http.Header, query string) (key, token string) {
	bearer := bearerOf(h)
	if isJWT(bearer) {
		token, bearer = bearer, ""
	}
	for _, v := range []string{h.Get("Ocp-Apim-Subscription-Key"), h.Get("Api-Key"), bearer} {
		if v = strings.TrimSpace(v); v != "" {
			return v, token
		}
	}
	if query == "" {
		return "", token
	}
	values, _ := url.ParseQuery(query) // uses the parts that can be parsed
	for _, want := range []string{"subscription-key", "api-key"} {
		for _, name := range slices.Sorted(maps.Keys(values)) {
			if v := values[name][0]; strings.EqualFold(name, want) && v != "" {
				return v, token
			}
		}
	}
	return "", token
}

func bearerOf(h http.Header) string {
	scheme, value, _ := strings.Cut(h.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(value)
}

// isJWT reports whether s looks like a JWT (RFC 7519): three parts, of which the first is a
// JSON object with the member alg.
func isJWT(s string) bool {
	head, rest, ok := strings.Cut(s, ".")
	if !ok || strings.Count(rest, ".") != 1 {
		return false
	}
	raw, err := base64.RawURLEncoding.DecodeString(head)
	var fields struct {
		Alg string `json:"alg"`
	}
	return err == nil && json.Unmarshal(raw, &fields) == nil && fields.Alg != ""
}

func errInvalidKey() error {
	return gateway.SubscriptionKeyInvalid.Because(nil)
}
