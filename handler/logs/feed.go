package logs

import "context"

// Feed takes the journal's entries to Log Analytics. Safe for concurrent use.
type Feed struct {
	Rows    Rows
	Shipper *Shipper
}

// Take returns nil once every row of entries was taken by the service or set aside; after
// an error the same entries are to be brought again.
func (f *Feed) Take(ctx context.Context, entries []Entry) error {
	rows := make([]Row, 0, len(entries))
	for _, e := range entries {
		if row, ok := f.Rows.Row(ctx, e); ok {
			rows = append(rows, row)
		}
	}
	return f.Shipper.Ship(ctx, rows)
}
