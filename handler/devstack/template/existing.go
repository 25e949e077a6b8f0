package template

import "strings"

// checkExisting: with an own network or workspace the template makes none, changes nothing of it but what the gateway
// adds, and refuses in words what does not fit together.
func checkExisting(all templates) (found []Finding) {
	network, observe, app := all["network.bicep"], all["observe.bicep"], all["app.bicep"]
	need := func(f *file, kind, name, want string, have func(*declaration) string) {
		d := f.find(kind, name)
		if d == nil || !strings.Contains(have(d), want) {
			found = append(found, Finding{f.path, d.lineOf(), name + " must have " + want})
		}
	}
	value := func(d *declaration) string { return d.Value.text() }
	test := func(d *declaration) string {
		if d.Value.Kind != "if" {
			return ""
		}
		return d.Value.Test
	}
	for _, name := range []string{"edgeRules", "appRules", "linkRules", "vnet"} {
		need(network, "resource", name, "makesNetwork", test)
	}
	need(network, "variable", "makesNetwork", "empty(existingSubnets)", value)
	need(network, "variable", "networkId", "split(existingSubnets[0], '/subnets/')[0]", value)
	need(network, "variable", "edgeSubnet", ": existingSubnets[0]", value)
	need(network, "variable", "appSubnet", ": existingSubnets[1]", value)
	need(network, "variable", "linksSubnet", ": existingSubnets[2]", value)
	main := all["main.bicep"]
	need(main, "variable", "subnets", "filter([edgeSubnetId, appSubnetId, linksSubnetId], ", value)
	need(main, "variable", "someSubnets", "!empty(subnets) && length(union(subnetIds, subnetIds)) != 3", value)
	need(main, "variable", "wholeSubnets", "someSubnets ? fail('GW_EDGE_SUBNET_ID, ", value)
	need(main, "variable", "existingSubnets", "length(union(networkIds, networkIds)) > 1 ? fail(", value)
	need(main, "variable", "existingWorkspace", "noWorkspace ? fail('GW_LOG_WORKSPACE_ID must be", value)
	// A name of API Management's hides the table of that name, which a workspace of a company may have.
	need(main, "parameter", "compatibilityAlias", "empty(logWorkspaceId) ? 'ApiManagementGatewayLogs' : ''", value)
	need(observe, "resource", "workspace", "empty(logWorkspaceId)", test)
	need(observe, "variable", "workspaceId", "empty(logWorkspaceId) ? workspace.id : logWorkspaceId", value)
	need(observe, "variable", "workspaceParts", "split(empty(logWorkspaceId) ? ownWorkspaceId : logWorkspaceId, '/')", value)
	need(observe, "module", "rows", "resourceGroup(workspaceParts[2], workspaceParts[4])", func(d *declaration) string {
		return d.body().prop("scope").text()
	})
	// Whoever may read a workspace of the company reads the rows of all its other programs too.
	need(app, "resource", "operatorLogs", "ownWorkspace", test)
	need(app, "resource", "auditorLogs", "ownWorkspace", test)
	need(main, "module", "app", "empty(logWorkspaceId)", func(d *declaration) string {
		return d.body().at("params", "ownWorkspace").text()
	})
	return found
}
