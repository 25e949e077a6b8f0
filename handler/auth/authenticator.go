package auth

import (
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

// Options of an Authenticator; the zero value means the defaults.
type Options struct {
	TTL      time.Duration // how long an answer about a key is used; default 60 s
	StaleFor time.Duration // how long a good one is used while storage is away; default 10 min
	Size     int           // answers remembered, good and bad apart; default 20,000 each
	Entra    *Entra        // whose tokens are taken; nil = nobody's
}

// Authenticator proves who sent a request. Safe for concurrent use.
type Authenticator struct {
	options        Options
	subscriptions  *Subscriptions
	known, unknown *lru.Cache[string, verdict] // by key hash; apart, so that guesses push no caller out
	flight         singleflight.Group
}

type verdict struct {
	sub Subscription
	err error // errInvalidKey, or nil
	at  time.Time
}

// New returns an Authenticator that remembers nothing yet.
func New(s *Subscriptions, o Options) *Authenticator {
	if o.TTL == 0 {
		o.TTL = time.Minute
	}
	if o.StaleFor == 0 {
		o.StaleFor = 10 * time.Minute
	}
	if o.Size == 0 {
		o.Size = 20_000
	}
	good, _ := lru.New[string, verdict](o.Size) // fails for sizes below 1 only
	bad, _ := lru.New[string, verdict](o.Size)
	return &Authenticator{options: o, subscriptions: s, known: good, unknown: bad}
}

// Authenticate finds the caller. With an error it still returns what is known of them,
// for the record.
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
		return entra.caller(who, r.Header.Get(ProductHeader))
	}
	caller, err := a.byKey(r.Context(), key)
	if err != nil || token == "" || entra == nil {
		return caller, err
	}
	// Whoever says who they are must prove it: left out in silence, what they use would be
	// counted as nobody's.
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
	old, ok := a.known.Get(hash)
	if !ok {
		old, ok = a.unknown.Get(hash)
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
			a.known.Add(hash, verdict{sub, nil, time.Now()})
			a.unknown.Remove(hash)
		case gateway.KindOf(err) == gateway.Unauthenticated:
			a.unknown.Add(hash, verdict{sub, err, time.Now()})
			a.known.Remove(hash)
		}
		return sub, err
	})
	select {
	case r := <-fresh:
		away := r.Err != nil && gateway.KindOf(r.Err) != gateway.Unauthenticated
		if away && ok && old.err == nil && time.Since(old.at) < a.options.StaleFor {
			return old.sub, nil
		}
		return r.Val.(Subscription), r.Err
	case <-ctx.Done():
		return Subscription{}, gateway.ClientConnectionFailure.Because(ctx.Err())
	}
}

// Forget drops all that is remembered: after a change made through this instance.
func (a *Authenticator) Forget() {
	a.known.Purge()
	a.unknown.Purge()
}

// credentials takes the first key that is present, in the order of API Management and
// then of OpenAI's clients; later ones are not looked at, so that a dummy does no harm.
// A Bearer that is a JWT is a token beside the key, or alone.
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
	values, _ := url.ParseQuery(query) // what can be read of it counts
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

// isJWT knows a token by its form: three parts, the first a JSON object with alg (RFC 7519).
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
