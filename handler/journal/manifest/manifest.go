// Package manifest is the table of journal files. It has one entry for each file. The
// documentation of package journal describes the entries.
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

// Manifest is the table of journal files. The entries of a day's files are in one
// partition. The partition "days" has an entry for each day with files, so that no reader
// must search all partitions.
type Manifest struct{ table table.Store }

// New returns the manifest that is stored in store. The store must not repeat writes by
// itself.
func New(store table.Store) *Manifest { return &Manifest{table: store} }

// How long an owner owns a file after the last time it wrote the entry.
const (
	WriterClaim   = 2 * time.Minute
	RecoveryClaim = time.Minute
)

// ErrTaken says that another process owns the file now.
var ErrTaken = errors.New("journal: another process has taken the file")

const daysPartition = "days"

// Now returns the local time in UTC, corrected by the last known offset of the clock of the table.
func (m *Manifest) Now() time.Time { return time.Now().Add(m.table.Offset()).UTC() }

// Insert adds the entry of f, after the entry of its day. It returns table.ErrExists if the
// entry exists.
func (m *Manifest) Insert(ctx context.Context, f File) (File, error) {
	day := table.Entity{Key: table.Key{Partition: daysPartition, Row: f.key().Partition}, Props: map[string]any{"settled": false}}
	if _, err := m.table.Insert(ctx, day); err != nil && !errors.Is(err, table.ErrExists) {
		return f, err
	}
	e, err := m.table.Insert(ctx, f.entity())
	f.rev = e.Rev
	return f, err
}

// Get reads the manifest entry of f.
func (m *Manifest) Get(ctx context.Context, f File) (File, error) {
	e, err := m.table.Get(ctx, f.key())
	if err != nil {
		return File{}, err
	}
	return parse(e)
}

// Replace writes the entry of f if the entry has not changed since f was read. It returns
// ErrTaken if another owner has changed it. An owner has only one writer. So if the same
// owner has changed the entry, that was an earlier write whose answer was lost, and Replace
// overwrites it.
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

// Claim writes the entry of f when it is not known whether the entry exists. It inserts the
// entry, or takes over an entry that has no owner. It returns ErrTaken if another process
// owns the file.
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

// Day yields the files of one day, sorted by hour. For an entry in a newer format it yields
// a *gateway.VersionError and continues. Any other error ends the iteration.
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
	Settled bool // all files of the day are done, and no more will be opened
	rev     table.Rev
}

// Days returns the days that have files, sorted.
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

// Settle marks a day as needing no more recovery.
func (m *Manifest) Settle(ctx context.Context, d Day) error {
	_, err := m.table.Replace(ctx, table.Entity{
		Key: table.Key{Partition: daysPartition, Row: d.Time.Format(dayLayout)}, Rev: d.rev, Props: map[string]any{"settled": true},
	})
	return err
}
