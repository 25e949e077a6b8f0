package process_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"aoaigateway/handler/app"
	"aoaigateway/handler/app/settings"
	"aoaigateway/handler/backend"
	"aoaigateway/handler/blob"
	"aoaigateway/handler/derive"
	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/devstack/azurite"
	"aoaigateway/handler/devstack/loganalytics"
	"aoaigateway/handler/devstack/stack"
	"aoaigateway/handler/journal"
	"aoaigateway/handler/journal/manifest"
	"aoaigateway/handler/journal/verify"
	"aoaigateway/handler/logs"
	"aoaigateway/handler/table"
	"aoaigateway/handler/tests/harness"
	"aoaigateway/handler/usage"
)

// logAnalytics is the stand-in for Log Analytics, with an identity that gives processes
// tokens for it.
type logAnalytics struct {
	sink   *loganalytics.Sink
	tokens loganalytics.Tokens
	env    []string
}

func startLogAnalytics(t *testing.T) *logAnalytics {
	t.Helper()
	columns := map[string]string{}
	for _, c := range logs.Columns() {
		columns[c.Name] = c.Type
	}
	a := &logAnalytics{tokens: loganalytics.Tokens{Secret: []byte("secret")}}
	var err error
	if a.sink, err = loganalytics.Start(loganalytics.Options{Columns: columns, Token: a.tokens.Check}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.sink.Close)
	id, err := stack.StartIdentity(stack.IdentityOptions{Tokens: a.tokens})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(id.Stop)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, append(aoaisim.CA(), a.sink.CA...), 0o600); err != nil {
		t.Fatal(err)
	}
	a.env = []string{
		"GATEWAY_LOGS_ENDPOINT=" + a.sink.URL, "GATEWAY_LOGS_RULE=" + a.sink.Rule, "GATEWAY_DEV_CA_FILE=" + ca,
	}
	a.env = append(a.env, id.Environ()...)
	return a
}

// trouble lists the faults that the stand-in for Log Analytics has, one after another.
var trouble = []loganalytics.Fault{
	{Do: loganalytics.DoStatus, Status: http.StatusTooManyRequests, RetryAfter: 1},
	{Do: loganalytics.DoStatus, Status: http.StatusRequestEntityTooLarge, Probability: 0.7},
	{Do: loganalytics.DoStatus, Status: http.StatusInternalServerError},
	{Do: loganalytics.DoClose},
	{Do: loganalytics.DoLost, Probability: 0.5}, // stores the rows and does not answer
}

// harass activates the faults in trouble one after another, until ctx ends.
func (a *logAnalytics) harass(ctx context.Context, each time.Duration) {
	for n := 0; ; n++ {
		if n%(len(trouble)+1) < len(trouble) { // after all faults there is a period without a fault
			a.sink.Fault(trouble[n%(len(trouble)+1)])
		}
		err := harness.Pause(ctx, each)
		a.sink.ClearFaults()
		if err != nil {
			return
		}
	}
}

// Log Analytics fails in every way while one gateway works. Clients do not notice it. When
// Log Analytics works again, the same gateway sends it all rows.
func TestTroubleAtLogAnalytics(t *testing.T) {
	lasts, each := 10*time.Second, time.Second
	if harness.Proving {
		lasts, each = time.Minute, 10*time.Second
	}
	server, sink := harness.StartAzurite(t), startLogAnalytics(t)
	w := harness.NewEnvironment(t, server.ConnectionString(), killPolicy)
	w.Region(1, aoaisim.Options{Name: "steady", EventDelay: 5 * time.Millisecond})
	p := harness.StartProcess(t, w.Environ(sink.env...))
	p.Ready()
	trouble, peace := context.WithTimeout(t.Context(), lasts)
	defer peace()
	load := harness.StartLoad(t, killClients(t, p.URL))
	sink.harass(trouble, each)
	sights := load.End()
	for _, s := range sights {
		if s.ID == "" || s.Status >= 500 || !s.Complete && !s.Left {
			t.Errorf("%s %s: status %d %s, complete %v", s.Ask.Name, s.ID, s.Status, s.Code, s.Complete)
		}
	}
	book := harness.ReadJournal(t, server)
	harness.Until(t, "the sink has a row for every record", func() bool { return len(sink.best(t)) == len(book.EndLines) })
	sink.check(t, book)
	calls := sink.sink.Counts()
	harness.Report(t, "%d requests in %v of trouble; the sink's calls: %+v", len(sights), lasts, calls)
	_ = p.Cmd.Process.Kill()
	<-p.Exited
	after := newRecovery(t, server, sink)
	after.sweep()
	sink.check(t, book)
	after.checkUsage(book)
	after.checkJournal(true)
}

