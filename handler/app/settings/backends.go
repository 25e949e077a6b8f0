package settings

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"aoaigateway/handler/backend"
)

const backendExample = `[{"name":"eastus2","endpoint":"https://my-eastus2.openai.azure.com","priority":1,"weight":1,` +
	`"credential":"managedIdentity","models":{"gpt-4o":"gpt-4o"}}]`

// backendJSON is one element of GATEWAY_BACKENDS.
type backendJSON struct {
	Name       string            `json:"name"`
	Endpoint   string            `json:"endpoint"`
	Priority   *int              `json:"priority"`
	Weight     *int              `json:"weight"`
	Credential string            `json:"credential"`
	APIVersion string            `json:"apiVersion"`
	Models     map[string]string `json:"models"`
}

func parseBackends(s *Values, v string) error {
	var list []backendJSON
	d := json.NewDecoder(strings.NewReader(v))
	d.DisallowUnknownFields()
	if err := d.Decode(&list); err != nil {
		return fmt.Errorf("must be a JSON array such as %s (%w)", backendExample, err)
	}
	if d.More() {
		return errors.New("has text after its JSON array; an example is " + backendExample)
	}
	if len(list) == 0 {
		return errors.New("names no region; an example is " + backendExample)
	}
	var mistakes []error
	seen := map[string]bool{}
	for i, b := range list {
		r, problems := b.region()
		if seen[b.Name] {
			problems = append(problems, "another region has the same name; names must differ")
		}
		seen[b.Name] = true
		for _, p := range problems {
			mistakes = append(mistakes, fmt.Errorf("region %d (%q): %s", i+1, b.Name, p))
		}
		s.Backends = append(s.Backends, r)
	}
	return errors.Join(mistakes...)
}

var plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func (b backendJSON) region() (r backend.Region, problems []string) {
	r = backend.Region{
		Name: b.Name, Priority: 1, Weight: 1, Credential: b.Credential, APIVersion: b.APIVersion, Models: b.Models,
	}
	if b.Priority != nil {
		r.Priority = *b.Priority
	}
	if b.Weight != nil {
		r.Weight = *b.Weight
	}
	check := func(ok bool, text string) {
		if !ok {
			problems = append(problems, text)
		}
	}
	check(plainName.MatchString(b.Name), "name must be letters, digits, dots and dashes")
	check(r.Priority >= 1, "priority must be 1 or more; regions with the lowest number are tried first")
	check(r.Weight >= 1, "weight must be 1 or more")
	check(b.APIVersion == "" || datedVersion.MatchString(b.APIVersion),
		fmt.Sprintf("apiVersion must be a version such as 2024-10-21, not %q", b.APIVersion))
	check(b.Credential != "", `credential must be "managedIdentity" or the name of a secret`)
	check(len(b.Models) > 0, `models must map at least one model to a deployment, such as {"gpt-4o":"gpt-4o"}`)
	for model, deployment := range b.Models {
		check(plainName.MatchString(model) && plainName.MatchString(deployment),
			fmt.Sprintf("models: %q: %q must both be deployment names", model, deployment))
	}
	u, err := parseEndpoint(b.Endpoint, "https://my-account.openai.azure.com")
	if err != nil {
		return r, append(problems, "endpoint "+err.Error())
	}
	r.Endpoint = u
	return r, problems
}
