package template

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// docs are the documents whose commands somebody copies.
var docs = []string{"README.md", "infra/README.md", "infra/operate.md"}

// hookVariables are set by hand and read by the hook or by the pipeline, and by no template.
var hookVariables = []string{"GW_WITHOUT_AZ", "GW_PARAMETERS", "GW_NAME"}

var (
	docVariable = regexp.MustCompile(`\bGW_[A-Z_]+`)
	codeBlock   = regexp.MustCompile("(?s)```(?:sh|powershell)\n(.*?)```")
	docCommand  = regexp.MustCompile(`(?m)(?:^|&& |\$\()(azd|make) ([a-z-]+(?: [a-z-]+)?)`)
	makeTarget  = regexp.MustCompile(`(?m)^([a-z-]+):`)
)

// azdVerbs are the commands of azd that the documents use.
var azdVerbs = []string{
	"auth login", "env new", "env set", "env refresh", "env get-value", "pipeline config", "up", "provision", "deploy", "down",
}

// checkProse: the documents name variables and commands that exist, and prices that prices.json gives.
func checkProse(root string, all templates) (found []Finding) {
	values, err := parameterValues(root)
	if err != nil {
		return nil // checkParameters says so
	}
	known := slices.Clone(hookVariables)
	for _, value := range values {
		known = append(known, strings.Trim(value, "${}"))
	}
	for _, d := range all["main.bicep"].Declarations {
		if d.Kind == "output" {
			known = append(known, d.Name)
		}
	}
	targets := []string{}
	makefile, _ := os.ReadFile(filepath.Join(root, "Makefile"))
	for _, m := range makeTarget.FindAllStringSubmatch(string(makefile), -1) {
		targets = append(targets, m[1])
	}
	for _, path := range docs {
		data, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			return []Finding{{path, 0, err.Error()}}
		}
		for _, name := range docVariable.FindAllString(string(data), -1) {
			if !slices.Contains(known, name) {
				found = append(found, Finding{path, 0, name + ": no parameter, output or hook has this variable"})
			}
		}
		for _, code := range codeBlock.FindAllStringSubmatch(string(data), -1) {
			for _, m := range docCommand.FindAllStringSubmatch(code[1], -1) {
				list := map[string][]string{"azd": azdVerbs, "make": targets}[m[1]]
				first, _, _ := strings.Cut(m[2], " ")
				if !slices.Contains(list, m[2]) && !slices.Contains(list, first) {
					found = append(found, Finding{path, 0, fmt.Sprintf("%s %s: no such command", m[1], m[2])})
				}
			}
		}
	}
	return append(found, checkPrices(root, all)...)
}

// checkPrices: prices that stand in sentences are those of prices.json.
func checkPrices(root string, all templates) (found []Finding) {
	l, err := readPrices(root)
	if err != nil {
		return []Finding{{"infra/prices.json", 0, err.Error()}}
	}
	p, a := l.Prices, l.Assumptions
	var open, closed float64
	for _, i := range idle(p, a, all) {
		open, closed = open+i.public, closed+i.private
	}
	const gigabytes = 30 // a month, under a cap of one a day
	private := fmt.Sprintf("about $%.0f a month", math.Round(closed/10)*10)
	public := fmt.Sprintf("about $%.0f a month", open)
	for path, texts := range map[string][]string{
		"README.md":        {"`private` costs " + private, "`public` costs " + public},
		"infra/main.bicep": {"private: " + private, "public: " + public},
		"infra/README.md": {
			"`private`: " + private, "`public`: " + public,
			fmt.Sprintf("($%.0f a month)", p["applicationGateway.hour"]*hours),
			fmt.Sprintf("about %.0f million requests a month, $%.0f", gigabytes*(1<<20)/a["kilobytesPerRow"]/1e6,
				gigabytes*p["monitor.ingestedGigabyte"]),
		},
	} {
		data, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			return []Finding{{path, 0, err.Error()}}
		}
		for _, text := range texts {
			if !strings.Contains(string(data), text) {
				found = append(found, Finding{path, 0, fmt.Sprintf("must say %q, as infra/prices.json gives it", text)})
			}
		}
	}
	return found
}
