// Package queries_test checks the queries in infra/queries, and queries written for API
// Management that must work unchanged. It analyses them with Microsoft's own language
// service and the columns that logs.Row declares, and runs them with rows that package logs
// has made.
package queries_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"aoaigateway/handler/devstack/tools"
	"aoaigateway/handler/logs"
)

const queryFolder = "../../../infra/queries"

// functions are the saved functions. A function may use only earlier ones. All other files
// in the folder are queries of the workbook or of alerts, and one saved query.
var functions = []string{"GatewayLogs", "ApiManagementGatewayLogs", "ApiManagementGatewayLlmLog"}

type named struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// work is the input of the two programs.
type work struct {
	Table     string        `json:"table"`
	Columns   []kustoColumn `json:"columns"`
	Rows      string        `json:"rows,omitempty"`
	Requests  []request     `json:"requests,omitempty"`
	Functions []named       `json:"functions"`
	Queries   []named       `json:"queries"`
}

type kustoColumn struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

func newWork(t *testing.T) work {
	t.Helper()
	w := work{Table: logs.Table}
	for _, c := range logs.Columns() {
		w.Columns = append(w.Columns, kustoColumn(c))
	}
	for _, name := range functions {
		w.Functions = append(w.Functions, named{name, read(t, filepath.Join(queryFolder, name+".kql"))})
	}
	return w
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// workbook returns the queries of the workbook, with values for its parameters.
func workbook(t *testing.T) (queries []named) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(queryFolder, "workbook-*.kql"))
	if err != nil || len(files) < 8 {
		t.Fatalf("%v: only %d files", err, len(files))
	}
	for _, file := range files {
		text := strings.ReplaceAll(read(t, file), "{TimeRange}", ">= ago(2d)")
		if strings.ContainsAny(text, "{}") {
			t.Errorf("%s has a parameter that this test does not know", file)
		}
		queries = append(queries, named{strings.TrimSuffix(filepath.Base(file), ".kql"), text})
	}
	return queries
}

// alerts are the queries of alert rules.
func alerts(t *testing.T) (queries []named) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(queryFolder, "alert-*.kql"))
	if err != nil || len(files) < 5 {
		t.Fatalf("%v: only %d files", err, len(files))
	}
	for _, file := range files {
		queries = append(queries, named{strings.TrimSuffix(filepath.Base(file), ".kql"), read(t, file)})
	}
	return queries
}

// seeds are four queries from the architecture that this gateway replaces.
func seeds(t *testing.T) (queries []named) {
	t.Helper()
	for _, name := range []string{"en-prompt-completions", "en-tokens-by-ip-and-model", "ja-prompt-completions", "ja-tokens-by-ip-and-model"} {
		queries = append(queries, named{name, read(t, "testdata/seed-"+name+".kql")})
	}
	return queries
}

func ctxFor(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func pipe(t *testing.T, w work, answer any, name string, args ...string) {
	t.Helper()
	input, err := json.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctxFor(t), name, args...)
	cmd.Stdin = bytes.NewReader(input)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, stderr.String())
	}
	if err := json.Unmarshal(out, answer); err != nil {
		t.Fatalf("%s: %v\n%.2000s", name, err, out)
	}
}

func run(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %v: %w\n%s", name, args, err, out)
	}
	return nil
}

type analysis struct {
	Problems []string          `json:"problems"`
	Columns  map[string]string `json:"columns"`
}

