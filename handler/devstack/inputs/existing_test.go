package inputs_test

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"strings"
	"testing"
)

// ask answers as az: az resource show --ids ID, az network vnet subnet show --ids ID.
func (a *azd) ask(_ context.Context, args ...string) (string, error) {
	if args[0] == "deployment" {
		return strconv.Quote(a.last), a.mute
	}
	for i, arg := range args {
		if arg == "--ids" {
			if said, ok := a.says[args[i+1][strings.LastIndex(args[i+1], "/")+1:]]; ok {
				return said, nil
			}
		}
	}
	return "", errors.New("no az here")
}

const network = "/subscriptions/s/resourceGroups/hub/providers/Microsoft.Network/virtualNetworks/v"

// existing is an environment that brings its own, and what az says of it.
var existing = map[string]string{
	"GW_NETWORK": "private", "AZURE_LOCATION": "eastus2", "GW_TLS_SECRET_ID": "https://v.vault.azure.net/secrets/c",
	"GW_EDGE_SUBNET_ID": network + "/subnets/edge", "GW_APP_SUBNET_ID": network + "/subnets/app",
	"GW_LINKS_SUBNET_ID":    network + "/subnets/links",
	"GW_LOG_WORKSPACE_ID":   "/subscriptions/s/resourcegroups/hub/providers/Microsoft.OperationalInsights/workspaces/w",
	"GW_DNS_ZONES_GROUP_ID": "/subscriptions/s/resourceGroups/dns",
}

var says = map[string]string{
	"w": `"eastus2"`, "v": `"eastus2"`,
	"edge":  `{"prefix": "10.0.0.0/24", "delegations": [], "services": []}`,
	"app":   `{"prefix": "10.0.1.0/24", "delegations": ["Microsoft.App/environments"], "services": null}`,
	"links": `{"prefix": "10.0.2.0/26", "delegations": null, "services": null}`,
}

// tryExisting runs the hook with one variable changed.
func tryExisting(t *testing.T, says map[string]string, name, value string) (string, error) {
	t.Helper()
	env := maps.Clone(existing)
	env["AZURE_ENV_NAME"], env["AZURE_SUBSCRIPTION_ID"], env[name] = "trial", "s-1", value
	var environ []string
	for name, value := range env {
		environ = append(environ, name+"="+value)
	}
	a := &azd{values: map[string]string{}, says: says}
	var out strings.Builder
	err := a.try(t, project(t), environ, &out)
	return out.String(), err
}

func TestInputsCheckExistingIDs(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"GW_APP_SUBNET_ID", "", "three different subnets, or none"},
		{"GW_APP_SUBNET_ID", network + "/subnets/EDGE", "three different subnets, or none"},
		{"GW_APP_SUBNET_ID", network + "2/subnets/app", "must be of one network"},
		{"GW_APP_SUBNET_ID", "snet-app", "GW_APP_SUBNET_ID: must be the id of a subnet"},
		{"GW_LOG_WORKSPACE_ID", "log-1", "GW_LOG_WORKSPACE_ID: must be the id of a Log Analytics workspace"},
		{"GW_DNS_ZONES_GROUP_ID", "dns", "GW_DNS_ZONES_GROUP_ID: must be the id of a resource group"},
		{"GW_FUNCTION_PRIVATE_ENDPOINT", "false", "needs the service endpoint Microsoft.Web"},
	} {
		if _, err := tryExisting(t, says, c.name, c.value); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s=%s: %v, not %q", c.name, c.value, err, c.want)
		}
	}
	if out, err := tryExisting(t, says, "", ""); err != nil || strings.Contains(out, "Not checked") {
		t.Errorf("a network and a workspace as they should be: %v, %s", err, out)
	}
	if out, err := tryExisting(t, nil, "", ""); err != nil || !strings.Contains(out, "Not checked, because az did not answer") {
		t.Errorf("without az nothing can be checked, and nothing is refused: %v, %s", err, out)
	}
}

func TestInputsAskAzure(t *testing.T) {
	for _, c := range []struct{ of, said, want string }{
		{"w", `"westeurope"`, "GW_LOG_WORKSPACE_ID: is in westeurope, and must be in the gateway's region, eastus2"},
		{"v", `"westeurope"`, "GW_APP_SUBNET_ID: is in westeurope"},
		{"app", `{"prefix": "10.0.1.0/24", "delegations": ["Microsoft.Web/serverFarms"]}`, "must be delegated to Microsoft.App/environments"},
		{"app", `{"prefix": "10.0.1.0/28", "delegations": ["Microsoft.App/environments"]}`, "must have a /27 or larger"},
		{"edge", `{"prefix": "10.0.0.0/28"}`, "GW_EDGE_SUBNET_ID: has 10.0.0.0/28, and must have a /26 or larger"},
	} {
		changed := maps.Clone(says)
		changed[c.of] = c.said
		if _, err := tryExisting(t, changed, "", ""); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s is %s: %v, not %q", c.of, c.said, err, c.want)
		}
	}
}
