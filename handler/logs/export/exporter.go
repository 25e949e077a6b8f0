package export

import (
	"context"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/logs"
)

// Exporter sends the journal's entries to Log Analytics as rows. It is a consumer of the
// journal. A row may arrive several times; queries count it once, by RecordId. Safe for
// concurrent use.
type Exporter struct {
	Mapper  logs.Mapper
	Shipper *Shipper
}

// Take returns nil when every row of entries was accepted by the service or stored as a
// dead letter. After an error the caller must call it again with the same entries.
func (x *Exporter) Take(ctx context.Context, _ string, entries []gateway.Entry) error {
	rows := make([]logs.Row, 0, len(entries))
	for _, e := range entries {
		if row, ok := x.Mapper.Row(ctx, e); ok {
			rows = append(rows, row)
		}
	}
	return x.Shipper.Ship(ctx, rows)
}

// Replay does nothing: rows that the service accepted are not sent again.
func (x *Exporter) Replay(context.Context, string, []gateway.Entry) error { return nil }

// Close does nothing: rows do not depend on their file.
func (x *Exporter) Close(context.Context, string) error { return nil }
