package template

import (
	"context"
	"slices"
	"strings"
	"time"
)

// Check reads all that is deployed below root, but for the package, and says what is wrong.
func Check(ctx context.Context, root string) ([]Finding, error) {
	all, err := readTemplates(ctx, root)
	if err != nil {
		return nil, err
	}
	found, err := checkTypes(all)
	if err != nil {
		return nil, err
	}
	found = append(found, checkModules(root, all)...)
	found = append(found, checkParameters(root, all["main.bicep"])...)
	found = append(found, checkPassed(all["main.bicep"])...)
	found = append(found, checkKept(root, all["main.bicep"])...)
	found = append(found, checkRights(all)...)
	found = append(found, checkDoors(all)...)
	found = append(found, checkOrder(all)...)
	found = append(found, checkSteps(all["main.bicep"])...)
	found = append(found, checkExisting(all)...)
	found = append(found, checkNames(all)...)
	found = append(found, checkTyped(root, all)...)
	found = append(found, checkEdge(all)...)
	found = append(found, checkLimits(all)...)
	found = append(found, checkStyle(root, all)...)
	found = append(found, checkWords(root, all["main.bicep"])...)
	found = append(found, checkStore(all)...)
	found = append(found, checkDefaults(all)...)
	found = append(found, checkModels(root, time.Now())...)
	found = append(found, checkProgram(root, all)...)
	found = append(found, checkAzd(root, all)...)
	found = append(found, checkWorkflow(root)...)
	found = append(found, checkHost(root, "host.json")...)
	found = append(found, checkFunctions(root+"/functions", "functions/")...)
	found = append(found, checkWorkbook(root)...)
	found = append(found, checkGraph(root, all)...)
	found = append(found, checkCosts(root, all)...)
	found = append(found, checkProse(root, all)...)
	found = append(found, checkReviewed(root, all)...)
	slices.SortFunc(found, func(a, b Finding) int {
		if a.File != b.File || a.Line == b.Line {
			return compare(a.String(), b.String())
		}
		return a.Line - b.Line
	})
	return found, nil
}

func compare(a, b string) int { return strings.Compare(a, b) }
