package template

import (
	"strings"
	"testing"
)

// The walk must see what the steps are for: from public to private at once, the app loses every service.
func TestWaysFindOutage(t *testing.T) {
	all, err := readTemplates(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	o := newOrder(all)
	found := checkWays(o, o.links(), [][2]state{{public, private}})
	for _, want := range []string{
		"infra/ai.bicep: account", "infra/store.bicep: storage", "infra/store.bicep: hostStorage", "infra/store.bicep: vault",
		"infra/observe.bicep: workspace", "infra/main.bicep: edge",
	} {
		seen := false
		for _, f := range found {
			seen = seen || strings.HasPrefix(f.File+": "+f.What, want+":")
		}
		if !seen {
			t.Errorf("%s: no outage is seen:\n%v", want, found)
		}
	}
	if found := checkWays(o, o.links(), ways); len(found) > 0 {
		t.Errorf("the steps: %v", found)
	}
}
