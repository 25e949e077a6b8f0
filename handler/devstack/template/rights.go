package template

import (
	"fmt"
	"slices"
	"strings"
)

// roleIDs are the roles that templates may give, by Azure's ids. Owner, Contributor and
// every other role over resources rather than data are not among them.
var roleIDs = map[string]string{
	"storageBlobDataOwner":        "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",
	"storageBlobDataContributor":  "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
	"storageBlobDataReader":       "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1",
	"storageTableDataContributor": "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3",
	"storageTableDataReader":      "76199698-9eea-4c19-bc75-cec21354c6b6",
	"keyVaultSecretsUser":         "4633458b-17de-408a-b874-0445c86b69e6",
	"keyVaultSecretsOfficer":      "b86a8fe4-44ce-4948-aee5-eccb2c155cd7",
	"cognitiveServicesOpenAIUser": "5e0bd9bd-7b93-4f28-af87-19fc36ad61bd",
	"monitoringMetricsPublisher":  "3913510d-42f4-4e42-8a64-420c390055eb",
	"logAnalyticsReader":          "73c42c96-874c-492b-b04d-ab87d138a893",
}

// granted is every right that templates give: what, to whom, on which resource (A21). The program appends to audit and
// cannot delete there; it cannot write its package; the edge reads its certificate and no other secret.
var granted = []string{
	"appendRole → identity on audit",
	"storageBlobDataOwner → identity on hostStorage",
	"storageTableDataContributor → identity on storage",
	"keyVaultSecretsUser → identity on vault",
	"storageBlobDataContributor → deployer on package",
	"keyVaultSecretsUser → edgeIdentity on keptCertificate",
	"cognitiveServicesOpenAIUser → identity on accounts[i]",
	"cognitiveServicesOpenAIUser → principalId on account", // attach.bicep
	"monitoringMetricsPublisher → identity on rule",
	"monitoringMetricsPublisher → identity on component",
	"storageBlobDataReader → auditorId on audit",
	"storageTableDataReader → auditorId on storage",
	"logAnalyticsReader → auditorId on workspace",
	"keyVaultSecretsOfficer → operatorId on vault",
	"logAnalyticsReader → operatorId on workspace",
}

// appendActions are all that the one custom role may do: no built-in role writes blobs and does not delete them.
var appendActions = []string{"read", "write", "add/action"}

func checkRights(all templates) (found []Finding) {
	all.each("resource", func(f *file, d *declaration) {
		if d.resourceType() != "Microsoft.Authorization/roleAssignments" || d.Existing {
			return
		}
		add := func(e *expr, format string, args ...any) {
			line := d.Line
			if e != nil {
				line = e.Line
			}
			found = append(found, Finding{f.path, line, d.Name + ": " + fmt.Sprintf(format, args...)})
		}
		body := d.body()
		if name := body.prop("name"); name == nil || name.Name != "guid" || len(name.Items) != 3 {
			add(name, "its name must be guid() of scope, principal and role")
		}
		kind := body.at("properties", "principalType")
		who, _, _ := strings.Cut(strings.ReplaceAll(body.at("properties", "principalId").text(), "!", ""), ".")
		person := who == "operatorId" || who == "auditorId"
		if kind == nil {
			add(nil, "principalType is missing; a fresh identity would not be found")
		} else if !person && kind.Text != "ServicePrincipal" {
			add(kind, "principalType must be ServicePrincipal")
		}
		scope := body.prop("scope")
		if scope == nil {
			add(nil, "scope is missing: the right would reach over the whole resource group")
		}
		role := roleOf(body.at("properties", "roleDefinitionId"), all)
		if role == "" {
			add(body.at("properties", "roleDefinitionId"), "its role is none of those that templates may give; see roleIDs")
			return
		}
		if right := role + " → " + who + " on " + scope.text(); !slices.Contains(granted, right) {
			add(scope, "%s is more than the gateway needs", right)
		}
	})
	found = append(found, checkAppendRole(all)...)
	return append(found, checkRoleIDs(all)...)
}

func checkAppendRole(all templates) (found []Finding) {
	all.each("resource", func(f *file, d *declaration) {
		if d.resourceType() != "Microsoft.Authorization/roleDefinitions" {
			return
		}
		const blobs = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/"
		permissions := d.body().at("properties", "permissions")
		actions := permissions.item(0).prop("dataActions")
		wrong := permissions.count() != 1 || permissions.item(0).prop("actions").count() != 0 || actions.count() != len(appendActions)
		for i := range actions.count() {
			name, ok := strings.CutPrefix(actions.item(i).Text, blobs)
			wrong = wrong || !ok || !slices.Contains(appendActions, name)
		}
		if wrong {
			found = append(found, Finding{f.path, d.Line, d.Name + ": the program's role may read, write and append blobs, and nothing else"})
		}
	})
	return found
}

// checkRoleIDs compares the ids in the templates with those of Azure's built-in roles.
func checkRoleIDs(all templates) (found []Finding) {
	for _, f := range all {
		roles := f.find("variable", "roles")
		if roles == nil {
			continue
		}
		for _, p := range roles.Value.Props {
			if roleIDs[p.Name] != p.Value.Text {
				found = append(found, Finding{f.path, p.Line, fmt.Sprintf("role %s is not %s", p.Name, p.Value.Text)})
			}
		}
	}
	return found
}

// roleOf is the name in roleIDs of a role definition, "" if it is not there.
func roleOf(definition *expr, all templates) string {
	if definition.text() == "appendRole.id" {
		return "appendRole"
	}
	if definition == nil || definition.Name != "subscriptionResourceId" || len(definition.Items) != 2 {
		return ""
	}
	role := definition.Items[1]
	if role.Kind == "string" {
		for name, id := range roleIDs {
			if id == role.Text {
				return name
			}
		}
		return ""
	}
	name := role.Text[strings.LastIndex(role.Text, ".")+1:]
	if id, ok := roleIDs[name]; ok && resolves(all, name, id) {
		return name
	}
	return ""
}

// resolves says whether a name stands for an id in a variable of some template.
func resolves(all templates, name, id string) bool {
	for _, f := range all {
		if v := f.find("variable", "roles"); v != nil && v.Value.prop(name).text() == id {
			return true
		}
		if v := f.find("variable", name); v != nil && v.Value.text() == id {
			return true
		}
	}
	return false
}
