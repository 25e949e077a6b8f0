package template

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// notKept are the parameters whose value is no output under the name of their variable, each with its reason. Another
// machine would deploy the default of every other setting that it does not know.
var notKept = map[string]string{
	"environmentName": "azd has it",
	"adminKey":        "a secret",
	"tlsPfx":          "a secret",
	"tlsEnd":          "the hook reads it from the certificate of this machine",
	"secretsKept":     "says what this machine knows",
	"writeMark":       "says what this machine knows; the output is GW_WRITTEN_MARK",
	"purgeProtection": "Azure does not take it back",
}

// keptAs are outputs that are not the parameter itself: the next deployment wants another value, or none where the default
// follows from another setting.
var keptAs = map[string]string{
	"networkBefore":   "network",
	"writtenMark":     "empty(writeMark) ? writtenMark : writeMark",                               // A25
	"certificateKept": "(isPrivate && empty(tlsSecretUri)) || certificateKept ? 'true' : 'false'", // stays true
	"budgetStart":     "monthlyBudget > 0 ? budgetMonth : budgetStart",                            // A3
	"dnsLabel":        "edgeLabel",                                                                // A13
	"alwaysReady":     "alwaysReady == (production ? 2 : 0) ? '' : string(alwaysReady)",           // GW_PRODUCTION
	"zoneRedundant":   "zoneRedundant == production ? '' : (zoneRedundant ? 'true' : 'false')",    // GW_PRODUCTION
	"edgeMinCapacity": "edgeMinCapacity == (production ? 2 : 0) ? '' : string(edgeMinCapacity)",   // GW_PRODUCTION
	"edgeMaxCapacity": "edgeMaxCapacity == (production ? 10 : 2) ? '' : string(edgeMaxCapacity)",  // GW_PRODUCTION
}

// mostOutputs is Azure's limit.
const mostOutputs = 64

// variables are the names of parameters in the environment, where they do not follow from the parameter's own.
var variables = map[string]string{
	"environmentName": "AZURE_ENV_NAME", "location": "AZURE_LOCATION", "accountKind": "GW_AI_KIND", "instanceMemoryMB": "GW_MEMORY_MB",
	"maximumInstanceCount": "GW_MAX_INSTANCES", "compatibilityAlias": "GW_COMPAT_ALIAS", "tlsSecretUri": "GW_TLS_SECRET_ID",
	"gatewayHostName": "GW_HOST_NAME", "entraTenantId": "GW_ENTRA_TENANT", "extraTags": "GW_TAGS",
}

// variableOf is the variable of a parameter: auditRetentionDays is GW_AUDIT_RETENTION_DAYS.
func variableOf(parameter string) string {
	if name, ok := variables[parameter]; ok {
		return name
	}
	var b strings.Builder
	for _, r := range parameter {
		if r >= 'A' && r <= 'Z' {
			b.WriteByte('_')
		}
		b.WriteRune(r)
	}
	return "GW_" + strings.ToUpper(b.String())
}

// checkKept: each parameter has its own variable, and what another machine must know is an output under that name, which
// azd keeps and azd env refresh brings.
func checkKept(root string, main *file) (found []Finding) {
	set, err := parameterValues(root)
	if err != nil {
		return nil // checkParameters says so
	}
	outputs := 0
	for _, d := range main.Declarations {
		if d.Kind == "output" {
			outputs++
		}
		value, ok := set[d.Name]
		if d.Kind != "parameter" || !ok {
			continue
		}
		name := variableOf(d.Name)
		if want := "${" + name + "}"; value != want {
			found = append(found, Finding{"infra/main.parameters.json", 0, fmt.Sprintf("%s must be %s, not %s", d.Name, want, value)})
		}
		if _, exempt := notKept[d.Name]; exempt {
			continue
		}
		want, ok := keptAs[d.Name]
		if !ok {
			want = map[string]string{"bool": d.Name + " ? 'true' : 'false'", "int": "string(" + d.Name + ")", "string": d.Name}[d.Type]
		}
		if out := main.find("output", name); out == nil || out.Value.text() != want {
			found = append(found, Finding{
				main.path, max(d.Line, out.lineOf()),
				fmt.Sprintf("output %s must be %s: another machine must know it, or notKept must say why not", name, want),
			})
		}
	}
	if outputs > mostOutputs {
		found = append(found, Finding{main.path, 0, fmt.Sprintf("%d outputs; Azure takes %d", outputs, mostOutputs)})
	}
	for name, want := range map[string]string{
		"GW_DEPLOYMENT": "deployment().name",                      // the hook compares it with the last one
		"GW_URL":        "isPrivate && !empty(gatewayHostName) ?", // B10
	} {
		if d := main.find("output", name); d == nil || !strings.Contains(d.Value.text(), want) {
			found = append(found, Finding{main.path, d.lineOf(), name + " must be " + want})
		}
	}
	return found
}

// parameterValues are the values of main.parameters.json by parameter.
func parameterValues(root string) (map[string]string, error) {
	var file struct {
		Parameters map[string]struct{ Value string }
	}
	data, err := os.ReadFile(filepath.Join(root, "infra/main.parameters.json"))
	if err == nil {
		err = json.Unmarshal(data, &file)
	}
	values := map[string]string{}
	for name, p := range file.Parameters {
		values[name] = p.Value
	}
	return values, err
}
