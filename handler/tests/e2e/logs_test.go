package e2e_test

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"log/slog"
	"maps"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"aoaigateway/handler/app"
	"aoaigateway/handler/app/settings"
	"aoaigateway/handler/backend"
	"aoaigateway/handler/blob"
	"aoaigateway/handler/devstack/aoaisim"
	"aoaigateway/handler/devstack/loganalytics"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal/journaltest"
	"aoaigateway/handler/logs"
	"aoaigateway/handler/logs/export"
	"aoaigateway/handler/tests/harness"
)

// exporterOf returns an Exporter with the gateway's services, and the stand-in for Log
// Analytics that it sends rows to.
func exporterOf(t *testing.T, r *harness.Gateway) (*export.Exporter, *loganalytics.Sink) {
	t.Helper()
	columns := map[string]string{}
	for _, c := range logs.Columns() {
		columns[c.Name] = c.Type
	}
	tokens := loganalytics.Tokens{Secret: []byte("secret")}
	sink, err := loganalytics.Start(loganalytics.Options{Columns: columns, Token: tokens.Check})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sink.Close)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(sink.CA)
	s, e := r.Settings, r.Services
	s.LogsURL, s.LogsRuleID, s.LogsStream = sink.URL, sink.Rule, logs.Stream
	e.Transport, e.Identity = backend.NewTransport(roots), harness.TokenMaker{Tokens: tokens}
	exporter, err := app.OpenExporter(s, e, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	return exporter, sink
}

// entriesOf returns the entries of all end records, each with the request from its begin
// record.
func entriesOf(t *testing.T, blobs blob.Store) (entries []gateway.Entry) {
	t.Helper()
	requests := map[string]*gateway.Body{}
	for _, batch := range journaltest.Batches(t, blobs) {
		for _, raw := range batch.Records {
			line, err := gateway.ParseLine(raw)
			if err != nil {
				t.Fatal(err)
			}
			if line.Type == gateway.Begin {
				requests[line.ID] = line.Request
				continue
			}
			if b, ok := requests[line.ID]; ok {
				line.Request = b
			}
			entries = append(entries, gateway.Entry{Line: line, File: batch.Name, Chain: batch.Hash})
		}
	}
	return entries
}

// Only the regions and Log Analytics are simulated; everything between the client's request
// and the row is real.
func TestRowsMatchRegions(t *testing.T) {
	r := harness.Start(t, harness.Options{Regions: 1, Settings: func(s *settings.Values) { s.MaxBodyMB = 30 }})
	sent := sendOfEach(t, r)
	want := r.Regions[0].Counts().Usage
	exporter, sink := exporterOf(t, r)
	entries := entriesOf(t, r.Blobs)
	for range 2 { // twice, because a row may arrive several times
		if err := exporter.Take(t.Context(), "", entries); err != nil {
			t.Fatal(err)
		}
	}
	if v := sink.Violations(); len(v) > 0 {
		t.Errorf("%d violations: %s", len(v), v[0])
	}
	rows := rowsByID(t, sink)
	var got sums
	for id, row := range rows {
		got.add(t, row)
		if row.SpecOperationID != sent.ids[id] || row.CallerIPAddress == "" || row.ChainHash == "" {
			t.Errorf("%+v", row)
		}
	}
	if len(rows) != len(sent.ids) || !maps.EqualFunc(rows, sent.ids, func(logs.Row, string) bool { return true }) {
		t.Errorf("%d rows of %d requests", len(rows), len(sent.ids))
	}
	if got != (sums{want.Prompt, want.Completion, want.Total, want.Total}) || got.total == 0 {
		t.Errorf("the rows and their bodies say %+v; the region counted %+v", got, want)
	}
	wantWhole(t, r, rows[sent.long].RequestBodyURI, []byte(sent.image))
	wantWhole(t, r, rows[sent.stream].BodyURI, nil)
	text := gjson.Get(rows[sent.long].BackendRequestBody, "messages.0.content.1.text").Str
	if !rows[sent.long].BodyTruncatedInRow || text != "what is this [tokens:6]" {
		t.Errorf("%.300s", rows[sent.long].BackendRequestBody)
	}
	row := rows[sent.stream]
	if gjson.Get(row.BackendResponseBody, "choices.0.message.content").Str == "" || row.TimeToFirstTokenMs == nil ||
		row.CompletionTokens != 24_000 {
		t.Errorf("%+v", row)
	}
}

