package template

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// model is one entry of infra/models.json.
type model struct {
	Name     string   `json:"name"`
	Model    string   `json:"model"`
	Version  string   `json:"version"`
	SKU      string   `json:"sku"`
	Capacity int      `json:"capacity"`
	Regions  []string `json:"regions"`
	Retires  string   `json:"retires"`
}

// account is one entry of infra/accounts.json.
type account struct {
	Name       string            `json:"name"`
	ID         string            `json:"id"`
	Endpoint   string            `json:"endpoint"`
	Priority   int               `json:"priority"`
	Weight     int               `json:"weight"`
	Credential string            `json:"credential"`
	Models     map[string]string `json:"models"`
}

// skus are those of deployments that serve requests at once.
var skus = []string{
	"GlobalStandard", "DataZoneStandard", "Standard",
	"GlobalProvisionedManaged", "DataZoneProvisionedManaged", "ProvisionedManaged",
}

// notice is how long before its end a model is reported: Azure closes it to new subscriptions months before.
const notice = 120 * 24 * time.Hour

// checkModels: A6, A14, A15.
func checkModels(root string, now time.Time) (found []Finding) {
	const path = "infra/models.json"
	add := func(format string, args ...any) {
		found = append(found, Finding{path, 0, fmt.Sprintf(format, args...)})
	}
	var models []model
	if err := strictJSON(filepath.Join(root, path), &models); err != nil {
		return []Finding{{path, 0, err.Error()}}
	}
	var names []string
	for _, m := range models {
		if m.Name == "" || m.Model == "" || m.Capacity < 1 || m.Regions == nil {
			add("%q needs name, model, capacity of 1 or more, and regions ([] is all of them)", m.Name)
		}
		if slices.Contains(names, m.Name) {
			add("%s is there twice", m.Name)
		}
		names = append(names, m.Name)
		if !slices.Contains(skus, m.SKU) {
			add("%s: sku %q is none of %v", m.Name, m.SKU, skus)
		}
		if !deploymentName.MatchString(m.Name) {
			add("%q is no name of a deployment: letters, digits, hyphens, periods and underscores", m.Name)
		}
		for _, r := range m.Regions {
			if !regionName.MatchString(r) {
				add("%s: region %q must be written as in GW_AI_REGIONS, such as eastus2", m.Name, r)
			}
		}
		if m.Retires == "" && m.Version == "" {
			continue // Azure moves it to the region's default
		}
		end, err := time.Parse(time.DateOnly, m.Retires)
		if err != nil {
			add("%s: version %s needs retires, a date such as 2027-09-21: nobody would hear that it ends", m.Name, m.Version)
		} else if now.Add(notice).After(end) {
			add("%s retires on %s: choose its successor now; new subscriptions may be refused already", m.Name, m.Retires)
		}
	}
	return append(found, checkAccounts(root)...)
}

var (
	deploymentName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$`)
	regionName     = regexp.MustCompile(`^[a-z]+[0-9]?$`)
	accountID      = regexp.MustCompile(
		`(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.CognitiveServices/accounts/[^/]+$`)
)

func checkAccounts(root string) (found []Finding) {
	const path = "infra/accounts.json"
	add := func(format string, args ...any) {
		found = append(found, Finding{path, 0, fmt.Sprintf(format, args...)})
	}
	var accounts []account
	if err := strictJSON(filepath.Join(root, path), &accounts); err != nil {
		return []Finding{{path, 0, err.Error()}}
	}
	var names []string
	for _, a := range accounts {
		if len(a.Models) == 0 || a.ID == "" && a.Endpoint == "" {
			add("%q needs name, models, and id or endpoint", a.Name)
		}
		if !deploymentName.MatchString(a.Name) || slices.Contains(names, a.Name) {
			add("%q must be a name of its own, of letters, digits, hyphens, periods and underscores", a.Name)
		}
		names = append(names, a.Name)
		if a.ID != "" && !accountID.MatchString(a.ID) {
			add("%s: id must be that of an account, /subscriptions/…/Microsoft.CognitiveServices/accounts/<name>, not %q", a.Name, a.ID)
		}
		if a.Endpoint != "" && !strings.HasPrefix(a.Endpoint, "https://") {
			add("%s: endpoint must begin with https://: prompts and tokens go there", a.Name)
		}
		if a.Priority < 0 || a.Weight < 0 {
			add("%s: priority and weight must be 1 or more", a.Name)
		}
	}
	return found
}
