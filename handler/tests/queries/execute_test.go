package queries_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"aoaigateway/handler/assemble"
	"aoaigateway/handler/devstack/tools"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/logs"
)

// expectation is what a journal might contain, the rows made of it, and what they must add up to.
type expectation struct {
	maker logs.Mapper
	rows  []logs.Row // as shipped: in revisions, with copies

	tokens   map[key]sums // of chat and completions answered with 200
	prompts  int          // those, and refusals of the same operations
	requests int
	last     gateway.Line
}

type key struct{ ip, model string }

type sums struct{ prompt, completion, total, calls int64 }

func (b *expectation) line(l gateway.Line, copies int) {
	row, ok := b.maker.Row(context.Background(), gateway.Entry{Line: l, File: "f", Chain: "chain"})
	for range copies {
		if ok {
			b.rows = append(b.rows, row)
		}
	}
}

// exchange enters one request whose answer is body.
func (b *expectation) exchange(t *testing.T, i int, operation string, change func(*gateway.Line)) {
	t.Helper()
	models := []string{"gpt-4o-2024-11-20", "gpt-35-turbo-instruct", "text-embedding-3-small"}
	users := []string{"198.51.100.1", "198.51.100.2", "2001:db8::3"}
	k := key{users[i%3], models[i%2]}
	if strings.Contains(strings.ToLower(operation), "embedding") {
		k.model = models[2]
	}
	u := gateway.Usage{
		Prompt: int64(10 + i), Cached: int64(i % 5), Completion: int64(3*i + 1), Reasoning: int64(i % 2),
		Total: int64(11 + 4*i),
	}
	at := time.Now().Add(-time.Duration(i) * time.Minute).UTC()
	rec := gateway.Record{
		ID: fmt.Sprintf("rec-%03d", i), Time: at, Caller: gateway.Caller{
			Subscription: fmt.Sprint("sub-", i%4), Name: "team", Product: "default",
			IP: k.ip,
		},
		Method: "POST", URL: "/openai/x", Operation: operation, Surface: "classic", Model: "chat", APIVersion: "2024-10-21",
		EndUser: fmt.Sprint("user-", i%2),
	}
	prompt := fmt.Sprintf(`{"messages":[{"role":"user","content":"question %d"}]}`, i)
	end := gateway.Line{Type: gateway.End, Record: rec}
	end.Request = &gateway.Body{Size: int64(len(prompt)), SHA256: "aa", ContentType: "application/json", JSON: json.RawMessage(prompt)}
	end.Region, end.Deployment, end.AnsweredModel = []string{"eastus2", "swedencentral"}[i%2], "d", k.model
	end.Attempts = []gateway.Attempt{{Region: end.Region, Start: at, Millis: 20, Status: 200}}
	end.Usage, end.Status, end.BackendStatus, end.Outcome = u, 200, 200, gateway.Complete
	end.FirstByteMilli, end.TotalMilli = 20, 40
	end.Cost = &gateway.Cost{Millionths: 250_000, Currency: "USD", PriceVersion: "1"}
	answer := fmt.Sprintf(`{"id":"c-%d","object":"chat.completion","model":%q,"choices":[{"index":0,"text":"answer %d",`+
		`"message":{"role":"assistant","content":"answer %d"}}],"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}}`,
		i, k.model, i, i, u.Prompt, u.Completion, u.Total)
	end.Response = &gateway.Body{Size: int64(len(answer)), SHA256: "bb", ContentType: "application/json", JSON: json.RawMessage(answer)}
	if change != nil {
		change(&end)
	}
	b.line(end, 1+i%3)
	b.last = end
	b.count(k, end.Status, u)
}

// count adds one request to what the rows must add up to.
func (b *expectation) count(k key, status int, u gateway.Usage) {
	b.requests++
	id := b.rows[len(b.rows)-1].OperationID
	if id != "completions_create" && id != "ChatCompletions_Create" {
		return
	}
	b.prompts++
	if status == 200 {
		s := b.tokens[k]
		b.tokens[k] = sums{s.prompt + u.Prompt, s.completion + u.Completion, s.total + u.Total, s.calls + 1}
	}
}

// streamed has the answer come as a stream's chunks.
func streamed(text string, usage bool) func(*gateway.Line) {
	return func(l *gateway.Line) {
		a := assemble.New(assemble.Chat)
		for _, part := range []string{text, " and", " so on"} {
			a.Event(fmt.Appendf(nil, `{"id":"c","object":"chat.completion.chunk","model":%q,"choices":[{"index":0,"delta":{"content":%q}}],`+
				`"usage":null}`, l.AnsweredModel, part))
		}
		if usage {
			a.Event(fmt.Appendf(nil, `{"id":"c","object":"chat.completion.chunk","model":%q,"choices":[],"usage":{"prompt_tokens":%d,`+
				`"completion_tokens":%d,"total_tokens":%d}}`,
				l.AnsweredModel, l.Usage.Prompt, l.Usage.Completion, l.Usage.Total))
		} else {
			l.Usage.Estimated = true
		}
		l.Stream = true
		l.Response = &gateway.Body{Size: 9, SHA256: "cc", ContentType: "text/event-stream", Assembled: a.Object()}
	}
}

