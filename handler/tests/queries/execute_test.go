package queries_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"aoaigateway/handler/devstack/tools"
	"aoaigateway/handler/logs"
)

type result struct {
	Rows  []map[string]any `json:"rows"`
	Error string           `json:"error"`
}

func execute(t *testing.T, w work) map[string]result {
	t.Helper()
	ctx := ctxFor(t)
	version, err := exec.CommandContext(ctx, "python3", "--version").Output()
	if err != nil {
		t.Fatalf("python3 is needed: %v", err)
	}
	requirements, err := filepath.Abs("requirements.txt")
	if err != nil {
		t.Fatal(err)
	}
	home, err := tools.Install(ctx, "python-kql", append([]byte(read(t, requirements)), version...), func(dir string) error {
		if err := run(ctx, dir, "python3", "-m", "venv", dir); err != nil {
			return err
		}
		return run(ctx, dir, filepath.Join(dir, "bin", "python"), "-m", "pip", "install", "--quiet", "--no-deps", "-r", requirements)
	})
	if err != nil {
		t.Fatal(err)
	}
	var found map[string]result
	pipe(t, w, &found, filepath.Join(home, "bin", "python"), "execute.py")
	for _, q := range w.Queries {
		if e := found[q.Name].Error; e != "" {
			t.Errorf("%s: %s", q.Name, e)
		}
	}
	return found
}