func analyse(t *testing.T, w work) map[string]analysis {
	t.Helper()
	ctx := ctxFor(t)
	home, err := tools.Install(ctx, "kusto", []byte(read(t, "package-lock.json")), func(dir string) error {
		for _, name := range []string{"package.json", "package-lock.json"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(read(t, name)), 0o600); err != nil {
				return err
			}
		}
		return run(ctx, dir, "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	})
	if err != nil {
		t.Fatal(err)
	}
	var found map[string]analysis
	pipe(t, w, &found, "node", "analyse.mjs", home)
	return found
}

// bad are wrong queries, with the error code that the analysis must report.
var bad = map[string]struct{ text, code string }{
	"unknown column":           {"GatewayLogs | where Modelname == 'x'", "KS142"},
	"unknown table":            {"GatewayLog | take 1", "KS204"},
	"unknown function":         {"GatewayLogs | extend a = summ(TotalTokens)", "KS211"},
	"text times number":        {"GatewayLogs | extend a = RecordId * 2", "KS"},
	"number compared":          {"GatewayLogs | where ModelName >= 400", "KS106"},
	"syntax":                   {"GatewayLogs | where", "KS"},
	"a parameter left":         {"GatewayLogs | where TimeGenerated {TimeRange}", "KS"},
	"column of the table only": {"ApiManagementGatewayLogs | where RecordId == ''", "KS142"},
	"no such APIM column":      {"ApiManagementGatewayLlmLog | project CachedTokens", "KS142"},
}

func TestQueriesFitColumns(t *testing.T) {
	w := newWork(t)
	saved := named{withoutRecord, read(t, filepath.Join(queryFolder, withoutRecord+".kql"))}
	good := append(slices.Concat(workbook(t), seeds(t), alerts(t)), saved)
	w.Queries = slices.Clone(good)
	for name, b := range bad {
		w.Queries = append(w.Queries, named{"bad " + name, b.text})
	}
	found := analyse(t, w)
	for _, q := range append(good, w.Functions...) {
		if a := found[q.Name]; len(a.Problems) > 0 || len(a.Columns) == 0 {
			t.Errorf("%s: %v, %d columns", q.Name, a.Problems, len(a.Columns))
		}
	}
	for name, b := range bad {
		a, ok := found["bad "+name]
		if !ok || !slices.ContainsFunc(a.Problems, func(p string) bool { return strings.HasPrefix(p, b.code) }) {
			t.Errorf("%s: %q passes: %v", name, b.text, a.Problems)
		}
	}
	for name, want := range apim {
		for column, kind := range want {
			if got := found[name].Columns[column]; got != kind {
				t.Errorf("%s.%s is %q, API Management's is %s", name, column, got, kind)
			}
		}
		if len(found[name].Columns) != len(want) {
			t.Errorf("%s has %d columns, API Management's %d", name, len(found[name].Columns), len(want))
		}
	}
}

// apim are the columns of API Management's own table by type, without those that the
// service sets itself.
var apim = map[string]map[string]string{
	"ApiManagementGatewayLogs": columnsOf(map[string]string{
		"string": "ApiId ApiRevision ApimSubscriptionId BackendId BackendMethod BackendProtocol BackendUrl BackendRequestBody " +
			"BackendResponseBody Cache " +
			"CallerIpAddress ClientProtocol ClientTlsVersion CorrelationId Category LastErrorMessage LastErrorReason LastErrorScope " +
			"LastErrorSection LastErrorSource " +
			"Method OperationId OperationName ProductId Region RequestBody ResponseBody Url UserId WorkspaceId",
		"dynamic":  "BackendRequestHeaders BackendResponseHeaders RequestHeaders ResponseHeaders Errors TraceRecords",
		"int":      "BackendResponseCode RequestSize ResponseSize ResponseCode",
		"long":     "BackendTime CacheTime ClientTime TotalTime LastErrorElapsed",
		"bool":     "IsMasterTrace IsTraceAllowed IsTraceExpired IsTraceRequested IsRequestSuccess",
		"datetime": "TimeGenerated Timestamp",
	}),
	"ApiManagementGatewayLlmLog": columnsOf(map[string]string{
		"string":   "ApiVersion CorrelationId DeploymentName ModelName OperationName Region RequestId",
		"int":      "CompletionTokens PromptTokens TotalTokens SequenceNumber",
		"bool":     "IsStreamCompletion",
		"dynamic":  "RequestMessages ResponseMessages",
		"datetime": "TimeGenerated",
	}),
}

func columnsOf(byType map[string]string) map[string]string {
	columns := map[string]string{}
	for kind, names := range byType {
		for name := range strings.FieldsSeq(names) {
			columns[name] = kind
		}
	}
	return columns
}
