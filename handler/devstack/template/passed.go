package template

import (
	"fmt"
	"strings"
)

// passedAs are the arguments of main.bicep's modules that are not the parameter of their name, each with its reason.
var passedAs = map[string]string{
	"store adminKey":      "checkedKey", // refused when short or missing
	"store tlsPfx":        "checkedPfx", // refused when missing
	"app alwaysReady":     "warm",       // refused above the most instances
	"observe budgetStart": "budgetMonth",
	// Refused in words where they do not fit together.
	"net existingSubnets": "existingSubnets", "observe logWorkspaceId": "existingWorkspace", "observe monthlyBudget": "budget",
	// The region of an account is its own.
	"ai location": "region",
	// The public name exists before somebody chooses one.
	"edge dnsLabel": "edgeLabel",
	// Of the network, which makes subnets or takes those that exist.
	"ai linksSubnetId":    "net.?outputs.linksSubnetId ?? ''",
	"store linksSubnetId": "net.?outputs.linksSubnetId ?? ''",
	"app linksSubnetId":   "net.?outputs.linksSubnetId ?? ''",
	"app edgeSubnetId":    "net.?outputs.edgeSubnetId ?? ''",
	"app appSubnetId":     "net.?outputs.appSubnetId ?? ''",
	// Names in the module differ from those of the settings.
	"observe retentionInDays": "logRetentionDays", "observe dailyQuotaGb": "dailyLogQuotaGb", "ai kind": "accountKind",
	"ai diagnostics": "aiDiagnostics", "edge minCapacity": "edgeLeast", "edge maxCapacity": "edgeMaxCapacity",
	"edge accessLog": "edgeAccessLog",
}

// checkPassed: each setting reaches its module under its own name: a retention that gets the days of the logs deletes records.
func checkPassed(main *file) (found []Finding) {
	for exception := range passedAs {
		module, param, _ := strings.Cut(exception, " ")
		if d := main.find("module", module); d == nil || d.body().prop("params").prop(param) == nil {
			found = append(found, Finding{main.path, 0, exception + ": passedAs names an argument that no module gets"})
		}
	}
	for i := range main.Declarations {
		d := &main.Declarations[i]
		params := d.body().prop("params")
		if d.Kind != "module" || params == nil {
			continue
		}
		for _, p := range params.Props {
			want, listed := passedAs[d.Name+" "+p.Name]
			if !listed && main.find("parameter", p.Name) == nil {
				continue // no setting
			}
			if !listed {
				want = p.Name
			}
			if have := p.Value.text(); have != want {
				found = append(found, Finding{main.path, p.Line, fmt.Sprintf("%s: %s must be %s, not %s", d.Name, p.Name, want, have)})
			}
		}
	}
	return found
}
