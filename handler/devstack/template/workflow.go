package template

import (
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// workflow is what of GitHub's format the rules look at.
type workflow struct {
	Permissions map[string]string `yaml:"permissions"`
	Jobs        map[string]struct {
		If    string `yaml:"if"`
		Steps []struct {
			If  string `yaml:"if"`
			Run string `yaml:"run"`
		} `yaml:"steps"`
	} `yaml:"jobs"`
}

// checkWorkflow: a pipeline has no secret of Azure's, makes nothing anew that exists, and changes nothing for a pull request.
func checkWorkflow(root string) (found []Finding) {
	const path = ".github/workflows/azure-dev.yml"
	add := func(text string) { found = append(found, Finding{path, 0, text}) }
	data, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		return []Finding{{path, 0, err.Error()}}
	}
	var w workflow
	if err := yaml.Unmarshal(data, &w); err != nil {
		return []Finding{{path, 0, err.Error()}}
	}
	if w.Permissions["id-token"] != "write" || strings.Contains(string(data), "{{ secrets.") {
		add("must sign in with GitHub's own token (id-token: write), not with a secret")
	}
	refreshed, previewed, set := false, false, false
	for _, job := range w.Jobs {
		if !strings.Contains(job.If, "head.repo.full_name == github.repository") {
			add("must not run for pull requests of other repositories")
		}
		for _, s := range job.Steps {
			set = set || refreshed && strings.Contains(s.Run, `azd env set GW_NETWORK "$GW_NETWORK"`)
			refreshed = refreshed || strings.HasPrefix(s.Run, "azd env refresh")
			previewed = previewed || strings.Contains(s.Run, "--preview") && s.If == "github.event_name == 'pull_request'"
			if !strings.HasPrefix(s.Run, "azd up") {
				continue
			}
			if !refreshed { // A13
				add("azd env refresh must come before azd up, or the public name changes")
			}
			if s.If != "github.event_name == 'workflow_dispatch'" {
				add("azd up must run only when somebody starts it")
			}
		}
	}
	if !set {
		add("must set GW_NETWORK after azd env refresh, which brings the network of the last deployment")
	}
	if strings.Contains(string(data), "IFS='='") {
		add("IFS='=' takes the equals sign at a value's end away: ${line%%=*} and ${line#*=} do not")
	}
	if !previewed {
		add("must show a pull request what would change: azd provision --preview")
	}
	return found
}
