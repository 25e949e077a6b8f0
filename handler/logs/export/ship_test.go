package export_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"aoaigateway/handler/devstack/loganalytics"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/logs"
	"aoaigateway/handler/logs/export"
)

// credential gives the SDK tokens that the sink accepts.
type credential struct {
	tokens   loganalytics.Tokens
	audience string // replaces the requested one
}

func (c credential) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	resource := strings.TrimSuffix(o.Scopes[0], "/.default")
	if c.audience != "" {
		resource = c.audience
	}
	return azcore.AccessToken{Token: c.tokens.Make(resource, time.Hour), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// harness is a sink and a shipper that ships to it.
type harness struct {
	*loganalytics.Sink
	options     export.ShipperOptions
	shipper     *export.Shipper
	deadLetters map[string]string // reasons by RecordId
}

func newHarness(t *testing.T) *harness {
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
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(sink.CA)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	t.Cleanup(transport.CloseIdleConnections)
	p := &harness{Sink: sink, deadLetters: map[string]string{}}
	p.options = export.ShipperOptions{
		Endpoint: sink.URL, RuleID: sink.Rule, Credential: credential{tokens: tokens}, Transport: transport,
		Pause: time.Millisecond, MaxPause: 20 * time.Millisecond, CallTimeout: 5 * time.Second,
		DeadLetter: func(_ context.Context, row logs.Row, reason string) error {
			p.deadLetters[row.RecordID] = reason
			return nil
		},
	}
	p.shipper = p.open(t, p.options)
	return p
}

func (p *harness) open(t *testing.T, o export.ShipperOptions) *export.Shipper {
	t.Helper()
	s, err := export.NewShipper(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// makeRows returns n rows, some with bodies near the limit.
func makeRows(t testing.TB, n int) []logs.Row {
	t.Helper()
	rows := make([]logs.Row, n)
	for i := range rows {
		id := fmt.Sprintf("rec-%04d-", i)
		text := "hello"
		if i%25 == 7 {
			text = strings.Repeat(`\"<é>`, 20_000)
		}
		rows[i] = rowOf(t, id, `{"messages":[{"content":"`+text+`"}]}`)
	}
	return rows
}

// rowOf returns the row of an ended request with body as its request.
func rowOf(t testing.TB, id, body string) logs.Row {
	t.Helper()
	line := gateway.Line{Type: gateway.End, Record: gateway.Record{
		ID: id, Time: time.Date(2026, 11, 23, 20, 15, 16, 0, time.UTC), Operation: "ChatCompletions_Create", Surface: "classic",
		Caller: gateway.Caller{Subscription: "sub-1", Product: "default"}, Model: "chat", Region: "eastus2", Deployment: "chat-east",
		Attempts: []gateway.Attempt{{Region: "eastus2", Millis: 90, Status: 200}}, Status: 200, Outcome: gateway.Complete,
		Request:  &gateway.Body{Size: int64(len(body)), SHA256: "aa", ContentType: "application/json", JSON: json.RawMessage(body)},
		Response: &gateway.Body{Size: 2, SHA256: "bb", ContentType: "application/json", JSON: json.RawMessage(`{}`)},
	}}
	row, ok := logs.Mapper{}.Row(t.Context(), gateway.Entry{Line: line, File: "2026/11/23/20/p-1.jsonl.gz", Chain: "chain-1"})
	if !ok {
		t.Fatal("the end made no row")
	}
	return row
}

// wantEachRow wants every row in the sink or as a dead letter, once after de-duplication, and none damaged.
func (p *harness) wantEachRow(t *testing.T, rows []logs.Row) {
	t.Helper()
	stored := map[string]bool{}
	for _, raw := range p.Rows() {
		var row logs.Row
		if err := json.Unmarshal(raw, &row); err != nil {
			t.Fatal(err)
		}
		stored[row.RecordID] = true
	}
	for _, row := range rows {
		if _, dead := p.deadLetters[row.RecordID]; !stored[row.RecordID] && !dead {
			t.Errorf("%s is lost", row.RecordID)
		} else if stored[row.RecordID] && dead {
			t.Errorf("%s is in both places", row.RecordID)
		}
	}
	if v := p.Violations(); len(v) > 0 {
		t.Errorf("%d violations, the first: %s", len(v), v[0])
	}
}

func ctxFor(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestShipRespectsCallSize(t *testing.T) {
	p := newHarness(t)
	rows := makeRows(t, 250)
	if err := p.shipper.Ship(ctxFor(t, time.Minute), rows); err != nil {
		t.Fatal(err)
	}
	p.wantEachRow(t, rows)
	if c := p.Counts(); c.Rows != len(rows) || c.Refused != 0 || c.Calls < 2 || c.Calls > 5 {
		t.Errorf("%+v", c)
	}
	if err := p.shipper.Ship(t.Context(), nil); err != nil || p.Counts().Calls > 5 {
		t.Errorf("nothing to ship made a call: %v", err)
	}
}

func TestShipRetriesServiceFaults(t *testing.T) {
	for name, f := range map[string]loganalytics.Fault{
		"429":         {Do: loganalytics.DoStatus, Status: 429, Times: 5},
		"408":         {Do: loganalytics.DoStatus, Status: 408, Times: 5},
		"500":         {Do: loganalytics.DoStatus, Status: 500, Times: 5},
		"503":         {Do: loganalytics.DoStatus, Status: 503, Times: 5},
		"closed":      {Do: loganalytics.DoClose, Times: 5},
		"lost answer": {Do: loganalytics.DoLost, Times: 2},
		"half of all": {Do: loganalytics.DoClose, Probability: 0.5},
	} {
		t.Run(name, func(t *testing.T) {
			p := newHarness(t)
			p.Fault(f)
			rows := makeRows(t, 30)
			if err := p.shipper.Ship(ctxFor(t, time.Minute), rows); err != nil {
				t.Fatal(err)
			}
			p.wantEachRow(t, rows)
			if len(p.deadLetters) > 0 {
				t.Errorf("dead letters: %v", p.deadLetters)
			}
		})
	}
}

func TestShipRespectsRetryAfter(t *testing.T) {
	p := newHarness(t)
	p.Fault(loganalytics.Fault{Do: loganalytics.DoStatus, Status: 429, RetryAfter: 1, Times: 1})
	start := time.Now()
	if err := p.shipper.Ship(ctxFor(t, time.Minute), makeRows(t, 1)); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d < time.Second || p.Counts().Calls != 2 {
		t.Errorf("%d calls in %v", p.Counts().Calls, d)
	}
}

func TestShipEndsWithContext(t *testing.T) {
	p := newHarness(t)
	p.Fault(loganalytics.Fault{Do: loganalytics.DoStatus, Status: 503})
	if err := p.shipper.Ship(ctxFor(t, 200*time.Millisecond), makeRows(t, 2)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	p.Fault(loganalytics.Fault{Do: loganalytics.DoHang, Millis: 60_000})
	start := time.Now()
	if err := p.shipper.Ship(ctxFor(t, 100*time.Millisecond), makeRows(t, 2)); err == nil || time.Since(start) > 10*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}

func TestBadRowsBecomeDeadLetters(t *testing.T) {
	for _, status := range []int{400, 422} {
		for name, bad := range map[string][]int{
			"first": {0}, "last": {99}, "a big one": {7}, "many": {0, 1, 2, 3, 50, 51, 97, 98, 99}, "probes": {0, 12, 24, 36, 48, 60, 72, 84},
		} {
			t.Run(fmt.Sprint(status, " ", name), func(t *testing.T) {
				p := newHarness(t)
				rows := makeRows(t, 100)
				for _, i := range bad {
					p.Fault(loganalytics.Fault{Do: loganalytics.DoStatus, Status: status, Match: rows[i].RecordID})
				}
				err := errors.New("not shipped yet")
				for n := 0; err != nil; n++ { // all probes may be bad rows; the next call probes others
					if err = p.shipper.Ship(ctxFor(t, time.Minute), rows); err != nil && n == 20 {
						t.Fatal(err)
					}
				}
				p.wantEachRow(t, rows)
				if len(p.deadLetters) != len(bad) {
					t.Errorf("%d dead letters: %v", len(p.deadLetters), p.deadLetters)
				}
				for _, i := range bad {
					if reason := p.deadLetters[rows[i].RecordID]; !strings.Contains(reason, fmt.Sprint(status)) || !strings.Contains(reason, "Fault") {
						t.Errorf("row %d: reason %q", i, reason)
					}
				}
				t.Logf("%d calls", p.Counts().Calls)
			})
		}
	}
}

// For some minutes after a role or a stream was changed, each front end of the service
// refuses or accepts on its own. No row becomes a dead letter for that.
func TestPartialRefusalKeepsAllRows(t *testing.T) {
	for code, status := range map[string]int{"OperationFailed": 403, "InvalidStream": 400, "InvalidApiVersion": 400} {
		for _, n := range []int{1, 13, 100} {
			t.Run(fmt.Sprint(code, " ", n), func(t *testing.T) {
				p := newHarness(t)
				rows := makeRows(t, n)
				p.Fault(loganalytics.Fault{Do: loganalytics.DoStatus, Status: status, Code: code, Probability: 0.5})
				for range 30 {
					err := p.shipper.Ship(ctxFor(t, time.Minute), rows)
					if _, refused := errors.AsType[*export.RefusedError](err); err != nil && !refused {
						t.Fatal(err)
					}
				}
				p.ClearFaults()
				if err := p.shipper.Ship(ctxFor(t, time.Minute), rows); err != nil {
					t.Fatal(err)
				}
				p.wantEachRow(t, rows)
				if len(p.deadLetters) > 0 {
					t.Errorf("%d of %d rows are dead letters: %v", len(p.deadLetters), n, p.deadLetters)
				}
			})
		}
	}
}

func TestLoneBadRowWaits(t *testing.T) {
	p := newHarness(t)
	rows := makeRows(t, 3)
	p.Fault(loganalytics.Fault{Do: loganalytics.DoStatus, Status: 400, Match: rows[1].RecordID})
	if e, ok := errors.AsType[*export.RefusedError](p.shipper.Ship(t.Context(), rows[1:2])); !ok || e.Status != 400 || len(p.deadLetters) > 0 {
		t.Fatalf("%v %v", e, p.deadLetters)
	}
	if err := p.shipper.Ship(t.Context(), rows[:2]); err != nil || len(p.deadLetters) != 1 {
		t.Errorf("%v %v", err, p.deadLetters)
	}
	clear(p.deadLetters)
	if err := p.shipper.Ship(t.Context(), rows[1:2]); err != nil || len(p.deadLetters) != 1 { // now there is a canary row
		t.Errorf("%v %v", err, p.deadLetters)
	}
}

func TestTotalRefusalKeepsAllRows(t *testing.T) {
	for _, status := range []int{400, 401, 403, 404, 413, 422} {
		for _, n := range []int{1, 3, 120} {
			for _, before := range []bool{false, true} {
				t.Run(fmt.Sprint(status, " ", n, " ", before), func(t *testing.T) {
					p := newHarness(t)
					rows := makeRows(t, n+1)
					if before {
						if err := p.shipper.Ship(t.Context(), rows[n:]); err != nil {
							t.Fatal(err)
						}
					}
					p.Fault(loganalytics.Fault{Do: loganalytics.DoStatus, Status: status})
					e, ok := errors.AsType[*export.RefusedError](p.shipper.Ship(ctxFor(t, time.Minute), rows[:n]))
					if !ok || e.Status != status || len(p.deadLetters) > 0 {
						t.Fatalf("%v, dead letters: %v", e, p.deadLetters)
					}
					if c := p.Counts(); c.Calls > 50 {
						t.Errorf("%d calls to find that out", c.Calls)
					}
					p.ClearFaults()
					if err := p.shipper.Ship(ctxFor(t, time.Minute), rows[:n]); err != nil {
						t.Fatal(err)
					}
					p.wantEachRow(t, rows[:n])
				})
			}
		}
	}
}

func TestWrongRuleKeepsAllRows(t *testing.T) {
	p := newHarness(t)
	for want, change := range map[int]func(*export.ShipperOptions){
		404: func(o *export.ShipperOptions) { o.RuleID = "dcr-gone" },
		400: func(o *export.ShipperOptions) { o.Stream = "Custom-Other_CL" },
		401: func(o *export.ShipperOptions) {
			o.Credential = credential{tokens: loganalytics.Tokens{Secret: []byte("secret")}, audience: "https://vault.azure.net"}
		},
	} {
		o := p.options
		change(&o)
		e, ok := errors.AsType[*export.RefusedError](p.open(t, o).Ship(ctxFor(t, time.Minute), makeRows(t, 20)))
		if !ok || e.Status != want || len(p.deadLetters) > 0 || len(p.Rows()) > 0 {
			t.Errorf("%d: %v, dead letters %v", want, e, p.deadLetters)
		}
	}
}
