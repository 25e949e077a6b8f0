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
	"storageBlobDataReader":       "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1",
	"storageTableDataContributor": "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3",
	"keyVaultSecretsUser":         "4633458b-17de-408a-b874-0445c86b69e6",
	"keyVaultSecretsOfficer":      "b86a8fe4-44ce-4948-aee5-eccb2c155cd7",
	"cognitiveServicesOpenAIUser": "5e0bd9bd-7b93-4f28-af87-19fc36ad61bd",
	"monitoringMetricsPublisher":  "3913510d-42f4-4e42-8a64-420c390055eb",
	"logAnalyticsReader":          "73c42c96-874c-492b-b04d-ab87d138a893",
}

// granted is every right of the two managed identities: what, to whom, on which resource.
var granted = []string{
	"keyVaultSecretsUser → identity on vault", // of app and of edge
	"storageBlobDataOwner → identity on storage",
	"storageTableDataContributor → identity on storage",
	"cognitiveServicesOpenAIUser → identity on accounts[i]",
	"monitoringMetricsPublisher → identity on rule",
	"monitoringMetricsPublisher → identity on component",
}

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
		operator := strings.HasPrefix(body.at("properties", "principalId").text(), "operatorId")
		if kind == nil {
			add(nil, "principalType is missing; a fresh identity would not be found")
		} else if !operator && kind.Text != "ServicePrincipal" {
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
		if right := role + " → identity on " + scope.text(); !operator && !slices.Contains(granted, right) {
			add(scope, "%s is more than the gateway needs", right)
		}
	})
	return append(found, checkRoleIDs(all)...)
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
