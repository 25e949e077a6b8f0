package template

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// doors are the types with a public endpoint: where it is closed, and how to reach what is
// behind it: the group of the private endpoint.
var doors = map[string]struct {
	closes []string
	groups []string
}{
	"Microsoft.Storage/storageAccounts":              {[]string{"properties.publicNetworkAccess"}, []string{"blob", "table"}},
	"Microsoft.KeyVault/vaults":                      {[]string{"properties.publicNetworkAccess"}, []string{"vault"}},
	"Microsoft.CognitiveServices/accounts":           {[]string{"properties.publicNetworkAccess"}, []string{"account"}},
	"Microsoft.OperationalInsights/workspaces":       {[]string{"properties.publicNetworkAccessForIngestion"}, []string{"azuremonitor"}},
	"Microsoft.Insights/components":                  {[]string{"properties.publicNetworkAccessForIngestion"}, []string{"azuremonitor"}},
	"Microsoft.Insights/dataCollectionEndpoints":     {[]string{"properties.networkAcls.publicNetworkAccess"}, []string{"azuremonitor"}},
	"Microsoft.Web/sites":                            {nil, []string{"sites"}},
	"Microsoft.ContainerRegistry/registries":         {[]string{"properties.publicNetworkAccess"}, []string{"registry"}},
	"Microsoft.DocumentDB/databaseAccounts":          {[]string{"properties.publicNetworkAccess"}, []string{"sql"}},
	"Microsoft.EventHub/namespaces":                  {[]string{"properties.publicNetworkAccess"}, []string{"namespace"}},
	"Microsoft.ServiceBus/namespaces":                {[]string{"properties.publicNetworkAccess"}, []string{"namespace"}},
	"Microsoft.AppConfiguration/configurationStores": {[]string{"properties.publicNetworkAccess"}, []string{"configurationStores"}},
}

// groupZones are the private DNS zones that each group needs, by their keys in network.bicep.
var groupZones = map[string][]string{
	"blob": {"blob"}, "table": {"table"}, "vault": {"vault"}, "sites": {"sites"},
	"account":      {"openai", "cognitiveservices", "aiservices"},
	"azuremonitor": {"monitor", "oms", "ods", "agentsvc", "blob"},
}

// zoneNames are the zones' names, but for the suffix of storage.
var zoneNames = map[string]string{
	"sites": "privatelink.azurewebsites.net", "blob": "privatelink.blob.${storageSuffix}", "table": "privatelink.table.${storageSuffix}",
	"vault": "privatelink.vaultcore.azure.net", "openai": "privatelink.openai.azure.com",
	"cognitiveservices": "privatelink.cognitiveservices.azure.com", "aiservices": "privatelink.services.ai.azure.com",
	"monitor": "privatelink.monitor.azure.com", "oms": "privatelink.oms.opinsights.azure.com",
	"ods": "privatelink.ods.opinsights.azure.com", "agentsvc": "privatelink.agentsvc.azure-automation.net",
}

// checkDoors holds the private variant to its name: whatever has a public endpoint has it
// closed, and is reached by a private endpoint whose names resolve.
func checkDoors(all templates) (found []Finding) {
	linked := links(all, &found)
	all.each("resource", func(f *file, d *declaration) {
		door, ok := doors[d.resourceType()]
		if !ok || d.Existing {
			return
		}
		for _, path := range door.closes {
			e := d.body().at(strings.Split(path, ".")...).in(private)
			if e.text() != "Disabled" {
				found = append(found, Finding{
					f.path, max(d.Line, e.line()),
					fmt.Sprintf("%s: %s must be Disabled in private, and is %q", d.Name, path, e.text()),
				})
			}
		}
		for _, group := range door.groups {
			if !slices.Contains(linked, group) {
				found = append(found, Finding{f.path, d.Line, fmt.Sprintf("%s: no link.bicep makes a private endpoint for %s", d.Name, group)})
			}
		}
	})
	found = append(found, checkKeys(all)...)
	found = append(found, checkSite(all)...)
	return append(found, checkZones(all)...)
}

