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
	TTL      time.Duration // how long an answer about a key is used
	StaleFor time.Duration // how long the answer about a valid key is used while storage cannot be reached
	Size     int           // of each of the two caches, of valid and of invalid keys
	Entra    *Entra        // checks tokens; nil = no tokens are accepted
}

// Authenticator proves who sent a request. Safe for concurrent use.
type Authenticator struct {
	options        Options
	subscriptions  *Subscriptions
	valid, invalid *lru.Cache[string, keyAnswer] // by key hash; two caches, so that guesses evict no caller
	flight         singleflight.Group
}

// keyAnswer is what storage said about a key.
type keyAnswer struct {
	sub Subscription
	err error // errInvalidKey, or nil
	at  time.Time
}

// New returns an Authenticator that remembers nothing yet.
func New(s *Subscriptions, o Options) *Authenticator {
	o.TTL, o.StaleFor = cmp.Or(o.TTL, defaultTTL), cmp.Or(o.StaleFor, defaultStaleFor)
	o.Size = max(cmp.Or(o.Size, defaultSize), 1)
	valid, _ := lru.New[string, keyAnswer](o.Size) // fails only for sizes below 1
	invalid, _ := lru.New[string, keyAnswer](o.Size)
	return &Authenticator{options: o, subscriptions: s, valid: valid, invalid: invalid}
}

// Authenticate finds the caller. With an error it still returns what it knows of the
// caller, for the record. It leaves Caller.IP to the package that knows the connection.
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
	// A token that is sent must be valid. If it were ignored, this use would be counted
	// without a user.
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

// Forget empties both caches, after a change that was made through this instance.
func (a *Authenticator) Forget() {
	a.valid.Purge()
	a.invalid.Purge()
}

// credentials returns the first key that is present, in the order of API Management and
// then of OpenAI's clients. Later ones are ignored, so that a client's dummy key does no
// harm. A Bearer value that is a JWT is a token, with a key or without.
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

// isJWT recognises a token by its form: three parts, of which the first is a JSON object
// with alg (RFC 7519).
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