// minutesOn is a table whose clock is three minutes ahead. So the owners of all files seem
// to be dead.
type minutesOn struct{ table.Store }

func (l minutesOn) Offset() time.Duration { return l.Store.Offset() + 3*time.Minute }

// recovery recovers the files of processes that were killed.
type recovery struct {
	t       *testing.T
	server  *azurite.Server
	blobs   *blob.Azure
	rows    *manifest.Manifest
	book    *usage.Store
	derive  *derive.Worker
	writer  *journal.Writer
	letters string // what Recover reported
}

func newRecovery(t *testing.T, server *azurite.Server, a *logAnalytics) *recovery {
	t.Helper()
	open := func(name string) table.Store {
		store, err := table.NewAzure(table.AzureOptions{ConnectionString: server.ConnectionString(), Table: name})
		if err != nil {
			t.Fatal(err)
		}
		return store
	}
	blobs, err := blob.NewAzure(blob.AzureOptions{ConnectionString: server.ConnectionString(), Container: app.AuditContainer})
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.sink.CA)
	e := app.Services{
		Blobs: blobs, Usage: open(app.UsageTable), Journal: minutesOn{open(app.JournalTable)},
		Transport: backend.NewTransport(roots), Identity: harness.TokenMaker{Tokens: a.tokens},
	}
	if e.Exporter, err = app.OpenExporter(settings.Values{LogsURL: a.sink.URL, LogsRuleID: a.sink.Rule, LogsStream: logs.Stream}, e,
		logger); err != nil {
		t.Fatal(err)
	}
	m := &recovery{t: t, server: server, blobs: blobs, rows: manifest.New(e.Journal), book: usage.New(e.Usage)}
	m.writer = journal.New(journal.Options{Blobs: blobs, Manifest: m.rows, Logger: logger})
	m.derive = derive.New(derive.Options{
		Journal: m.writer, Manifest: m.rows, Blobs: blobs, Consumers: []derive.Consumer{m.book, e.Exporter},
		Logger: logger,
	})
	return m
}

// sweep recovers all files. Then it derives from its own journal, which has the incomplete
// records.
func (m *recovery) sweep() {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 4*time.Minute)
	defer cancel()
	var err error
	if m.letters, err = m.derive.Recover(ctx); err != nil {
		m.t.Fatal(err)
	}
	if err := m.writer.Close(ctx); err != nil {
		m.t.Fatal(err)
	}
	m.derive.Finish(ctx)
}

// sinkRow has the columns that the tests check.
type sinkRow struct {
	ID       string `json:"RecordId"`
	Revision int    `json:"RecordRevision"`
	Total    int64  `json:"TotalTokens"`
	Status   int    `json:"ResponseCode"`
}

// best returns the newest row of each record.
func (a *logAnalytics) best(t *testing.T) map[string]sinkRow {
	t.Helper()
	best := map[string]sinkRow{}
	for _, raw := range a.sink.Rows() {
		var r sinkRow
		if err := json.Unmarshal(raw, &r); err != nil {
			t.Fatal(err)
		}
		if old, ok := best[r.ID]; !ok || r.Revision > old.Revision {
			best[r.ID] = r
		}
	}
	return best
}

