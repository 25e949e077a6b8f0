package table_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"aoaigateway/handler/table"
)

// pages answers a query with pages of the given numbers of rows, with continuation headers
// in all but the last. The service ends a page after 1,000 rows, after 5 seconds and at the
// boundary of a partition, so a page may be short or empty ("Query timeout and pagination",
// Table Storage REST API).
type pages struct {
	t    *testing.T
	rows []int
	next int
}

func (p *pages) Do(r *http.Request) (*http.Response, error) {
	if token := r.URL.Query().Get("NextRowKey"); p.next > 0 && token != fmt.Sprint("row ", p.next) {
		p.t.Errorf("page %d was asked for with the token %q", p.next, token)
	}
	var entities []string
	for i := range p.rows[p.next] {
		entities = append(entities, fmt.Sprintf(`{"odata.etag":"e","PartitionKey":"p","RowKey":"%d-%d","Timestamp":"2026-01-01T00:00:00Z"}`,
			p.next, i))
	}
	header := http.Header{"Content-Type": {"application/json;odata=fullmetadata"}}
	if p.next++; p.next < len(p.rows) {
		header.Set("X-Ms-Continuation-Nextpartitionkey", "p")
		header.Set("X-Ms-Continuation-Nextrowkey", fmt.Sprint("row ", p.next))
	}
	body := `{"value":[` + strings.Join(entities, ",") + `]}`
	return &http.Response{StatusCode: http.StatusOK, Header: header, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

func TestScanReadsShortPages(t *testing.T) {
	transport := &pages{t: t, rows: []int{0, 200, 0, 0, 3, 0}}
	a, err := table.NewAzure(table.AzureOptions{
		ConnectionString: "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=YQ==;EndpointSuffix=core.windows.net", Table: "t",
		Transport: transport,
	})
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for _, err := range a.Scan(t.Context(), "p") {
		if err != nil {
			t.Fatal(err)
		}
		rows++
	}
	if rows != 203 || transport.next != len(transport.rows) {
		t.Errorf("%d rows of %d pages, want 203 of %d", rows, transport.next, len(transport.rows))
	}
}
