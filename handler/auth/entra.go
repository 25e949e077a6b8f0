package auth

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"

	"aoaigateway/handler/auth/jwks"
	"aoaigateway/handler/gateway"
)

// App roles of the gateway's registration in Entra.
const (
	AdminRole   = "Gateway.Admin" // may use the management API
	productRole = "product."      // and a product's name: may call under its limits
)

// productHeader names the product, for a caller with roles for several products.
const productHeader = "X-Gateway-Product"

// maxToken is the longest token in bytes. Entra's are shorter: it omits groups beyond 200.
const maxToken = 16 << 10

// DefaultAuthority is where Azure's public cloud publishes the keys of its tenants.
const DefaultAuthority = "https://login.microsoftonline.com"

// EntraOptions say which tokens are accepted.
type EntraOptions struct {
	Authority string   // empty = DefaultAuthority
	Tenant    string   // id of the only tenant whose tokens are accepted
	Audience  []string // client ids and application id URIs that tokens may be for
	Product   string   // of callers without a product's role; empty = they are refused
	Transport http.RoundTripper
	Logger    *slog.Logger
}

// Entra checks access tokens of one tenant, of versions 1.0 and 2.0. It does not touch the
// network before the first token comes. Safe for concurrent use.
type Entra struct {
	options   EntraOptions
	issuers   []string
	keys      *jwks.Set
	parser    *jwt.Parser
	validator *jwt.Validator
}

// Identity is the person or application that a valid token stands for.
type Identity struct {
	Object string // oid: the person, or the application's service principal
	App    string // client id of the application that got the token
	Name   string // for display; it can change
	Person bool   // a person signed in; false = the application speaks for itself
	Roles  []string
}

// NewEntra returns a checker of tokens.
func NewEntra(o EntraOptions) *Entra {
	o.Authority = cmp.Or(o.Authority, DefaultAuthority)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Audience = audiences(o.Audience)
	base := o.Authority + "/" + o.Tenant
	checks := []jwt.ParserOption{
		jwt.WithLeeway(time.Minute), jwt.WithExpirationRequired(), jwt.WithNotBeforeRequired(), jwt.WithAudience(o.Audience...),
	}
	return &Entra{
		options:   o,
		issuers:   []string{base + "/v2.0", "https://sts.windows.net/" + o.Tenant + "/"},
		keys:      jwks.New(base+"/discovery/v2.0/keys", o.Transport, o.Logger),
		validator: jwt.NewValidator(checks...),
		parser: jwt.NewParser(append(checks,
			jwt.WithValidMethods([]string{jwt.SigningMethodRS256.Alg()}), jwt.WithStrictDecoding())...),
	}
}

// audiences adds the client id to an api://<client id>, and the reverse: which of the two
// a token names depends only on its version.
func audiences(given []string) (all []string) {
	for _, a := range given {
		all = append(all, a)
		if id, ok := strings.CutPrefix(a, "api://"); ok {
			all = append(all, id)
		} else if !strings.Contains(a, ":") {
			all = append(all, "api://"+a)
		}
	}
	return all
}

// IsToken reports whether s has the form of a JWT. No subscription key has it.
func IsToken(s string) bool { return isJWT(s) }

// Verify checks a token. Errors are *gateway.Error: Unauthenticated for a token that is not
// accepted, Unavailable when the tenant's keys cannot be fetched.
func (e *Entra) Verify(ctx context.Context, token string) (Identity, error) {
	if len(token) > maxToken {
		return Identity{}, badToken(gateway.JwtInvalid, fmt.Sprintf("it is longer than %d bytes", maxToken))
	}
	var c claims
	_, err := e.parser.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) {
		kid, err := header(t.Raw)
		if err != nil {
			return nil, err
		}
		if err := e.check(&c); err != nil { // before a key is fetched: a token of another tenant costs nothing
			return nil, err
		}
		key, err := e.keys.Key(ctx, kid)
		if errors.Is(err, jwks.ErrUnknownKey) {
			return nil, badToken(gateway.TokenSignatureKeyNotFound, "it is signed with a key that the tenant does not publish")
		}
		return key, err
	})
	if err != nil {
		return Identity{}, e.refusal(err)
	}
	return Identity{Object: c.Object, App: c.app(), Name: c.name(), Person: c.Scopes != "", Roles: c.Roles}, nil
}

// header checks what the library does not: there is one kid, no name occurs twice, and no
// extension must be understood (RFC 7515, 4.1.11).
func header(token string) (kid string, err error) {
	first, _, _ := strings.Cut(token, ".")
	raw, err := base64.RawURLEncoding.DecodeString(first)
	if err != nil {
		return "", err
	}
	var h struct {
		ID       string `json:"kid"`
		Critical any    `json:"crit"`
	}
	if err := jsonv2.Unmarshal(raw, &h); err != nil {
		return "", badToken(gateway.JwtInvalid, "its header is malformed")
	}
	if h.Critical != nil || h.ID == "" {
		return "", badToken(gateway.JwtInvalid, "its header names no key, or an extension that the gateway does not know")
	}
	return h.ID, nil
}

