package template

import (
	"fmt"
	"strings"
)

// checkStore holds what only shows months after a deployment, or at the second one.
func checkStore(all templates) (found []Finding) {
	all.each("resource", func(f *file, d *declaration) {
		add := func(e *expr, text string) {
			found = append(found, Finding{f.path, max(d.Line, e.line()), d.Name + ": " + text})
		}
		p := d.body().prop("properties")
		switch d.resourceType() {
		case "Microsoft.OperationalInsights/workspaces/savedSearches": // A2, B1
			if p.prop("etag").text() != "*" || d.body().prop("etag") != nil {
				add(p, "etag '*' must stand in properties: without it the second provision ends with 409, and no deployment takes it elsewhere")
			}
		case "Microsoft.Insights/diagnosticSettings": // A9
			if scope := d.body().prop("scope").text(); scope != "account" && p.prop("logAnalyticsDestinationType").text() != "Dedicated" {
				add(p, "logAnalyticsDestinationType must be Dedicated, or the tables that the documents name stay empty")
			}
		case "Microsoft.Consumption/budgets": // A3
			if start := p.at("timePeriod", "startDate"); start.text() != "budgetStart" {
				add(start, "startDate must be budgetStart: Azure refuses another month later")
			}
		case "Microsoft.Network/virtualNetworks": // B8
			for i := range p.prop("subnets").count() {
				if s := p.prop("subnets").item(i); s.at("properties", "defaultOutboundAccess") == nil {
					add(s, "every subnet must say defaultOutboundAccess: versions of the API differ in the default")
				}
			}
		}
	})
	found = append(found, checkRetention(all["store.bicep"])...)
	found = append(found, checkCertificateAlert(all["store.bicep"])...)
	found = append(found, checkRefusals(all["main.bicep"])...)
	return append(found, checkZoneLoops(all["network.bicep"])...)
}

// checkRetention: A7, B2 of the services, A22.
func checkRetention(f *file) (found []Finding) {
	storage := f.find("resource", "storage")
	add := func(d *declaration, e *expr, text string) {
		found = append(found, Finding{f.path, max(d.lineOf(), e.line()), text})
	}
	p := storage.body().prop("properties")
	if e := p.at("networkAcls", "bypass"); e.text() != "AzureServices" {
		add(storage, e, "storage: bypass must be AzureServices: lifecycle management would not get in, and nothing would be deleted")
	}
	if e := p.prop("isHnsEnabled"); e.text() != "false" {
		add(storage, e, "storage: isHnsEnabled must be false: such accounts cannot seal append blobs")
	}
	immutable := f.find("resource", "immutable")
	if immutable == nil || immutable.Value.Test != "auditImmutableDays > 0" ||
		immutable.body().at("properties", "allowProtectedAppendWritesAll").text() != "true" {
		add(immutable, nil, "immutable must be made if (auditImmutableDays > 0), with allowProtectedAppendWritesAll: journals grow by appends")
	}
	logs := f.find("resource", "recordLogs")
	for _, category := range []string{"StorageRead", "StorageDelete"} {
		if !strings.Contains(logs.body().text(), "'"+category+"'") {
			add(logs, nil, "recordLogs: lacks "+category+": nobody would see who read prompts or deleted them")
		}
	}
	for secret, value := range map[string]string{
		"adminSecret": "!empty(adminKey) && !secretsUnchanged", "certificate": "private && !empty(tlsPfx) && !secretsUnchanged",
	} { // A13, A25
		if d := f.find("resource", secret); d == nil || d.Value.Kind != "if" || d.Value.Test != value {
			add(d, nil, fmt.Sprintf("%s must be written if (%s): a machine without the value would replace the vault's, "+
				"and a machine with the same value would make another version", secret, value))
		}
	}
	return found
}

