package auth_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"aoaigateway/handler/auth"
	"aoaigateway/handler/auth/authtest"
	"aoaigateway/handler/gateway"
)

// entraHarness is a harness whose authenticator takes the tenant's tokens.
func entraHarness(t *testing.T, edit func(*auth.EntraOptions)) (harness, *authtest.Issuer) {
	t.Helper()
	r, tenant := newHarness(t), authtest.New()
	o := auth.EntraOptions{
		Tenant: authtest.Tenant, Audience: []string{"api://" + authtest.Client},
		Transport: tenant, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	if edit != nil {
		edit(&o)
	}
	r.auth = auth.New(r.subs, auth.Options{Entra: auth.NewEntra(o)})
	return r, tenant
}

func with(claims map[string]any, name string, value any) map[string]any {
	if value == nil {
		delete(claims, name)
	} else {
		claims[name] = value
	}
	return claims
}

// A token without a key stands for its person or application, under their role's product.
func TestTokenAloneNamesCaller(t *testing.T) {
	r, tenant := entraHarness(t, nil)
	for name, c := range map[string]struct {
		claims map[string]any
		want   gateway.Caller
	}{
		"person, 2.0": {authtest.Claims("product.gold"), gateway.Caller{
			Subscription: "entra:" + authtest.Person, Name: "kim@example.com", Product: "gold", User: authtest.Person,
		}},
		"application, 1.0": {authtest.AppClaims("other", "product.default"), gateway.Caller{
			Subscription: "entra:" + authtest.App, Name: "Nightly", Product: "default", User: "55555555-0000-4000-8000-000000000005",
		}},
		"list of audiences": {
			with(authtest.Claims("product.gold"), "aud", []string{"x", authtest.Client}),
			gateway.Caller{Subscription: "entra:" + authtest.Person, Name: "kim@example.com", Product: "gold", User: authtest.Person},
		},
	} {
		got, err := r.call(t, "Authorization=Bearer "+tenant.Token(c.claims))
		if err != nil || got != c.want {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, c.want)
		}
	}
}

// A token beside a key adds the user and nothing else.
func TestTokenWithKeyAddsUser(t *testing.T) {
	r, tenant := entraHarness(t, nil)
	for _, claims := range []map[string]any{authtest.Claims(), authtest.Claims("product.gold")} {
		c, err := r.call(t, "Api-Key="+r.keys.Primary, "Authorization=Bearer "+tenant.Token(claims))
		if err != nil || c.Subscription != "team-a" || c.Product != "default" || c.User != authtest.Person || c.KeySlot != "primary" {
			t.Errorf("%+v, %v", c, err)
		}
	}
	expired := with(authtest.Claims(), "exp", time.Now().Add(-time.Hour).Unix())
	c, err := r.call(t, "Api-Key="+r.keys.Primary, "Authorization=Bearer "+tenant.Token(expired))
	if reasonOf(err) != "TokenExpired" || c.Subscription != "team-a" || c.User != "" {
		t.Errorf("an expired token beside a good key: %+v, %v", c, err)
	}
	_, err = r.call(t, "Api-Key=wrong", "Authorization=Bearer "+tenant.Token(authtest.Claims("product.gold")))
	if reasonOf(err) != "SubscriptionKeyInvalid" {
		t.Errorf("a good token beside a wrong key: %v", err)
	}
}

// Without Entra, a token beside a key is not read.
func TestTokenIgnoredWithoutEntra(t *testing.T) {
	r := newHarness(t)
	c, err := r.call(t, "Api-Key="+r.keys.Primary, "Authorization=Bearer "+jwt)
	if err != nil || c.User != "" {
		t.Errorf("%+v, %v", c, err)
	}
}

