package app

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strings"

	"aoaigateway/handler/auth"
	"aoaigateway/handler/policy"
)

// entraSettings say whose tokens are taken; without a tenant, nobody's.
type EntraSettings struct {
	Tenant    string
	Audience  []string
	Product   string
	Authority string
}

var (
	tenantForm   = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	audienceForm = regexp.MustCompile(`^([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|(api|https)://[^\s,]+)$`)
)

func (s *Settings) setEntraTenant(v string) error {
	if s.Entra.Tenant = strings.ToLower(v); !tenantForm.MatchString(s.Entra.Tenant) {
		return fmt.Errorf("must be the tenant's id, as az account show --query tenantId prints it, not %q", v)
	}
	return nil
}

func (s *Settings) setEntraAudience(v string) error {
	for one := range strings.SplitSeq(v, ",") {
		if one = strings.TrimSpace(one); !audienceForm.MatchString(one) {
			return fmt.Errorf("must be a client id, or a URI that begins with api:// or https://, not %q", one)
		}
		s.Entra.Audience = append(s.Entra.Audience, one)
	}
	return nil
}

// entra is nil when no tokens are taken.
func (s Settings) entra(transport http.RoundTripper, logger *slog.Logger) *auth.Entra {
	if s.Entra.Tenant == "" {
		return nil
	}
	return auth.NewEntra(auth.EntraOptions{
		Authority: s.Entra.Authority, Tenant: s.Entra.Tenant, Audience: s.Entra.Audience, Product: s.Entra.Product, Transport: transport, Logger: logger,
	})
}

func (s Settings) entraProductIn(pol *policy.Policy) error {
	if s.Entra.Product == "" {
		return nil
	}
	if _, ok := pol.Product(s.Entra.Product); !ok {
		return errors.New("GATEWAY_ENTRA_PRODUCT: " + s.PolicyFile + " has no product " + s.Entra.Product)
	}
	return nil
}