// links are the groups that have a private endpoint; each must name its zones.
func links(all templates, found *[]Finding) (groups []string) {
	all.each("module", func(f *file, d *declaration) {
		if d.Target != "link.bicep" {
			return
		}
		params := d.body().prop("params")
		group := params.prop("groupId").text()
		groups = append(groups, group)
		var zones []string
		for _, m := range zoneUse.FindAllStringSubmatch(params.prop("zoneIds").text(), -1) {
			zones = append(zones, m[1])
		}
		for _, want := range groupZones[group] {
			if !slices.Contains(zones, want) {
				*found = append(*found, Finding{f.path, d.Line, fmt.Sprintf("%s: its names need zone %s", d.Name, want)})
			}
		}
	})
	return groups
}

var zoneUse = regexp.MustCompile(`\bzones\.(\w+)`)

func checkZones(all templates) (found []Finding) {
	f := all["network.bicep"]
	zones := f.find("variable", "zoneNames")
	if zones == nil {
		return []Finding{{"infra/network.bicep", 0, "no zoneNames"}}
	}
	for key, name := range zoneNames {
		if have := zones.Value.prop(key).text(); have != name {
			found = append(found, Finding{f.path, zones.Line, fmt.Sprintf("zone %s must be %s, and is %q", key, name, have)})
		}
	}
	all.each("resource", func(f *file, d *declaration) {
		if d.resourceType() == "Microsoft.Network/virtualNetworks" &&
			!strings.Contains(d.Value.text(), "serviceName: 'Microsoft.App/environments'") {
			found = append(found, Finding{
				f.path, d.Line,
				"Flex Consumption needs a subnet delegated to Microsoft.App/environments, in this spelling",
			})
		}
	})
	return found
}

// checkKeys: nothing may be opened with an account key, in either variant.
func checkKeys(all templates) (found []Finding) {
	want := map[string][2]string{
		"Microsoft.Storage/storageAccounts":                      {"allowSharedKeyAccess", "false"},
		"Microsoft.CognitiveServices/accounts":                   {"disableLocalAuth", "true"},
		"Microsoft.Insights/components":                          {"DisableLocalAuth", "true"},
		"Microsoft.KeyVault/vaults":                              {"enableRbacAuthorization", "true"},
		"Microsoft.OperationalInsights/workspaces":               {"features.disableLocalAuth", "true"},
		"Microsoft.Web/sites/basicPublishingCredentialsPolicies": {"allow", "false"},
	}
	all.each("resource", func(f *file, d *declaration) {
		rule, ok := want[d.resourceType()]
		if !ok || d.Existing {
			return
		}
		e := d.body().prop("properties").at(strings.Split(rule[0], ".")...)
		if e.text() != rule[1] {
			found = append(found, Finding{f.path, max(d.Line, e.line()), fmt.Sprintf("%s: %s must be %s", d.Name, rule[0], rule[1])})
		}
	})
	for _, name := range all.names() {
		for _, d := range all[name].Declarations {
			if strings.Contains(d.Value.text(), "listKeys(") {
				found = append(found, Finding{all[name].path, d.Line, d.Name +
					": an account key is read here; every service takes the managed identity"})
			}
		}
	}
	return found
}

// checkSite: the one resource whose endpoint stays, for deployments, is closed by its
// default instead.
func checkSite(all templates) (found []Finding) {
	f := all["app.bicep"]
	site := f.find("resource", "site")
	if site == nil {
		return []Finding{{"infra/app.bicep", 0, "no resource site"}}
	}
	need := func(want string, s state, path ...string) {
		if e := site.body().at(path...).in(s); e.text() != want {
			found = append(found, Finding{
				f.path, max(site.Line, e.line()),
				fmt.Sprintf("site: %s must be %s in %s, and is %q", strings.Join(path, "."), want, s.name, e.text()),
			})
		}
	}
	need("Deny", private, "properties", "siteConfig", "ipSecurityRestrictionsDefaultAction")
	need("Allow", public, "properties", "siteConfig", "ipSecurityRestrictionsDefaultAction")
	need("Allow", opening, "properties", "siteConfig", "ipSecurityRestrictionsDefaultAction")
	need("false", private, "properties", "siteConfig", "scmIpSecurityRestrictionsUseMain")
	need("true", private, "properties", "httpsOnly")
	need("appSubnetId", private, "properties", "virtualNetworkSubnetId")
	need("appSubnetId", opening, "properties", "virtualNetworkSubnetId")
	need("null", public, "properties", "virtualNetworkSubnetId")
	need("custom", private, "properties", "functionAppConfig", "runtime", "name")
	need("1.0", private, "properties", "functionAppConfig", "runtime", "version")
	return found
}