// ndjson writes rows in the form in which the stand-in for Log Analytics stores them.
func ndjson(t *testing.T, rows []logs.Row) string {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "rows.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	e := json.NewEncoder(file)
	for _, row := range rows {
		if err := e.Encode(row); err != nil {
			t.Fatal(err)
		}
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	return file.Name()
}

// runnable changes a query so that the engine of these tests can run it. The engine has no
// todecimal; todouble is exact enough for tokens. It also has no indexof with more than two
// arguments; the query uses it only for a column that no later step reads, so runnable
// removes that step.
func runnable(q named) named {
	lines := slices.DeleteFunc(strings.Split(q.Text, "\n"), func(line string) bool { return strings.Contains(line, "modelkey = ") })
	return named{q.Name, strings.ReplaceAll(strings.Join(lines, "\n"), "todecimal(", "todouble(")}
}

func TestImportedQueriesAddUp(t *testing.T) {
	b := newExpectation(t)
	w := newWork(t)
	w.Rows = ndjson(t, b.rows)
	for _, q := range seeds(t) {
		w.Queries = append(w.Queries, runnable(q))
	}
	found := execute(t, w)
	wantTokens(t, "en-tokens-by-ip-and-model", found, b.tokens)
	if n := len(found["en-prompt-completions"].Rows); n != answered(b.tokens) {
		t.Errorf("%d prompts, not %d", n, answered(b.tokens))
	}
	for _, row := range found["en-prompt-completions"].Rows {
		if row["model"] == "" || row["prompttokens"] == nil {
			t.Fatalf("%v", row)
		}
	}
	// The Japanese queries count only completions, with any status.
	completions := map[key]sums{}
	seen, prompts := map[string]bool{}, 0
	for _, row := range b.rows {
		if row.OperationID != "completions_create" || seen[row.RecordID] {
			continue
		}
		seen[row.RecordID] = true
		if prompts++; row.ModelName != "" {
			k := key{row.CallerIPAddress, row.ModelName}
			s := completions[k]
			completions[k] = sums{s.prompt + row.PromptTokens, s.completion + row.CompletionTokens, s.total + row.TotalTokens, s.calls + 1}
		}
	}
	wantTokens(t, "ja-tokens-by-ip-and-model", found, completions)
	if n := len(found["ja-prompt-completions"].Rows); n != prompts {
		t.Errorf("%d prompts of completions, not %d", n, prompts)
	}
}

func answered(tokens map[key]sums) (n int) {
	for _, s := range tokens {
		n += int(s.calls)
	}
	return n
}

func wantTokens(t *testing.T, name string, found map[string]result, want map[key]sums) {
	t.Helper()
	rows := found[name].Rows
	if len(rows) != len(want) || len(rows) == 0 {
		t.Errorf("%s: %d rows, not %d: %v", name, len(rows), len(want), rows)
	}
	for _, row := range rows {
		s, ok := want[key{fmt.Sprint(row["ip"]), fmt.Sprint(row["model"])}]
		figures := []float64{float64(s.prompt), float64(s.completion), float64(s.total), float64(s.total) / float64(s.calls)}
		for i, column := range []string{"sum_prompttokens", "sum_completiontokens", "sum_totaltokens", "avg_totaltokens"} {
			if v, isNumber := row[column].(float64); !ok || !isNumber || math.Abs(v-figures[i]) > 1e-6 {
				t.Errorf("%s: %s = %v, not %v: %v", name, column, row[column], figures[i], row)
			}
		}
	}
}

// whole are queries with known results.
var whole = []named{
	{"requests", "GatewayLogs | summarize Requests = countif(not(IsIncomplete)), Dead = countif(IsIncomplete), Refused = " +
		"countif(IsRefused), Amended = countif(Outcome == 'not-durable'), Tokens = sum(TotalTokens), Rows = count()"},
	{"apim", "ApiManagementGatewayLogs | summarize Rows = count(), Ids = dcount(CorrelationId), Refused = countif(LastErrorSection == " +
		"'inbound' and ResponseBody has 'Rate limit' and BackendResponseBody == '')"},
	{"llm", "ApiManagementGatewayLlmLog | summarize Rows = count(), Tokens = sum(TotalTokens), Asked = countif(isnotnull(RequestMessages))"},
	{"bodies", "GatewayLogs | where isnotempty(BackendResponseBody) | extend V = parse_json(BackendResponseBody) | summarize Broken = " +
		"countif(isnull(V)), Longest = max(strlen(BackendResponseBody))"},
}

func TestWorkbookQueriesAddUp(t *testing.T) {
	b := newExpectation(t)
	w := newWork(t)
	w.Rows = ndjson(t, b.rows)
	w.Queries = append(workbook(t), whole...)
	found := execute(t, w)
	var tokens, requests, refused, amended, dead float64
	for _, row := range b.newest() {
		tokens += float64(row.TotalTokens)
		count(&dead, row.RecordRevision == 0)
		count(&requests, row.RecordRevision > 0)
		count(&refused, row.LimitName != "")
		count(&amended, row.RecordRevision == 2)
	}
	wantFigures(t, found, "requests", map[string]float64{
		"Requests": requests, "Dead": 5, "Refused": refused, "Amended": 12, "Tokens": tokens,
		"Rows": requests + dead,
	})
	wantFigures(t, found, "apim", map[string]float64{"Rows": requests, "Ids": requests, "Refused": refused})
	wantFigures(t, found, "llm", map[string]float64{"Rows": requests - refused, "Tokens": tokens, "Asked": requests - refused})
	wantFigures(t, found, "bodies", map[string]float64{"Broken": 0})
	if dead != 5 || amended != 12 || requests != float64(b.requests) {
		t.Errorf("%v dead, %v amended, %v requests of %d", dead, amended, requests, b.requests)
	}
	for name, column := range map[string]string{
		"workbook-usage-by-model": "Requests", "workbook-usage-by-user": "Requests", "workbook-usage-by-subscription": "Requests",
		"workbook-usage-by-region": "Requests", "workbook-usage-by-ip": "Requests", "workbook-refusals": "Refusals", "workbook-cost": "Requests",
	} {
		want := map[string]float64{"Requests": requests, "Refusals": refused}[column]
		if name == "workbook-cost" {
			want -= refused
		}
		if got := sum(found[name].Rows, column); got != want {
			t.Errorf("%s: %s = %v, not %v", name, column, got, want)
		}
		if name != "workbook-refusals" && sum(found[name].Rows, "TotalTokens") != tokens {
			t.Errorf("%s: %v tokens, not %v", name, sum(found[name].Rows, "TotalTokens"), tokens)
		}
	}
	checkTiles(t, found)
}

func checkTiles(t *testing.T, found map[string]result) {
	t.Helper()
	if got := sum(found["workbook-failovers"].Rows, "Requests"); got != 6 {
		t.Errorf("failovers: %v", found["workbook-failovers"].Rows)
	}
	for _, name := range []string{"workbook-latency", "workbook-outcomes", "workbook-prompts-and-completions"} {
		if len(found[name].Rows) == 0 {
			t.Errorf("%s is empty", name)
		}
	}
}

func count(n *float64, yes bool) {
	if yes {
		*n++
	}
}

func sum(rows []map[string]any, column string) (total float64) {
	for _, row := range rows {
		v, _ := row[column].(float64)
		total += v
	}
	return total
}

func wantFigures(t *testing.T, found map[string]result, name string, want map[string]float64) {
	t.Helper()
	if len(found[name].Rows) != 1 {
		t.Errorf("%s: %v", name, found[name])
		return
	}
	for column, v := range want {
		if got, ok := found[name].Rows[0][column].(float64); !ok || got != v {
			t.Errorf("%s: %s = %v, not %v", name, column, found[name].Rows[0][column], v)
		}
	}
}