// Products are chosen by role then by header.
func TestTokenProductChoice(t *testing.T) {
	for name, c := range map[string]struct {
		fallback string
		roles    []string
		header   string
		want     string // empty = 403
	}{
		"no role":                {},
		"no role, a default":     {fallback: "basic", want: "basic"},
		"role over default":      {fallback: "basic", roles: []string{"product.gold"}, want: "gold"},
		"two roles":              {roles: []string{"product.gold", "product.basic"}},
		"two roles, one named":   {roles: []string{"product.gold", "product.basic"}, header: "gold", want: "gold"},
		"one twice":              {roles: []string{"product.gold", "product.gold"}, want: "gold"},
		"another's":              {roles: []string{"product.gold"}, header: "basic"},
		"default named":          {fallback: "basic", header: "basic", want: "basic"},
		"default beside a role":  {fallback: "basic", roles: []string{"product.gold"}, header: "basic"},
		"a role without a name":  {roles: []string{"product.", "Product.gold", "productXgold"}},
		"admin is not a product": {roles: []string{auth.AdminRole}},
	} {
		r, tenant := entraHarness(t, func(o *auth.EntraOptions) { o.Product = c.fallback })
		got, err := r.call(t, "Authorization=Bearer "+tenant.Token(authtest.Claims(c.roles...)), "X-Gateway-Product="+c.header)
		if c.want == "" && (gateway.KindOf(err) != gateway.Forbidden || got.User != authtest.Person) ||
			c.want != "" && (err != nil || got.Product != c.want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// badTokens are each wrong in one thing; the value is the reason that must be given.
func badTokens(tenant *authtest.Issuer) map[string][2]string {
	const roles = "product.gold"
	kid, key := tenant.Key()
	body, _ := json.Marshal(authtest.Claims(roles))
	head := func(alg string) string { return fmt.Sprintf(`{"alg":%q,"kid":%q}`, alg, kid) }
	plain := func(header string) string {
		return base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString(body)
	}
	der, _ := x509.MarshalPKIXPublicKey(&key.PublicKey)
	confused := plain(head("HS256"))
	mac := hmac.New(sha256.New, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	mac.Write([]byte(confused))
	good := tenant.Token(authtest.Claims(roles))
	dup := func(extra string) string {
		return tenant.Sign(head("RS256"), strings.TrimSuffix(string(body), "}")+extra+"}")
	}
	return map[string][2]string{
		"no signature":   {good[:strings.LastIndexByte(good, '.')+1], "TokenSignatureInvalid"},
		"changed claims": {strings.Replace(good, ".ey", ".eyJhdWQiOiJ4IiwieCI6InkifQ"+"ey", 1), "JwtInvalid"},
		"another's signature": {
			good[:strings.LastIndexByte(good, '.')+1] + base64.RawURLEncoding.EncodeToString(make([]byte, 256)),
			"TokenSignatureInvalid",
		},
		"alg none":              {plain(`{"alg":"none","kid":"`+kid+`"}`) + ".", "TokenSignatureInvalid"},
		"alg None":              {plain(`{"alg":"None","kid":"`+kid+`"}`) + ".", "JwtInvalid"},
		"key confusion":         {confused + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil)), "TokenSignatureInvalid"},
		"alg RS512":             {tenant.Sign(head("RS512"), string(body)), "TokenSignatureInvalid"},
		"alg PS256":             {tenant.Sign(head("PS256"), string(body)), "TokenSignatureInvalid"},
		"unknown kid":           {tenant.Sign(`{"alg":"RS256","kid":"stranger"}`, string(body)), "TokenSignatureKeyNotFound"},
		"no kid":                {tenant.Sign(`{"alg":"RS256"}`, string(body)), "JwtInvalid"},
		"two kids":              {tenant.Sign(`{"alg":"RS256","kid":"x","kid":"`+kid+`"}`, string(body)), "JwtInvalid"},
		"two algs":              {tenant.Sign(`{"alg":"none","alg":"RS256","kid":"`+kid+`"}`, string(body)), "JwtInvalid"},
		"an extension":          {tenant.Sign(`{"alg":"RS256","kid":"`+kid+`","crit":["b64"],"b64":false}`, string(body)), "JwtInvalid"},
		"two audiences by name": {dup(`,"aud":"https://graph.microsoft.com"`), "JwtInvalid"},
		"two roles by name":     {dup(`,"roles":["Gateway.Admin"]`), "JwtInvalid"},
		"claims in capitals":    {tenant.Token(with(with(authtest.Claims(roles), "OID", authtest.Person), "oid", nil)), "TokenClaimNotFound"},
		"claims are no object":  {tenant.Sign(head("RS256"), "[]"), "JwtInvalid"},
		"claims are null":       {tenant.Sign(head("RS256"), "null"), "TokenIssuerNotAllowed"},
	}
}

// badClaims are signed tokens with one wrong claim, each with the error's code.
func badClaims(tenant *authtest.Issuer) map[string][2]string {
	now := time.Now()
	claims := func(name string, value any) string {
		return tenant.Token(with(authtest.Claims("product.gold"), name, value))
	}
	return map[string][2]string{
		"another tenant":       {claims("iss", "https://login.microsoftonline.com/"+authtest.App+"/v2.0"), "TokenIssuerNotAllowed"},
		"another tenant's tid": {claims("tid", authtest.App), "TokenIssuerNotAllowed"},
		"no issuer":            {claims("iss", nil), "TokenIssuerNotAllowed"},
		"another audience":     {claims("aud", "https://graph.microsoft.com"), "TokenAudienceNotAllowed"},
		"no audience":          {claims("aud", nil), "TokenClaimNotFound"},
		"an empty audience":    {claims("aud", ""), "TokenClaimNotFound"},
		"expired":              {claims("exp", now.Add(-2*time.Minute).Unix()), "TokenExpired"},
		"no exp":               {claims("exp", nil), "TokenClaimNotFound"},
		"exp is no number":     {claims("exp", "soon"), "JwtInvalid"},
		"not yet valid":        {claims("nbf", now.Add(2*time.Minute).Unix()), "TokenNotValidYet"},
		"no nbf":               {claims("nbf", nil), "TokenClaimNotFound"},
		"no oid":               {claims("oid", nil), "TokenClaimNotFound"},
		"oid is no id":         {claims("oid", "kim"), "TokenClaimNotFound"},
		"an ID token":          {claims("azp", nil), "TokenClaimNotFound"},
		"roles are no list":    {claims("roles", "product.gold"), "JwtInvalid"},
		"huge":                 {claims("padding", strings.Repeat("x", 20<<10)), "JwtInvalid"},
	}
}

// Every bad token is refused with its reason and shown to nobody.
func TestTokenRefusals(t *testing.T) {
	var logged strings.Builder
	r, tenant := entraHarness(t, func(o *auth.EntraOptions) { o.Logger = slog.New(slog.NewTextHandler(&logged, nil)) })
	tokens := badTokens(tenant)
	maps.Copy(tokens, badClaims(tenant))
	for name, c := range tokens {
		caller, err := r.call(t, "Authorization=Bearer "+c[0])
		if gateway.KindOf(err) != gateway.Unauthenticated || reasonOf(err) != c[1] || caller != (gateway.Caller{}) {
			t.Errorf("%s: %+v, %s, %v; want %s", name, caller, reasonOf(err), err, c[1])
			continue
		}
		for part := range strings.SplitSeq(c[0], ".") {
			if len(part) > 8 && strings.Contains(err.Error()+logged.String(), part) {
				t.Errorf("%s: the token shows in %v, %s", name, err, &logged)
			}
		}
	}
	if tenant.Asked() > 1 {
		t.Errorf("the keys were fetched %d times", tenant.Asked())
	}
	if _, err := r.call(t, "Authorization=Bearer "+tenant.Token(authtest.Claims("product.gold"))); err != nil {
		t.Errorf("a good token after the bad ones: %v", err)
	}
}

// Clocks may differ by less than a minute.
func TestTokenClockTolerance(t *testing.T) {
	r, tenant := entraHarness(t, nil)
	for _, c := range []map[string]any{
		with(authtest.Claims("product.gold"), "exp", time.Now().Add(-30*time.Second).Unix()),
		with(authtest.Claims("product.gold"), "nbf", time.Now().Add(30*time.Second).Unix()),
	} {
		if _, err := r.call(t, "Authorization=Bearer "+tenant.Token(c)); err != nil {
			t.Error(err)
		}
	}
}

// Keys are fetched only when a token needs them.
func TestJWKSFetchedSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, tenant := entraHarness(t, nil)
		ask := func() string {
			_, err := r.call(t, "Authorization=Bearer "+tenant.Token(authtest.Claims("product.gold")))
			synctest.Wait()
			return reasonOf(err)
		}
		asked := func(want int, when string) {
			t.Helper()
			if got := tenant.Asked(); got != want {
				t.Errorf("%s: asked %d times, want %d", when, got, want)
			}
		}
		asked(0, "at the start")
		for range 50 {
			if reason := ask(); reason != "" {
				t.Fatal(reason)
			}
		}
		asked(1, "while keys are fresh")
		for n := range 1000 {
			guess := tenant.Sign(fmt.Sprintf(`{"alg":"RS256","kid":"guess-%d"}`, n), mustJSON(authtest.Claims("product.gold")))
			if _, err := r.call(t, "Authorization=Bearer "+guess); reasonOf(err) != "TokenSignatureKeyNotFound" {
				t.Fatal(err)
			}
			time.Sleep(time.Second / 10)
		}
		before := tenant.Asked()
		if before > 5 {
			t.Errorf("100 s of guesses: asked %d times", before)
		}
		time.Sleep(time.Minute)
		tenant.Rotate("key-2")
		if reason := ask(); reason != "" {
			t.Errorf("a new key: %s", reason)
		}
		asked(before+1, "after a rotation")
		time.Sleep(2 * time.Hour)
		if reason := ask(); reason != "" {
			t.Errorf("after two hours: %s", reason)
		}
		asked(before+2, "after two hours, in the background")
	})
}

