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

// App roles in the gateway's Entra app registration.
const (
	AdminRole   = "Gateway.Admin" // allows the management API
	productRole = "product."      // followed by a product's name: allows calls under the product's limits
)

// productHeader is the request header in which a caller with roles for several products
// chooses one.
const productHeader = "X-Gateway-Product"

// maxToken is the longest accepted token, in bytes. Entra's tokens are shorter, because
// Entra lists at most 200 groups in a token.
const maxToken = 16 << 10

// DefaultAuthority is the base URL at which Azure's public cloud publishes the keys of its
// tenants.
const DefaultAuthority = "https://login.microsoftonline.com"

// EntraOptions say which tokens are accepted.
type EntraOptions struct {
	Authority string   // empty = DefaultAuthority
	Tenant    string   // id of the only tenant whose tokens are accepted
	Audience  []string // accepted audiences: client ids and application id URIs
	Product   string   // the product of callers that have no role for a product; empty = they are refused
	Transport http.RoundTripper
	Logger    *slog.Logger
}

// Entra checks access tokens (versions 1.0 and 2.0) of one tenant. It fetches the tenant's
// keys when the first token arrives. Safe for concurrent use.
type Entra struct {
	options   EntraOptions
	issuers   []string
	keys      *jwks.Set
	parser    *jwt.Parser
	validator *jwt.Validator
}

// Identity is the user or application that a valid token represents.
type Identity struct {
	Object string // claim oid: the id of the user, or of the application's service principal
	App    string // client id of the application that got the token
	Name   string // for display only, because it can change
	Person bool   // true = a user signed in; false = the application acts for itself
	Roles  []string
}

// NewEntra returns an Entra that checks tokens as o says.
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

// audiences adds the form api://<client id> to each client id, and the plain client id to
// each such URI: which form a token has depends only on its version.
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

// IsToken reports whether s has the form of a JWT. Subscription keys never have this form.
func IsToken(s string) bool { return isJWT(s) }

// Verify checks a token and returns its identity. Errors are *gateway.Error:
// Unauthenticated if the token is not accepted, Unavailable if the tenant's keys cannot be
// fetched.
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
		if err := e.check(&c); err != nil { // checked first, so that a token of another tenant causes no fetch of keys
			return nil, err
		}
		key, err := e.keys.Key(ctx, kid)
		if errors.Is(err, jwks.ErrUnknownKey) {
			return nil, badToken(gateway.TokenSignatureKeyNotFound, "its signing key (kid) is not among the keys that the tenant publishes")
		}
		return key, err
	})
	if err != nil {
		return Identity{}, e.refusal(err)
	}
	return Identity{Object: c.Object, App: c.app(), Name: c.name(), Person: c.Scopes != "", Roles: c.Roles}, nil
}

// header checks what the JWT library does not: that the header has one kid, that no name
// occurs twice, and that it has no mandatory extension (RFC 7515, 4.1.11).
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
		return "", badToken(gateway.JwtInvalid, "its header is not valid JSON, or a name occurs twice in it")
	}
	if h.Critical != nil || h.ID == "" {
		return "", badToken(gateway.JwtInvalid, "its header has no kid, or requires an extension (crit)")
	}
	return h.ID, nil
}

// claims are the claims of Entra's access tokens, of both versions.
type claims struct {
	jwt.RegisteredClaims
	Tenant  string   `json:"tid"`
	Object  string   `json:"oid"`
	App1    string   `json:"appid"` // version 1.0 only
	App2    string   `json:"azp"`   // version 2.0 only
	AppName string   `json:"app_displayname"`
	Name1   string   `json:"upn"`
	Name2   string   `json:"preferred_username"`
	Scopes  string   `json:"scp"` // present only if a user signed in
	Roles   []string `json:"roles"`
}

// UnmarshalJSON fails if a claim occurs twice. It accepts names only in their exact
// spelling.
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

// check checks Entra's own claims. It also checks times and audience, although the library
// does so later, so that a token which fails there causes no fetch of keys.
func (e *Entra) check(c *claims) error {
	switch {
	case !slices.Contains(e.issuers, c.Issuer) || c.Tenant != e.options.Tenant:
		return badToken(gateway.TokenIssuerNotAllowed, "another tenant issued it")
	case !uuidForm.MatchString(c.Object) || !uuidForm.MatchString(c.app()):
		return badToken(gateway.TokenClaimNotFound, "it is not an access token: it must have oid, and azp or appid")
	}
	return e.validator.Validate(c)
}

// refusal returns the error for the client that corresponds to the library's error. The
// first match in the list counts.
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
		{jwt.ErrTokenNotValidYet, gateway.TokenNotValidYet, "it is not valid yet (nbf is in the future); check your clock"},
		{jwt.ErrTokenInvalidAudience, gateway.TokenAudienceNotAllowed, "it is for another application; get one for " + e.options.Audience[0]},
		{jwt.ErrTokenSignatureInvalid, gateway.TokenSignatureInvalid, "its signature is wrong, or its algorithm is not RS256"},
		{jwt.ErrTokenRequiredClaimMissing, gateway.TokenClaimNotFound, "it lacks one of the claims exp, nbf and aud"},
	} {
		if errors.Is(err, c.cause) {
			return badToken(c.fault, c.text)
		}
	}
	return badToken(gateway.JwtInvalid, "it cannot be parsed as a JWT")
}

// badToken returns an error that never repeats content of the token.
func badToken(fault gateway.Fault, text string) *gateway.Error {
	return fault.New("Access denied: the Entra token is not accepted: %s.", text)
}

// caller returns the caller of a request with a token and no key. Its subscription is the
// user, or the application if no user signed in.
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
		return c, forbidden("Access denied: the Entra token has no role that allows the use of a product. " +
			"Ask an administrator for an app role such as product.default, then get a new token.")
	case wanted != "" && !slices.Contains(products, wanted):
		return c, forbidden("Access denied: " + productHeader + " names a product that the Entra token has no role for. " +
			"The token has roles for: " + strings.Join(products, ", ") + ".")
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