// requests has the operation of each request that sendOfEach sent, by record id.
type requests struct {
	ids          map[string]string
	long, stream string // ids of a request of 20 MiB and of a stream of 4 MiB
	image        string // body of the long request
}

// sendOfEach sends a request of each metered operation, requests with long bodies, one that
// the region refuses and one with a wrong key.
func sendOfEach(t *testing.T, r *harness.Gateway) requests {
	t.Helper()
	sent := requests{ids: map[string]string{}}
	note := func(operation string, a harness.Answer) string {
		id := a.Header.Get("X-Gateway-Request-Id")
		if a.Err != nil || id == "" {
			t.Fatalf("%s: %d %v", operation, a.Status, a.Err)
		}
		sent.ids[id] = operation
		return id
	}
	for _, c := range metered {
		note(c.operation, r.Post(c.path, c.body))
		if c.streams {
			note(c.operation, r.Post(c.path, strings.Replace(c.body, "{", `{"stream":true,`, 1)))
		}
	}
	sent.image = `{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,` +
		strings.Repeat("QUJD", 5<<20) + `"}},{"type":"text","text":"what is this [tokens:6]"}]}]}`
	sent.long = note("ChatCompletions_Create", r.Post(harness.ChatPath, sent.image))
	r.Regions[0].Fault(aoaisim.Fault{Do: aoaisim.DoStatus, Status: 400, Times: 1})
	note("ChatCompletions_Create", r.Post(harness.ChatPath, harness.ChatBody))
	long := r.Post(harness.ChatPath, `{"stream":true,"messages":[{"role":"user","content":"[tokens:24000] go on"}],"max_tokens":24000}`)
	sent.stream = note("ChatCompletions_Create", long)
	if len(long.Body) < 4<<20 {
		t.Errorf("the long stream has only %d bytes", len(long.Body))
	}
	note("ChatCompletions_Create", r.Do("POST", harness.ChatPath, harness.ChatBody, "api-key=wrong"))
	waitFor(r, "every end", func() bool { return r.Ends() == len(sent.ids) })
	return sent
}

// rowsByID returns, for each record, the first row that the stand-in received.
func rowsByID(t *testing.T, sink *loganalytics.Sink) map[string]logs.Row {
	t.Helper()
	rows := map[string]logs.Row{}
	for _, raw := range sink.Rows() {
		var row logs.Row
		if err := json.Unmarshal(raw, &row); err != nil {
			t.Fatal(err)
		}
		if _, again := rows[row.RecordID]; !again {
			rows[row.RecordID] = row
		}
	}
	return rows
}

// sums are the tokens in the columns and in the bodies of rows.
type sums struct{ prompt, completion, total, inBodies int64 }

func (s *sums) add(t *testing.T, row logs.Row) {
	t.Helper()
	s.prompt, s.completion, s.total = s.prompt+row.PromptTokens, s.completion+row.CompletionTokens, s.total+row.TotalTokens
	s.inBodies += gjson.Get(row.BackendResponseBody, "usage.total_tokens").Int()
	for _, body := range []string{row.BackendResponseBody, row.ResponseBody, row.BackendRequestBody, row.RequestBody} {
		if body != "" && (!json.Valid([]byte(body)) || len(body) > 64_000) {
			t.Errorf("%s: %d bytes, valid: %v", row.RecordID, len(body), json.Valid([]byte(body)))
		}
	}
}

// wantWhole checks the blob that the URI in a row names.
func wantWhole(t *testing.T, r *harness.Gateway, uri string, want []byte) {
	t.Helper()
	name, ok := strings.CutPrefix(uri, app.AuditContainer+"/")
	if !ok {
		t.Fatalf("the row points at %q", uri)
	}
	blob, err := r.Blobs.Open(t.Context(), name, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	var got bytes.Buffer
	if _, err := got.ReadFrom(blob); err != nil {
		t.Fatal(err)
	}
	if want != nil && !bytes.Equal(got.Bytes(), want) || got.Len() < 1<<20 {
		t.Errorf("%s has %d bytes of %d", uri, got.Len(), len(want))
	}
}