func huge(l *gateway.Line) {
	l.Response.JSON = []byte(strings.Replace(string(l.Response.JSON), `"text":"`, `"text":"`+strings.Repeat(`long \"text\" `, 40_000), 1))
}

// inBlob has the answer stand in a blob that nobody reads back.
func inBlob(l *gateway.Line) {
	l.Response.JSON, l.Response.Blob, l.Response.Size = nil, "bodies/"+l.ID+"/response", 5<<20
}

func refused(l *gateway.Line) {
	l.Status, l.Outcome, l.Attempts, l.Region, l.Deployment, l.AnsweredModel = 429, gateway.Refused, nil, "", "", ""
	l.Usage, l.Cost, l.ErrorReason, l.Limit = gateway.Usage{}, nil, "RateLimitExceeded", "tokens per minute"
	l.Response.JSON = json.RawMessage(`{"statusCode":429,"message":"Rate limit is exceeded."}`)
}

func failedOver(l *gateway.Line) {
	l.Attempts = append([]gateway.Attempt{{Region: "francecentral", Start: l.Time, Millis: 4, Status: 429, Reason: "throttled"}},
		l.Attempts...)
}

func newExpectation(t *testing.T) *expectation {
	t.Helper()
	b := &expectation{maker: logs.Mapper{BodyURL: "https://x/audit", Open: func(context.Context, string) (io.ReadCloser, error) {
		return nil,
			os.ErrNotExist
	}}, tokens: map[key]sums{}}
	kinds := []func(*gateway.Line){
		nil, streamed("stream", true), streamed(strings.Repeat("long stream ", 20_000), true),
		streamed("no usage", false), huge, inBlob, failedOver, refused,
	}
	operations := []string{
		"ChatCompletions_Create", "createChatCompletion", "completions_create", "createCompletion", "embeddings_create",
		"createEmbedding",
	}
	i := 0
	for _, kind := range kinds {
		for _, operation := range operations {
			b.exchange(t, i, operation, kind)
			i++
		}
	}
	for ; i < 60; i++ { // ends that were corrected, copied, and reported dead before
		b.exchange(t, i, "createChatCompletion", nil)
		amended, dead := b.last, b.last
		amended.Type, amended.Outcome = gateway.Amend, gateway.NotDurable
		dead.Type = gateway.Incomplete
		b.line(amended, 2)
		b.line(dead, 1)
	}
	for n := range 5 { // and some that never ended
		b.line(gateway.Line{Type: gateway.Incomplete, Record: gateway.Record{
			ID: fmt.Sprint("dead-", n), Time: time.Now().UTC(), Operation: "ChatCompletions_Create", Caller: gateway.Caller{IP: "198.51.100.1"},
			Request: &gateway.Body{Size: 2, JSON: json.RawMessage("{}")},
		}}, 2)
	}
	return b
}

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

// ndjson writes rows as a sink stores them.
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

// runnable is a seed query as the engine here can run it. It lacks todecimal, and todouble
// is as exact for tokens; and indexof with more than two arguments, which is used for a
// column that no later step reads: that step is left out.
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
	demandTokens(t, "en-tokens-by-ip-and-model", found, b.tokens)
	if n := len(found["en-prompt-completions"].Rows); n != answered(b.tokens) {
		t.Errorf("%d prompts, not %d", n, answered(b.tokens))
	}
	for _, row := range found["en-prompt-completions"].Rows {
		if row["model"] == "" || row["prompttokens"] == nil {
			t.Fatalf("%v", row)
		}
	}
	// The Japanese queries ask for completions only, of any status.
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
	demandTokens(t, "ja-tokens-by-ip-and-model", found, completions)
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

func demandTokens(t *testing.T, name string, found map[string]result, want map[key]sums) {
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

// whole are questions whose answers the expectation knows.
var whole = []named{
	{"requests", "GatewayLogs | summarize Requests = countif(not(IsIncomplete)), Dead = countif(IsIncomplete), Refused = " +
		"countif(IsRefused), Amended = countif(Outcome == 'not-durable'), Tokens = sum(TotalTokens), Rows = count()"},
	{"apim", "ApiManagementGatewayLogs | summarize Rows = count(), Ids = dcount(CorrelationId), Refused = countif(LastErrorSection == " +
		"'inbound' and ResponseBody has 'Rate limit' and BackendResponseBody == '')"},
	{"llm", "ApiManagementGatewayLlmLog | summarize Rows = count(), Tokens = sum(TotalTokens), Asked = countif(isnotnull(RequestMessages))"},
	{"bodies", "GatewayLogs | where isnotempty(BackendResponseBody) | extend V = parse_json(BackendResponseBody) | summarize Broken = " +
		"countif(isnull(V)), Longest = max(strlen(BackendResponseBody))"},
}

// newest returns the newest revision of each record's row.
func (b *expectation) newest() map[string]logs.Row {
	seen := map[string]logs.Row{}
	for _, row := range b.rows {
		if have, ok := seen[row.RecordID]; !ok || row.RecordRevision > have.RecordRevision {
			seen[row.RecordID] = row
		}
	}
	return seen
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