// claims are those that Entra's access tokens of both versions carry.
type claims struct {
	jwt.RegisteredClaims
	Tenant  string   `json:"tid"`
	Object  string   `json:"oid"`
	App1    string   `json:"appid"` // version 1.0; ID tokens have neither
	App2    string   `json:"azp"`   // version 2.0
	AppName string   `json:"app_displayname"`
	Name1   string   `json:"upn"`
	Name2   string   `json:"preferred_username"`
	Scopes  string   `json:"scp"` // with a person only
	Roles   []string `json:"roles"`
}

// UnmarshalJSON refuses a claim that occurs twice, and accepts no other spelling of a name.
func (c *claims) UnmarshalJSON(b []byte) error {
	type plain claims
	return jsonv2.Unmarshal(b, (*plain)(c))
}

func (c *claims) app() string { return cmp.Or(c.App2, c.App1) }

func (c *claims) name() string {
	if c.Scopes == "" {
		return cmp.Or(c.AppName, c.app())
	}
	return cmp.Or(c.Name2, c.Name1, c.Object)
}

// check checks Entra's own claims. It also checks times and audience, which the library
// checks again later, so that no key is fetched for a token that fails there.
func (e *Entra) check(c *claims) error {
	switch {
	case !slices.Contains(e.issuers, c.Issuer) || c.Tenant != e.options.Tenant:
		return badToken(gateway.TokenIssuerNotAllowed, "it is from another tenant")
	case !uuidForm.MatchString(c.Object) || !uuidForm.MatchString(c.app()):
		return badToken(gateway.TokenClaimNotFound, "it is not an access token: it must have oid, and azp or appid")
	}
	return e.validator.Validate(c)
}

// refusal maps the library's errors to faults; the first that applies counts.
func (e *Entra) refusal(err error) error {
	if known, ok := errors.AsType[*gateway.Error](err); ok {
		return known
	}
	for _, c := range []struct {
		cause error
		fault gateway.Fault
		text  string
	}{
		{jwt.ErrTokenExpired, gateway.TokenExpired, "it has expired; get a new one"},
		{jwt.ErrTokenNotValidYet, gateway.TokenNotValidYet, "it is not valid yet; is the clock right?"},
		{jwt.ErrTokenInvalidAudience, gateway.TokenAudienceNotAllowed, "it is for another application; ask for one for " + e.options.Audience[0]},
		{jwt.ErrTokenSignatureInvalid, gateway.TokenSignatureInvalid, "its signature is not right, or not RS256"},
		{jwt.ErrTokenRequiredClaimMissing, gateway.TokenClaimNotFound, "it must have exp, nbf and aud"},
	} {
		if errors.Is(err, c.cause) {
			return badToken(c.fault, c.text)
		}
	}
	return badToken(gateway.JwtInvalid, "it cannot be read")
}

// badToken never repeats content of the token.
func badToken(fault gateway.Fault, text string) *gateway.Error {
	return fault.New("Access denied: the Entra token is not accepted: %s.", text)
}

// caller is the caller of a request with a token and no key. Its subscription is the person,
// or the application when it speaks for itself.
func (e *Entra) caller(who Identity, wanted string) (gateway.Caller, error) {
	c := gateway.Caller{Subscription: "entra:" + who.App, Name: who.Name, User: who.Object}
	if who.Person {
		c.Subscription = "entra:" + who.Object
	}
	var products []string
	for _, role := range who.Roles {
		if name, ok := strings.CutPrefix(role, productRole); ok && name != "" {
			products = append(products, name)
		}
	}
	if len(products) == 0 && e.options.Product != "" {
		products = []string{e.options.Product}
	}
	slices.Sort(products)
	products = slices.Compact(products)
	switch {
	case len(products) == 0:
		return c, forbidden("Access denied: the Entra token has no role for a product. " +
			"Ask for an app role such as product.default, then get a new token.")
	case wanted != "" && !slices.Contains(products, wanted):
		return c, forbidden("Access denied: " + productHeader + " names a product that the Entra token has no role for. " +
			"It has: " + strings.Join(products, ", ") + ".")
	case wanted == "" && len(products) > 1:
		return c, forbidden("Access denied: the Entra token has roles for several products (" + strings.Join(products, ", ") + "). " +
			"Name one of them in the header " + productHeader + ".")
	}
	c.Product = cmp.Or(wanted, products[0])
	return c, nil
}

func forbidden(text string) error {
	return gateway.TokenClaimValueNotAllowed.New("%s", text)
}