// Keys outlive their issuer for a day.
func TestJWKSOutliveIssuer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, tenant := entraHarness(t, nil)
		ask := func() (gateway.Kind, bool) {
			_, err := r.call(t, "Authorization=Bearer "+tenant.Token(authtest.Claims("product.gold")))
			synctest.Wait()
			return gateway.KindOf(err), err == nil
		}
		tenant.SetAway(true)
		for range 300 {
			if kind, _ := ask(); kind != gateway.Unavailable {
				t.Fatalf("no keys yet: kind %d", kind)
			}
			time.Sleep(time.Second)
		}
		if n := tenant.Asked(); n > 20 {
			t.Errorf("300 s of an outage: asked %d times", n)
		}
		tenant.SetAway(false)
		time.Sleep(31 * time.Second)
		if _, ok := ask(); !ok {
			t.Fatal("Entra is back, the token is refused")
		}
		tenant.SetAway(true)
		time.Sleep(23 * time.Hour)
		if _, ok := ask(); !ok {
			t.Error("after 23 hours known keys are refused")
		}
		time.Sleep(2 * time.Hour)
		if kind, _ := ask(); kind != gateway.Unavailable {
			t.Errorf("after 25 hours: kind %d", kind)
		}
	})
}

// A withdrawn key proves nothing once the keys are fetched anew.
func TestJWKSWithdrawnKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, tenant := entraHarness(t, nil)
		claims := with(authtest.Claims("product.gold"), "exp", time.Now().Add(48*time.Hour).Unix())
		old := tenant.Token(claims)
		if _, err := r.call(t, "Authorization=Bearer "+old); err != nil {
			t.Fatal(err)
		}
		tenant.Rotate("key-2")
		time.Sleep(61 * time.Minute)
		_, _ = r.call(t, "Authorization=Bearer "+old) // has them fetched beside it
		synctest.Wait()
		if _, err := r.call(t, "Authorization=Bearer "+old); reasonOf(err) != "TokenSignatureKeyNotFound" {
			t.Errorf("%v", err)
		}
	})
}

// hangs answers nothing until the request is given up.
type hangs struct{}

func (hangs) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// An issuer that hangs holds nobody for long.
func TestJWKSIssuerHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, tenant := entraHarness(t, func(o *auth.EntraOptions) { o.Transport = hangs{} })
		began := time.Now()
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				_, err := r.call(t, "Authorization=Bearer "+tenant.Token(authtest.Claims("product.gold")))
				if gateway.KindOf(err) != gateway.Unavailable {
					t.Errorf("%v", err)
				}
			})
		}
		all.Wait()
		if d := time.Since(began); d > 6*time.Second {
			t.Errorf("held for %v", d)
		}
	})
}

func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func BenchmarkToken(b *testing.B) {
	tenant := authtest.New()
	e := auth.NewEntra(auth.EntraOptions{Tenant: authtest.Tenant, Audience: []string{authtest.Client}, Transport: tenant})
	token := tenant.Token(authtest.Claims("product.gold"))
	for b.Loop() {
		if _, err := e.Verify(b.Context(), token); err != nil {
			b.Fatal(err)
		}
	}
}