// check checks that Log Analytics has the newest row of every record, with the record's
// numbers.
func (a *logAnalytics) check(t *testing.T, b harness.Journal) {
	t.Helper()
	best, copies := a.best(t), len(a.sink.Rows())
	incomplete, missing, unlike := 0, 0, 0
	for id, end := range b.EndLines {
		r, ok := best[id]
		switch {
		case !ok || r.Revision == 0:
			missing++
		case r.Total != end.Usage.Total || r.Status != end.Status:
			unlike++
		}
	}
	for id := range b.BeginLines {
		if _, ended := b.EndLines[id]; ended {
			continue
		}
		if r, ok := best[id]; ok && r.Revision == 0 {
			incomplete++
		} else {
			missing++
		}
	}
	strays := len(best) - len(b.EndLines) - incomplete
	harness.Report(t, "sink: %d rows, %d records after de-duplication, %d of them incomplete; missing %d, unlike their record %d, of no "+
		"record %d, damaged %d",
		copies, len(best), incomplete, missing, unlike, strays, len(a.sink.Violations()))
	if missing+unlike+len(a.sink.Violations()) > 0 || strays != 0 || len(b.EndLines) == 0 {
		t.Errorf("the sink is not what the journal is: %v", a.sink.Violations()[:min(3, len(a.sink.Violations()))])
	}
}

// checkUsage checks that the statistics are the sums over the end records.
func (m *recovery) checkUsage(b harness.Journal) {
	m.t.Helper()
	m.checkUsageOf(b, len(open(&b)))
}

func (m *recovery) checkUsageOf(b harness.Journal, incomplete int) {
	m.t.Helper()
	var want usage.Counts
	for _, end := range b.EndLines {
		want.Requests++
		want.Prompt += end.Usage.Prompt
		want.Completion += end.Usage.Completion
		want.Total += end.Usage.Total
	}
	want.Incomplete = int64(incomplete)
	now := time.Now()
	s, err := m.book.Summarize(m.t.Context(), usage.Query{
		From: now.Add(-3 * time.Hour), To: now.Add(2 * time.Hour),
		By: []string{"subscription"},
	})
	if err != nil {
		m.t.Fatal(err)
	}
	got := usage.Counts{
		Requests: s.Sum.Requests, Prompt: s.Sum.Prompt, Completion: s.Sum.Completion, Total: s.Sum.Total,
		Incomplete: s.Sum.Incomplete,
	}
	harness.Report(m.t, "usage: %d requests, %d tokens, %d incomplete; the journal says %d, %d and %d", got.Requests, got.Total,
		got.Incomplete, want.Requests, want.Total, want.Incomplete)
	if got != want {
		m.t.Errorf("usage is %+v, the end records say %+v", got, want)
	}
}

// checkJournal verifies the whole journal, including bodies.
func (m *recovery) checkJournal(bodies bool) {
	m.t.Helper()
	now := time.Now()
	report, err := verify.Run(m.t.Context(), m.rows, m.blobs, now.Add(-3*time.Hour), now.Add(2*time.Hour))
	if err != nil {
		m.t.Fatal(err)
	}
	harness.Report(m.t, "verify: %d files, %d batches, %d records, %d bodies, %d beyond the checkpoint, %d breaks; %s",
		report.Files, report.Batches, report.Records, report.Bodies, report.BeyondCheckpoint, len(report.Breaks), m.letters)
	for _, b := range report.Breaks {
		m.t.Error(b)
	}
	if bodies && report.Bodies == 0 {
		m.t.Error("no body was checked")
	}
}

// open returns the sorted ids of the begin records without an end record.
func open(b *harness.Journal) (ids []string) {
	for id := range b.BeginLines {
		if _, ended := b.EndLines[id]; !ended {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// checkIncomplete checks that each begin record without an end record has exactly one
// incomplete record, and that there are no others.
func checkIncomplete(b *harness.Journal, t *testing.T) {
	t.Helper()
	var noted []string
	for id, n := range b.Incomplete {
		noted = append(noted, id)
		if n > 1 {
			t.Errorf("%s is incomplete %d times", id, n)
		}
	}
	slices.Sort(noted)
	if open := open(b); fmt.Sprint(open) != fmt.Sprint(noted) {
		t.Errorf("%d begins have no end, %d are noted as incomplete", len(open), len(noted))
	}
}
