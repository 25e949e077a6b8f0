package export_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"aoaigateway/handler/devstack/loganalytics"
	"aoaigateway/handler/logs"
	"aoaigateway/handler/logs/export"
)

func TestFailedDeadLetterIsNotDone(t *testing.T) {
	p := newHarness(t)
	rows := makeRows(t, 3)
	o := p.options
	away := errors.New("storage is away")
	o.DeadLetter = func(context.Context, logs.Row, string) error { return away }
	p.Fault(loganalytics.Fault{Do: loganalytics.DoStatus, Status: 400, Match: rows[1].RecordID})
	if err := p.open(t, o).Ship(t.Context(), rows); !errors.Is(err, away) {
		t.Errorf("%v", err)
	}
	o.DeadLetter = nil
	if _, err := export.NewShipper(o); err == nil {
		t.Error("a shipper without a place for refused rows was made")
	}
}

func TestDeadLetterBlobHasReason(t *testing.T) {
	blobs := map[string]string{}
	store := export.DeadLetterIn(func(_ context.Context, name string, r io.Reader) error {
		data, err := io.ReadAll(r)
		blobs[name] = string(data)
		return err
	})
	row := makeRows(t, 1)[0]
	for range 2 {
		if err := store(t.Context(), row, "status 400"); err != nil {
			t.Fatal(err)
		}
	}
	text := blobs["dead-letter/2026/11/23/rec-0000--1.jsonl"]
	var line struct {
		Reason string
		Row    logs.Row
	}
	if err := json.Unmarshal([]byte(text), &line); err != nil || line.Reason != "status 400" ||
		line.Row.BackendRequestBody != row.BackendRequestBody || strings.Count(text, "\n") != 1 || len(blobs) != 1 {
		t.Errorf("%v: %d blobs, %.200s", err, len(blobs), text)
	}
}

func TestEachRowEndsInOnePlace(t *testing.T) {
	all := makeRows(t, 12)
	p := newHarness(t)
	rapid.Check(t, func(rt *rapid.T) {
		p.Reset()
		p.ClearFaults()
		clear(p.deadLetters)
		bad := 0
		rows := all[:rapid.IntRange(1, len(all)).Draw(rt, "rows")]
		for i := range rows {
			if rapid.IntRange(0, 9).Draw(rt, "poison") == 0 {
				bad++
				p.Fault(loganalytics.Fault{Do: loganalytics.DoStatus, Status: 400, Match: rows[i].RecordID})
			}
		}
		for range rapid.IntRange(0, 3).Draw(rt, "faults") {
			p.Fault(loganalytics.Fault{
				Do:    rapid.SampledFrom([]loganalytics.Do{loganalytics.DoClose, loganalytics.DoLost}).Draw(rt, "do"),
				Times: rapid.IntRange(1, 4).Draw(rt, "times"),
			})
		}
		err := p.shipper.Ship(ctxFor(t, time.Minute), rows)
		if refused, ok := errors.AsType[*export.RefusedError](err); ok && bad == len(rows) && refused.Status == 400 {
			return
		}
		if err != nil {
			rt.Fatal(err)
		}
		if len(p.deadLetters) != bad {
			rt.Fatalf("%d dead letters, %d bad", len(p.deadLetters), bad)
		}
		p.wantEachRow(t, rows)
	})
}

func TestSinkReportsDamagedRows(t *testing.T) {
	p := newHarness(t)
	row := makeRows(t, 1)[0]
	row.BackendResponseBody = strings.Repeat("é", 33_000)
	raw, err := json.Marshal(row)
	if err != nil {
		t.Fatal(err)
	}
	raw = bytes.Replace(raw, []byte(`{`), []byte(`{"Unknown":1,`), 1)
	raw = bytes.Replace(raw, []byte(`"ResponseCode":200`), []byte(`"ResponseCode":"200"`), 1)
	token := credential{tokens: loganalytics.Tokens{Secret: []byte("secret")}}.tokens.Make(loganalytics.Audience, time.Hour)
	post := func(body []byte, token string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
			p.URL+"/dataCollectionRules/"+p.Rule+"/streams/"+logs.Stream+"?api-version=2023-01-01", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "application/json")
		resp, err := p.options.Transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		return resp.StatusCode
	}
	if status := post([]byte("["+string(raw)+"]"), token); status != http.StatusNoContent || len(p.Violations()) != 3 {
		t.Errorf("%d %v", status, p.Violations())
	}
	large := "[" + strings.TrimSuffix(strings.Repeat(string(raw)+",", 1_000_000/len(raw)+1), ",") + "]"
	for want, call := range map[int][2]string{
		401: {"[]", token + "x"}, 413: {large, token}, 400: {"{}", token}, 204: {"[]", token},
	} {
		if status := post([]byte(call[0]), call[1]); status != want {
			t.Errorf("%d, not %d", status, want)
		}
	}
	expired := loganalytics.Tokens{Secret: []byte("secret")}.Make(loganalytics.Audience, -time.Minute)
	if status := post([]byte("[]"), expired); status != http.StatusUnauthorized {
		t.Errorf("an expired token: %d", status)
	}
}
