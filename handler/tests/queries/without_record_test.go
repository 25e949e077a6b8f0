package queries_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"aoaigateway/handler/logs"
)

const withoutRecord = "requests-without-record"

// request is a row of AppRequests, which the Functions host writes.
type request struct{ TimeGenerated, OperationName string }

func TestRequestsWithoutRecord(t *testing.T) {
	query := read(t, queryFolder+"/"+withoutRecord+".kql")
	if readme := read(t, "../../gateway/README.md"); !strings.Contains(readme, "```kusto\n"+query+"```") {
		t.Errorf("handler/gateway/README.md does not show the text of infra/queries/%s.kql", withoutRecord)
	}
	now := time.Now().UTC()
	lossy, whole, old := now.Add(-3*time.Hour).Truncate(time.Hour), now.Add(-5*time.Hour).Truncate(time.Hour), now.AddDate(0, 0, -3)
	w := newWork(t)
	var rows []logs.Row
	add := func(at time.Time, requests, recorded int) {
		for i := range requests {
			at := at.Add(time.Duration(i) * time.Minute)
			w.Requests = append(w.Requests, request{at.Format(time.DateTime), "openai"}, request{at.Format(time.DateTime), "healthz"})
			if i < recorded {
				rows = append(rows, logs.Row{TimeGenerated: at, RecordID: fmt.Sprint(at.Unix()), RecordRevision: 1})
			}
		}
	}
	add(lossy, 7, 4)
	add(whole, 3, 3)
	add(old, 2, 0) // before the day that the query looks at
	w.Rows = ndjson(t, rows)
	w.Queries = []named{{withoutRecord, query}}
	found := execute(t, w)[withoutRecord].Rows
	missing := map[string]any{}
	for _, row := range found {
		missing[fmt.Sprint(row["Hour"])] = row["WithoutRecord"]
	}
	want := map[string]float64{lossy.Format(time.DateTime): 3, whole.Format(time.DateTime): 0}
	if len(found) != len(want) {
		t.Errorf("%d hours, not %d: %v", len(found), len(want), found)
	}
	for hour, n := range want {
		if missing[hour] != n {
			t.Errorf("%s: %v requests without a record, not %v: %v", hour, missing[hour], n, found)
		}
	}
}
