// Package manifest is the table of journal files, with one entry for each file. The documentation of package journal
// describes the entries.
package manifest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/table"
)

// Manifest is the table of journal files. Files are in the partition of their day. The partition "days" has one entry
// for each day that has files, so that nobody has to read all partitions.
type Manifest struct{ table table.Store }

// New returns the manifest in store, which must not repeat writes by itself.
func New(store table.Store) *Manifest { return &Manifest{table: store} }

// How long an owner keeps a file after its last write to the entry.
const (
	WriterClaim   = 2 * time.Minute
	RecoveryClaim = time.Minute
)

// ErrTaken says that an entry changed under its owner, because another process has taken the file.
var ErrTaken = errors.New("journal: another process has taken the file")

const daysPartition = "days"

// Now returns the local time in UTC, corrected by the last known offset of the clock of the table.
func (m *Manifest) Now() time.Time { return time.Now().Add(m.table.Offset()).UTC() }

// Insert adds the entry of f after that of its day. It returns table.ErrExists if there is one.
func (m *Manifest) Insert(ctx context.Context, f File) (File, error) {
	day := table.Entity{Key: table.Key{Partition: daysPartition, Row: f.key().Partition}, Props: map[string]any{"settled": false}}
	if _, err := m.table.Insert(ctx, day); err != nil && !errors.Is(err, table.ErrExists) {
		return f, err
	}
	e, err := m.table.Insert(ctx, f.entity())
	f.rev = e.Rev
	return f, err
}

// Get reads the entry of a file.
func (m *Manifest) Get(ctx context.Context, f File) (File, error) {
	e, err := m.table.Get(ctx, f.key())
	if err != nil {
		return File{}, err
	}
	return parse(e)
}

// Replace writes the entry if it has not changed since f was read, and returns ErrTaken if it has another owner now.
// Each owner has one writer. So a change that carries the owner's own name is a write of its own whose answer was
// lost, and is overwritten.
func (m *Manifest) Replace(ctx context.Context, f File) (File, error) {
	for {
		e, err := m.table.Replace(ctx, f.entity())
		if err == nil {
			f.rev = e.Rev
			return f, nil
		}
		if !errors.Is(err, table.ErrConflict) {
			return f, err
		}
		stored, err := m.Get(ctx, f)
		if err != nil {
			return f, err
		}
		if stored.Owner != f.Owner {
			return f, ErrTaken
		}
		f.rev = stored.rev
	}
}

// Claim writes the entry of f, which is not known to exist, for its owner: it inserts it or takes over one that
// nobody owns. It returns ErrTaken if it has another owner.
func (m *Manifest) Claim(ctx context.Context, f File) (File, error) {
	inserted, err := m.Insert(ctx, f)
	if !errors.Is(err, table.ErrExists) {
		return inserted, err
	}
	stored, err := m.Get(ctx, f)
	switch {
	case err != nil:
		return f, err
	case stored.Owner != f.Owner && stored.Owner != "":
		return f, ErrTaken
	}
	f.rev, f.Adopted = stored.rev, stored.Adopted
	return m.Replace(ctx, f)
}

// Day yields the files of one day in the order of their hours. An entry in a newer format comes with a
// *gateway.VersionError and ends nothing; any other error ends the iteration.
func (m *Manifest) Day(ctx context.Context, day time.Time) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		for e, err := range m.table.Scan(ctx, day.UTC().Format(dayLayout)) {
			var f File
			if err == nil {
				f, err = parse(e)
			}
			_, newer := errors.AsType[*gateway.VersionError](err)
			if !yield(f, err) || err != nil && !newer {
				return
			}
		}
	}
}

// Day is a day that has files.
type Day struct {
	Time    time.Time
	Settled bool // all its files are done and no more will be opened
	rev     table.Rev
}

// Days returns the days that have files, in their order.
func (m *Manifest) Days(ctx context.Context) (days []Day, err error) {
	for e, err := range m.table.Scan(ctx, daysPartition) {
		if err != nil {
			return nil, err
		}
		day, err := time.Parse(dayLayout, e.Row)
		if err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		settled, _ := e.Props["settled"].(bool)
		days = append(days, Day{day, settled, e.Rev})
	}
	return days, nil
}

// Settle marks a day that needs no more recovery.
func (m *Manifest) Settle(ctx context.Context, d Day) error {
	_, err := m.table.Replace(ctx, table.Entity{
		Key: table.Key{Partition: daysPartition, Row: d.Time.Format(dayLayout)}, Rev: d.rev, Props: map[string]any{"settled": true},
	})
	return err
}
