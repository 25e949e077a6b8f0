package inputs

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// forms are what a value must look like, by the variables that have it.
var forms = []struct {
	names string
	want  string
	fits  func(string) bool
}{
	{"GW_AI_REGIONS", "names of regions such as eastus2, separated by commas", each(region.MatchString)},
	{"GW_MANAGE_SOURCES", "addresses and ranges such as 10.0.0.0/8, separated by commas", each(addresses)},
	{
		"GW_ALLOWED_SOURCES", "Internet, another service tag, or one address or range",
		func(s string) bool { return addresses(s) || serviceTag.MatchString(s) },
	},
	{"GW_ADDRESS_PREFIX", "a range of 1,024 addresses or more, such as 10.20.0.0/22", func(s string) bool {
		prefix, err := netip.ParsePrefix(s)
		return err == nil && prefix.Addr().Is4() && prefix.Bits() <= 22 && prefix == prefix.Masked()
	}},
	{
		"GW_OPERATOR_ID GW_AUDITOR_ID GW_ENTRA_TENANT", "an id such as 5f0c3f0e-6a0e-4f0f-9d0c-0b6a3c1d2e3f, no name",
		guid.MatchString,
	},
	{"GW_TAGS", "name=value, separated by commas, each with one equals sign", each(func(s string) bool {
		name, value, found := strings.Cut(s, "=")
		return found && strings.TrimSpace(name) != "" && !strings.Contains(value, "=")
	})},
	{"GW_HOST_NAME", "a name such as ai.example.com, without https:// and in ASCII", hostName.MatchString},
	{"GW_DNS_LABEL", "small letters, digits and hyphens", label.MatchString},
	{
		"GW_TLS_SECRET_ID", "https://<vault>.vault.azure.net/secrets/<name>, without a version: with one, renewals are not picked up",
		secretID.MatchString,
	},
	{"GW_ADMIN_KEY", "letters, digits and signs of ASCII without blanks, quotes and backslashes", adminKeyForm.MatchString},
}

var (
	region       = regexp.MustCompile(`^[a-z]+[0-9]?$`)
	serviceTag   = regexp.MustCompile(`^[A-Z][A-Za-z]+(\.[A-Za-z0-9]+)?$`)
	guid         = regexp.MustCompile(`(?i)^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	hostName     = regexp.MustCompile(`^(?i)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]*[a-z0-9])?$`)
	label        = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)
	secretID     = regexp.MustCompile(`^https://[A-Za-z0-9.-]+/secrets/[A-Za-z0-9-]+/?$`)
	adminKeyForm = regexp.MustCompile(`^[!#-&(-\[\]-_a-~]+$`) // without blank, " ' \ and `
)

// each says whether a form fits every part of a list; blanks around a part do not matter, as in the template.
func each(fits func(string) bool) func(string) bool {
	return func(list string) bool {
		for part := range strings.SplitSeq(list, ",") {
			if !fits(strings.TrimSpace(part)) {
				return false
			}
		}
		return true
	}
}

func addresses(s string) bool {
	_, err := netip.ParsePrefix(s)
	if err != nil {
		_, err = netip.ParseAddr(s)
	}
	return err == nil
}

func checkForms(env map[string]string) error {
	var mistakes []error
	for _, f := range forms {
		for name := range strings.FieldsSeq(f.names) {
			value := env[name]
			if name == "GW_AI_REGIONS" { // as the template reads them
				value = strings.ReplaceAll(strings.ToLower(value), " ", "")
			}
			if value == "" || f.fits(value) {
				continue
			}
			if name == "GW_ADMIN_KEY" {
				mistakes = append(mistakes, fmt.Errorf("%s: must have only %s", name, f.want)) // never the key
				continue
			}
			mistakes = append(mistakes, fmt.Errorf("%s: must be %s, not %q", name, f.want, value))
		}
	}
	if n, err := strconv.Atoi(env["GW_MONTHLY_BUDGET"]); err == nil && n > 0 && env["GW_ALERT_EMAIL"] == "" {
		mistakes = append(mistakes, errors.New("GW_MONTHLY_BUDGET: needs GW_ALERT_EMAIL, where its mails go"))
	}
	return errors.Join(mistakes...)
}
