package template

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// section is one part of the workbook: a query of infra/queries and how it is shown.
type section struct{ Query, Title, Show string }

// workbookSections in their order.
var workbookSections = []section{
	{"usage-by-model", "Usage by model", "table"},
	{"usage-by-user", "Usage by user", "table"},
	{"usage-by-subscription", "Usage by subscription", "table"},
	{"usage-by-region", "Usage by region", "table"},
	{"usage-by-ip", "Usage by address", "table"},
	{"cost", "Cost", "table"},
	{"prompts-and-completions", "Prompts and completions", "table"},
	{"outcomes", "Outcomes", "table"},
	{"refusals", "Refusals", "table"},
	{"failovers", "Failovers", "table"},
	{"latency", "Latency and first token", "table"},
}

// Workbook is workbook.json: Azure's own format, with the queries of infra/queries in it.
func Workbook(root string) ([]byte, error) {
	type object = map[string]any
	items := []object{
		{"type": 1, "name": "title", "content": object{"json": "# Gateway for Azure OpenAI\nWho used what, what it cost, what was asked, what " +
			"failed. Prompts are shown to everybody who may read this workspace."}},
		{"type": 9, "name": "parameters", "content": object{
			"version": "KqlParameterItem/1.0", "style": "pills", "queryType": 0,
			"resourceType": "microsoft.operationalinsights/workspaces", "parameters": []object{{
				"id": "7f6f1c1e-6b1d-4c7a-9a59-3b2d6b3c5d10", "version": "KqlParameterItem/1.0", "name": "TimeRange", "label": "Time", "type": 4,
				"isRequired": true,
				"value":      object{"durationMs": 86400000},
				"typeSettings": object{"selectableValues": []object{
					{"durationMs": 3600000},
					{"durationMs": 86400000},
					{"durationMs": 604800000},
					{"durationMs": 2592000000},
				}, "allowCustom": true},
			}},
		}},
	}
	for _, s := range workbookSections {
		query, err := os.ReadFile(filepath.Join(root, "infra", "queries", "workbook-"+s.Query+".kql"))
		if err != nil {
			return nil, err
		}
		items = append(items, object{"type": 3, "name": s.Query, "content": object{
			"version": "KqlItem/1.0", "title": s.Title, "query": strings.TrimSpace(string(query)), "size": 0, "queryType": 0,
			"resourceType": "microsoft.operationalinsights/workspaces", "visualization": s.Show, "timeContextFromParameter": "TimeRange",
			"showExportToExcel": true,
		}})
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(object{
		"version": "Notebook/1.0", "items": items, "fallbackResourceIds": []string{},
		"$schema": "https://github.com/Microsoft/Application-Insights-Workbooks/blob/master/schema/workbook.json",
	})
	return []byte(b.String()), err
}

func checkWorkbook(root string) []Finding {
	const path = "infra/workbook.json"
	want, err := Workbook(root)
	if err != nil {
		return []Finding{{path, 0, err.Error()}}
	}
	have, err := os.ReadFile(filepath.Join(root, path))
	if err != nil || string(have) != string(want) {
		return []Finding{{path, 0, "is not what infra/queries/workbook-*.kql make; run: go test ./handler/devstack/template -update"}}
	}
	queries, _ := filepath.Glob(filepath.Join(root, "infra", "queries", "workbook-*.kql"))
	if len(queries) != len(workbookSections) {
		return []Finding{{path, 0, fmt.Sprintf("shows %d of %d queries", len(workbookSections), len(queries))}}
	}
	return nil
}