// checkCertificateAlert: A22. The vault tells of the end of a secret that has one, and was written after somebody asked.
func checkCertificateAlert(f *file) (found []Finding) {
	events := f.find("resource", "certificateEnds")
	add := func(d *declaration, e *expr, text string) {
		found = append(found, Finding{f.path, max(d.lineOf(), e.line()), text})
	}
	p := events.body().prop("properties")
	for _, name := range []string{"vaultEvents", "certificateEnds"} {
		if d := f.find("resource", name); d == nil || d.Value.Kind != "if" || d.Value.Test != "private && alerts" {
			add(d, nil, name+" must be made if (private && alerts): nobody else hears that the certificate ends")
		}
	}
	if types := p.at("filter", "includedEventTypes").text(); !strings.Contains(types, "'Microsoft.KeyVault.SecretNearExpiry'") {
		add(events, p, "certificateEnds: lacks Microsoft.KeyVault.SecretNearExpiry")
	}
	if e := p.prop("eventDeliverySchema"); e.text() != "CloudEventSchemaV1_0" {
		add(events, e, "certificateEnds: eventDeliverySchema must be CloudEventSchemaV1_0: alerts take no other")
	}
	if e := p.at("destination", "properties", "actionGroups"); e.item(0).text() != "actionGroupId" {
		add(events, e, "certificateEnds: must alert actionGroupId")
	}
	certificate := f.find("resource", "certificate")
	if e := certificate.body().at("properties", "attributes"); e.text() != "tlsEnd > 0 ? { exp: tlsEnd } : {}" {
		add(certificate, e, "certificate: attributes must have exp: a vault that does not know the end cannot tell of it")
	}
	if e := certificate.body().prop("dependsOn"); !strings.Contains(e.text(), "certificateEnds") {
		add(certificate, e, "certificate: must wait for certificateEnds: events come for younger versions only")
	}
	return found
}

// checkRefusals: what Azure would refuse late, or do twice, the template refuses or keeps.
func checkRefusals(main *file) (found []Finding) {
	for variable, want := range map[string]string{
		"noCertificate": "isPrivate && empty(tlsSecretUri) && empty(tlsPfx) && !certificateKept", // of a vault that has none
		"budgetMonth":   "empty(budgetStart) ? currentMonth : budgetStart",
		"regions":       "union(regionList, regionList)", // B6
		"budget":        "fail('GW_MONTHLY_BUDGET",       // B11
		"checkedPfx":    "fail('private needs",           // B12
		"checkedKey":    "fail('GW_ADMIN_KEY",            // A1
		"edgeLeast":     "fail('GW_EDGE_MIN",             // B13
		"warm":          "fail('GW_ALWAYS_READY",         // B13
		"regionList":    "replace(toLower(trim(r)), ' ', '')",
	} {
		if d := main.find("variable", variable); d == nil || !strings.Contains(d.Value.text(), want) {
			found = append(found, Finding{main.path, d.lineOf(), variable + " must have " + want})
		}
	}
	return found
}

// checkZoneLoops: B2. Azure Monitor's zones exist only with their endpoint: an empty zone hides the public names.
func checkZoneLoops(f *file) (found []Finding) {
	for _, name := range []string{"zone", "zoneLink"} {
		d := f.find("resource", name)
		if d == nil || !strings.Contains(d.Value.text(), " in zoneItems:") {
			found = append(found, Finding{f.path, d.lineOf(), name + " must loop over zoneItems, which leaves out zones without an endpoint"})
		}
	}
	for name, want := range map[string]string{
		"endpointZones": "monitorPrivateLink || !contains(monitorZones, z.key)",
		"zoneItems":     "empty(dnsZonesGroupId) ? endpointZones : []",
		"zonesGroupId":  "empty(dnsZonesGroupId) ? resourceGroup().id : dnsZonesGroupId",
	} {
		if d := f.find("variable", name); d == nil || !strings.Contains(d.Value.text(), want) {
			found = append(found, Finding{f.path, d.lineOf(), name + " must be " + want})
		}
	}
	return found
}
