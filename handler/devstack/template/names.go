package template

import (
	"fmt"
	"regexp"
	"strings"
)

// nameRules are Azure's rules for the names of types that have narrow ones.
var nameRules = map[string]*regexp.Regexp{
	"Microsoft.Storage/storageAccounts":                         regexp.MustCompile(`^[a-z0-9]{3,24}$`),
	"Microsoft.KeyVault/vaults":                                 regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9-]{1,22}[a-zA-Z0-9]$`),
	"Microsoft.Web/sites":                                       regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9-]{0,58}[a-zA-Z0-9]$`),
	"Microsoft.Web/serverfarms":                                 regexp.MustCompile(`^[a-zA-Z0-9-]{1,40}$`),
	"Microsoft.OperationalInsights/workspaces":                  regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9-]{2,61}[a-zA-Z0-9]$`),
	"Microsoft.EventGrid/systemTopics":                          regexp.MustCompile(`^[a-zA-Z0-9-]{3,50}$`),
	"Microsoft.Insights/dataCollectionEndpoints":                regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9-]{1,42}[a-zA-Z0-9]$`),
	"Microsoft.Insights/dataCollectionRules":                    regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9-]{1,62}[a-zA-Z0-9]$`),
	"Microsoft.ManagedIdentity/userAssignedIdentities":          regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_-]{2,127}$`),
	"Microsoft.Network/virtualNetworks":                         regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}[a-zA-Z0-9_]$`),
	"Microsoft.Network/networkSecurityGroups":                   regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,78}[a-zA-Z0-9_]$`),
	"Microsoft.Storage/storageAccounts/blobServices/containers": regexp.MustCompile(`^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$`),
}

// checkNames: BCP334. A name is made of the token, which has 13 characters; Azure's rules are narrow for some types.
func checkNames(all templates) (found []Finding) {
	all.each("resource", func(f *file, d *declaration) {
		rule, name := nameRules[d.resourceType()], f.resolve(d.body().prop("name")).text()
		name = strings.ReplaceAll(name, "${token}", strings.Repeat("a", 13))
		if rule == nil || d.Existing || strings.Contains(name, "${") {
			return
		}
		if !rule.MatchString(name) {
			found = append(found, Finding{f.path, d.Line, fmt.Sprintf("%s: %q is no name for it (%s)", d.Name, name, rule)})
		}
	})
	return found
}
