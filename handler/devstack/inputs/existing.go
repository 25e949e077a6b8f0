package inputs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Subnets that exist, by the variables that name them.
const (
	edgeSubnet  = "GW_EDGE_SUBNET_ID"
	appSubnet   = "GW_APP_SUBNET_ID"
	linksSubnet = "GW_LINKS_SUBNET_ID"
	workspaceID = "GW_LOG_WORKSPACE_ID"
	zonesGroup  = "GW_DNS_ZONES_GROUP_ID"
)

var (
	groupID         = `(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+`
	subnetPattern   = regexp.MustCompile(groupID + `/providers/Microsoft\.Network/virtualNetworks/[^/]+/subnets/[^/]+$`)
	workspaceIDForm = regexp.MustCompile(groupID + `/providers/Microsoft\.OperationalInsights/workspaces/[^/]+$`)
	groupPattern    = regexp.MustCompile(groupID + `$`)
)

// existing checks what the company brings: the ids, and with the help of az the resources themselves. Azure would refuse
// most of it too, half an hour later.
func (o Options) existing(ctx context.Context, env map[string]string) error {
	var mistakes []error
	form := func(name string, pattern *regexp.Regexp, want string) {
		if id := env[name]; id != "" && !pattern.MatchString(id) {
			mistakes = append(mistakes, fmt.Errorf("%s: must be the id of %s, not %q", name, want, id))
		}
	}
	form(workspaceID, workspaceIDForm, "a Log Analytics workspace, /subscriptions/…/workspaces/<name>")
	form(zonesGroup, groupPattern, "a resource group, /subscriptions/…/resourceGroups/<name>")
	names := []string{edgeSubnet, appSubnet, linksSubnet}
	var ids, networks []string
	for _, name := range names {
		form(name, subnetPattern, "a subnet, /subscriptions/…/virtualNetworks/<name>/subnets/<name>")
		if id := strings.ToLower(env[name]); id != "" {
			network, _, _ := strings.Cut(id, "/subnets/")
			ids, networks = append(ids, id), append(networks, network)
		}
	}
	slices.Sort(ids)
	slices.Sort(networks)
	if n := len(slices.Compact(ids)); n != 0 && n != len(names) {
		mistakes = append(mistakes, fmt.Errorf("%s: three different subnets, or none", strings.Join(names, ", ")))
	}
	if len(slices.Compact(networks)) > 1 {
		mistakes = append(mistakes, fmt.Errorf("%s: must be of one network", strings.Join(names, ", ")))
	}
	if len(mistakes) == 0 {
		mistakes = o.lookAt(ctx, env)
	}
	return errors.Join(mistakes...)
}

// subnet is what az says of one.
type subnet struct {
	Prefix      string   `json:"prefix"`
	Delegations []string `json:"delegations"`
	Services    []string `json:"services"`
}

// subnetRules are what a subnet must be: its least size, and what it is delegated to.
var subnetRules = []struct {
	name      string
	smallest  int
	delegated string
}{
	{edgeSubnet, 26, ""},
	{appSubnet, 27, "Microsoft.App/environments"},
	{linksSubnet, 28, ""},
}

// lookAt asks Azure for what the ids name. Without az nothing is checked.
func (o Options) lookAt(ctx context.Context, env map[string]string) (mistakes []error) {
	region := func(name, id string) {
		if id == "" || env["AZURE_LOCATION"] == "" {
			return
		}
		var location string
		if o.read(ctx, &location, "resource", "show", "--ids", id, "--query", "location") && location != env["AZURE_LOCATION"] {
			mistakes = append(mistakes, fmt.Errorf("%s: is in %s, and must be in the gateway's region, %s", name, location, env["AZURE_LOCATION"]))
		}
	}
	region(workspaceID, env[workspaceID])
	if env["GW_NETWORK"] == "public" || env[appSubnet] == "" {
		return mistakes
	}
	network, _, _ := strings.Cut(env[appSubnet], "/subnets/")
	region(appSubnet, network)
	for _, rule := range subnetRules {
		var s subnet
		if !o.read(ctx, &s, "network", "vnet", "subnet", "show", "--ids", env[rule.name], "--query",
			"{prefix: addressPrefix || addressPrefixes[0], delegations: delegations[].serviceName, services: serviceEndpoints[].service}") {
			continue
		}
		if _, bits, _ := strings.Cut(s.Prefix, "/"); atoi(bits) > rule.smallest {
			mistakes = append(mistakes, fmt.Errorf("%s: has %s, and must have a /%d or larger", rule.name, s.Prefix, rule.smallest))
		}
		if rule.delegated != "" && !slices.Equal(s.Delegations, []string{rule.delegated}) {
			mistakes = append(mistakes, fmt.Errorf("%s: must be delegated to %s, and is to %v", rule.name, rule.delegated, s.Delegations))
		}
		if through, err := strconv.ParseBool(env["GW_FUNCTION_PRIVATE_ENDPOINT"]); rule.name == edgeSubnet && err == nil && !through &&
			!slices.Contains(s.Services, "Microsoft.Web") {
			mistakes = append(mistakes, fmt.Errorf("%s: GW_FUNCTION_PRIVATE_ENDPOINT false needs the service endpoint Microsoft.Web", rule.name))
		}
	}
	return mistakes
}

// read fills v with what az says; false if az cannot.
func (o Options) read(ctx context.Context, v any, args ...string) bool {
	said, err := o.Ask(ctx, args...)
	if err != nil || json.Unmarshal([]byte(said), v) != nil {
		o.say("Not checked, because az did not answer: az %s\n", strings.Join(args, " "))
		return false
	}
	return true
}

func atoi(digits string) int {
	n, _ := strconv.Atoi(digits)
	return n
}
