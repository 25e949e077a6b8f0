package template

import (
	"fmt"
	"slices"
	"strings"
)

// productionDefaults are what GW_PRODUCTION changes (A24).
var productionDefaults = map[string]string{
	"storageSku":      "production ? 'Standard_ZRS' : 'Standard_LRS'",
	"zoneRedundant":   "production",
	"purgeProtection": "production",
	"alwaysReady":     "production ? 2 : 0",
	"edgeMinCapacity": "production ? 2 : 0",
	"edgeMaxCapacity": "production ? 10 : 2",
}

func checkDefaults(all templates) (found []Finding) {
	main := all["main.bicep"]
	for name, want := range productionDefaults {
		if d := main.find("parameter", name); d == nil || d.Value.text() != want {
			found = append(found, Finding{main.path, d.lineOf(), fmt.Sprintf("%s must be %s", name, want)})
		}
	}
	if d := main.find("parameter", "edgeMaxCapacity"); d == nil || !slices.Contains(d.Decorators, "minValue(2)") { // A20
		found = append(found, Finding{main.path, d.lineOf(), "edgeMaxCapacity needs @minValue(2): Azure takes no less"})
	}
	if d := all["edge.bicep"].find("resource", "firewall"); d == nil || // A23
		d.body().at("properties", "customRules").text() != "empty(manageSources) ? [noDots] : [noDots, manageByAddress]" {
		found = append(found, Finding{"infra/edge.bicep", d.lineOf(), "the strict policy must hold GW_MANAGE_SOURCES for /manage"})
	}
	types, err := azureTypes()
	if err != nil {
		return append(found, Finding{"infra/main.bicep", 0, err.Error()})
	}
	all.each("resource", func(f *file, d *declaration) {
		if d.Existing {
			return
		}
		// A23: a policy that demands tags refuses what has none; parts of a resource are exempt.
		t, _ := types[strings.ToLower(d.Target)].(map[string]any)
		if _, ok := t["tags"]; ok && strings.Count(d.resourceType(), "/") == 1 && !strings.Contains(d.body().prop("tags").text(), "tags") {
			found = append(found, Finding{f.path, d.Line, d.Name + ": has no tags"})
		}
		// A11: an Application Gateway that is made beside its role fails until Azure knows the role everywhere.
		if f.path == "infra/edge.bicep" && d.resourceType() == "Microsoft.Authorization/roleAssignments" {
			found = append(found, Finding{f.path, d.Line, d.Name + ": belongs into store.bicep, minutes before the Application Gateway"})
		}
	})
	return found
}
