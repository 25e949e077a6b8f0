package template

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"aoaigateway/handler/logs"
)

// What the templates must set of the program's settings, and what has no place in Azure.
var (
	mustSet = []string{
		"GATEWAY_BACKENDS", "GATEWAY_TABLE_ENDPOINT", "GATEWAY_BLOB_ENDPOINT", "GATEWAY_KEY_VAULT_URI", "GATEWAY_ADMIN_KEY_SECRET",
		"GATEWAY_FRONTED", "GATEWAY_LOGS_ENDPOINT", "GATEWAY_LOGS_RULE", "GATEWAY_LOGS_STREAM",
		"AzureWebJobsStorage__credential", "AzureWebJobsStorage__clientId", "AZURE_CLIENT_ID",
		"AzureWebJobsStorage__accountName", // H1: the host can fail with blobServiceUri alone
		"AzureWebJobsDisableHomepage",      // R15
	}
	neverSet = []string{
		"GATEWAY_STORAGE", "GATEWAY_SECRETS", "GATEWAY_DEV_CA_FILE",
		// Flex Consumption refuses these, or misbehaves with them.
		"FUNCTIONS_WORKER_RUNTIME", "FUNCTIONS_EXTENSION_VERSION", "WEBSITE_RUN_FROM_PACKAGE", "WEBSITE_TIME_ZONE", "TZ",
		"SCM_DO_BUILD_DURING_DEPLOYMENT", "ENABLE_ORYX_BUILD", "AzureWebJobsStorage",
	}
)

// checkProgram compares the templates with the program: settings, tables, columns.
func checkProgram(root string, all templates) []Finding {
	names, err := goStrings(root)
	if err != nil {
		return []Finding{{"handler/app", 0, err.Error()}}
	}
	found := checkSettings(all["app.bicep"], names.settings)
	if names.constants["AzureVariable"] != "WEBSITE_SITE_NAME" { // A5
		found = append(found, Finding{
			"handler/app/settings/load.go", 0, "AzureVariable must be WEBSITE_SITE_NAME: Flex Consumption has no WEBSITE_INSTANCE_ID",
		})
	}
	found = append(found, checkTables(all["store.bicep"], names.constants)...)
	return append(found, checkColumns(root)...)
}

func checkSettings(f *file, known []string) (found []Finding) {
	set := f.find("variable", "appSettings")
	if set == nil {
		return []Finding{{"infra/app.bicep", 0, "no appSettings"}}
	}
	for _, p := range set.Value.Props {
		if strings.HasPrefix(p.Name, "GATEWAY_") && !slices.Contains(known, p.Name) {
			found = append(found, Finding{f.path, p.Line, p.Name + ": the program has no such setting"})
		}
		if slices.Contains(neverSet, p.Name) {
			found = append(found, Finding{f.path, p.Line, p.Name + ": must not be set in Azure"})
		}
	}
	for _, name := range mustSet {
		if set.Value.prop(name) == nil {
			found = append(found, Finding{f.path, set.Line, name + ": must be set"})
		}
	}
	if e := set.Value.prop("GATEWAY_FRONTED"); e.in(private).text() != "true" || e.in(public).text() != "false" {
		found = append(found, Finding{
			f.path, max(set.Line, e.line()),
			"GATEWAY_FRONTED must be true in private and false in public, where anybody could claim an address",
		})
	}
	return found
}

func checkTables(f *file, constants map[string]string) (found []Finding) {
	names := f.find("variable", "tableNames")
	for name, value := range constants {
		if !strings.HasSuffix(name, "Table") {
			continue
		}
		if names == nil || !slices.ContainsFunc(names.Value.Items, func(e *expr) bool { return e.Text == value }) {
			found = append(found, Finding{"infra/store.bicep", 0, fmt.Sprintf("tableNames lacks %q, which the program uses", value)})
		}
	}
	if have := f.find("variable", "auditContainer"); have == nil || have.Value.text() != constants["AuditContainer"] {
		found = append(found, Finding{"infra/store.bicep", 0, fmt.Sprintf("auditContainer must be %q", constants["AuditContainer"])})
	}
	return found
}

type programNames struct {
	settings  []string
	constants map[string]string
}

// goStrings reads the string constants of package app and the rows of package settings.
func goStrings(root string) (programNames, error) {
	names := programNames{constants: map[string]string{}}
	files, err := filepath.Glob(filepath.Join(root, "handler/app/*.go"))
	if err != nil {
		return names, err
	}
	rows, err := filepath.Glob(filepath.Join(root, "handler/app/settings/*.go"))
	if err != nil {
		return names, err
	}
	files = append(files, rows...)
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return names, err
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != len(spec.Names) {
				return true
			}
			for i, name := range spec.Names {
				if text, ok := literal(spec.Values[i]); ok {
					names.constants[name.Name] = text
				}
				if list, ok := spec.Values[i].(*ast.CompositeLit); ok && name.Name == "Rows" {
					names.settings = append(names.settings, firstStrings(list)...)
				}
			}
			return true
		})
	}
	if len(names.settings) == 0 {
		return names, fmt.Errorf("no table of settings in %s/handler/app/settings", root)
	}
	return names, nil
}

func firstStrings(list *ast.CompositeLit) (texts []string) {
	for _, e := range list.Elts {
		if row, ok := e.(*ast.CompositeLit); ok && len(row.Elts) > 0 {
			if text, ok := literal(row.Elts[0]); ok {
				texts = append(texts, text)
			}
		}
	}
	return texts
}

func literal(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(lit.Value)
	return text, err == nil
}

// Column is a column as table and stream declare it.
type Column struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// Columns are the fields of the row that the program sends: the one source of columns.json.
func Columns() []Column {
	var list []Column
	for _, c := range logs.Columns() {
		list = append(list, Column{c.Name, c.Type})
	}
	return list
}

func checkColumns(root string) (found []Finding) {
	const path = "infra/columns.json"
	data, err := os.ReadFile(filepath.Join(root, path))
	var have []Column
	if err == nil {
		err = json.Unmarshal(data, &have)
	}
	if err != nil {
		return []Finding{{path, 0, err.Error()}}
	}
	want := Columns()
	for _, c := range want {
		if !slices.Contains(have, c) {
			found = append(found, Finding{path, 0, fmt.Sprintf("lacks column %s of type %s, which the program sends", c.Name, c.Type)})
		}
	}
	for _, c := range have {
		if !slices.Contains(want, c) {
			found = append(found, Finding{path, 0, fmt.Sprintf("has column %s of type %s, which the program does not send", c.Name, c.Type)})
		}
		if !columnName.MatchString(c.Name) {
			found = append(found, Finding{path, 0, fmt.Sprintf("%q is no name for a column: Azure Monitor reserves it", c.Name)})
		}
	}
	return found
}

// Letters, digits and underscores, 2 to 45 of them, beginning with a letter.
var columnName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{1,44}$`)
