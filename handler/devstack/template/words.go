package template

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// told is what no template can mend, so that the README must say it: a text that it must have, and why.
var told = map[string]string{
	"az network private-endpoint delete -g rg-trial -n pe-site-…":              "A8: an endpoint stays when its parameter is false",
	"az network application-gateway delete":                                    "A8: public does not remove what private made",
	"az cognitiveservices account delete":                                      "A8: a region that is taken out stays",
	"az role assignment delete --ids":                                          "B3: a former operator keeps the rights",
	"az storage account migration start":                                       "B4: zones of an account come and go by a migration",
	"Only `true` and `false` are understood":                                   "B5: azd ignores other words",
	"az monitor log-analytics workspace saved-search delete":                   "B7: the functions stay when the alias is empty",
	"`ResourceAvailabilityZonesCannotBeModified`":                              "B9: a region may get zones",
	"| Bicep CLI 0.49.2 ":                                                      "B19: what the compiler saw",
	"azd env set GW_KEEP_OPEN false && azd provision":                          "B20: the second step",
	"it inspects paths, queries, headers and cookies, and no bodies":           "W19: what the firewall does not look at",
	"Azure's deletion by age does not work in such a container":                "A22: immutability keeps records for ever",
	"take 4 minutes at most":                                                   "A8: what the way without the endpoint costs",
	"Deleted records stay in soft delete for 7 days more":                      "B4 of the services: retention is longer than its number",
	"The public cloud only":                                                    "K1: other clouds have other names",
	"the table is new (5 to 15 minutes)":                                       "L3: the first rows are late",
	"Microsoft does not promise that the cap holds":                            "L2: the daily cap",
	"up to a day for managed identities":                                       "E1: a removed role works on",
	"`AuthorizationFailed` at `roleDefinitions`":                               "A21: the custom role needs more than Contributor",
	"whoever reaches the app there can claim any client address":               "A12: the address of the caller is the edge's to say",
	"delegated to `Microsoft.App/environments`":                                "an own network must be prepared",
	"A vault that has no certificate yet":                                      "A13: the first private on a second machine",
	"`GW_COMPAT_ALIAS` is empty there unless you set it":                       "an own workspace may have API Management's own table",
	"`GW_OPERATOR_ID` and `GW_AUDITOR_ID` get no rights on it":                 "an own workspace has rows of other programs",
	"Flex Consumption then starts its instances anew, which ends open streams": "B20: what each step costs",
	"Rule set 2.2 is not used":                                                 "W17: it lets more attacks in",
	"the template refuses the step without it":                                 "B20: the first step",
}

// checkWords: A17 and told.
func checkWords(root string, main *file) (found []Finding) {
	const path = "infra/README.md"
	data, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		return []Finding{{path, 0, err.Error()}}
	}
	text := strings.Join(strings.Fields(string(data)), " ")
	for want, why := range told {
		if !strings.Contains(text, want) {
			found = append(found, Finding{path, 0, fmt.Sprintf("must say %q (%s)", want, why)})
		}
	}
	for _, name := range asked[1:] { // azd knows the first
		if question := "Enter a value for the '" + name + "' infrastructure parameter"; !strings.Contains(text, question) {
			found = append(found, Finding{path, 0, fmt.Sprintf("must show azd's question %q (A17)", question)})
		}
	}
	name := main.find("parameter", "environmentName")
	if name == nil || !slices.Contains(name.Decorators, "maxLength(64)") {
		found = append(found, Finding{main.path, name.lineOf(), "environmentName needs @maxLength(64), as azd allows (B16)"})
	}
	sku := main.find("parameter", "storageSku")
	if sku == nil || !strings.Contains(strings.Join(sku.Decorators, ""), "Set it before the first provision") {
		found = append(found, Finding{main.path, sku.lineOf(), "storageSku must say that it is set before the first provision (B4)"})
	}
	return found
}
