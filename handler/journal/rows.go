package journal

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path"
	"strconv"
	"strings"
	"time"

	"aoaigateway/handler/table"
)

// State says what may still become of a file.
type State string

// The states of a file.
const (
	Open   State = "open"   // its writer may append
	Sealed State = "sealed" // nothing is appended any more; not everything is derived
	Done   State = "done"   // all that is derived from it has been
)

// File is one file of the journal as its row has it.
type File struct {
	Name    string
	Process string // of the writer; a part of the name, as the next two
	Number  int
	Hour    time.Time

	Seq     int64  // of the last member the row vouches for; -1 before the first
	Length  int64  // up to that member's end
	Hash    string // of that member
	Shipped int64  // all before is derived
	Owner   string // who derives, until it must be thought dead: the writer, or a sweep
	Until   time.Time
	State   State
	Adopted bool // a sweep found the file without a row

	rev table.Rev
}

// ParseName returns what a file's name says; false for blobs that are no journal files.
func ParseName(name string) (File, bool) {
	base, ok := strings.CutSuffix(path.Base(name), extension)
	dash := strings.LastIndexByte(base, '-')
	hour, err := time.Parse("2006/01/02/15", path.Dir(name))
	if !ok || dash < 1 || err != nil {
		return File{}, false
	}
	n, err := strconv.Atoi(base[dash+1:])
	if err != nil || fileName(hour, base[:dash], n) != name {
		return File{}, false
	}
	return File{Name: name, Process: base[:dash], Number: n, Hour: hour, Seq: -1, State: Open}, true
}

// Rows are the rows of the files: in the partition of its day one a file. The partition
// "days" has one row for each day that has any, so that nobody needs to read them all.
type Rows struct{ store table.Store }

// NewRows returns the rows in store, which should not retry what may have been applied.
func NewRows(store table.Store) *Rows { return &Rows{store} }

// Lifetimes of a claim on a row.
const (
	WriterLives = 2 * time.Minute // a writer that touches its row no more
	SweepLives  = time.Minute     // a sweep that renews its claim no more
)

// ErrTaken says that a row changed under its owner: another has taken the file.
var ErrTaken = errors.New("journal: the file was taken by another")

const (
	dayLayout = "2006-01-02"
	daysKey   = "days"
)

// Now is the store's time, as well as it is known.
func (r *Rows) Now() time.Time { return time.Now().Add(r.store.Offset()).UTC() }

func (f File) key() table.Key {
	return table.Key{
		Partition: f.Hour.Format(dayLayout),
		Row:       f.Hour.Format("15-") + strings.TrimSuffix(baseName(f.Process, f.Number), extension),
	}
}

func (f File) entity() table.Entity {
	return table.Entity{Key: f.key(), Rev: f.rev, Props: map[string]any{
		"seq": f.Seq, "length": f.Length, "hash": f.Hash, "shipped": f.Shipped,
		"owner": f.Owner, "until": f.Until, "state": string(f.State), "adopted": f.Adopted,
	}}
}

func fileOf(e table.Entity) (File, error) {
	hour, rest, _ := strings.Cut(e.Row, "-")
	f, ok := ParseName(strings.ReplaceAll(e.Partition, "-", "/") + "/" + hour + "/" + rest + extension)
	if !ok {
		return File{}, fmt.Errorf("journal: row %q of %q names no file", e.Row, e.Partition)
	}
	var state string
	f.Seq, _ = e.Props["seq"].(int64)
	f.Length, _ = e.Props["length"].(int64)
	f.Hash, _ = e.Props["hash"].(string)
	f.Shipped, _ = e.Props["shipped"].(int64)
	f.Owner, _ = e.Props["owner"].(string)
	f.Until, _ = e.Props["until"].(time.Time)
	state, _ = e.Props["state"].(string)
	f.Adopted, _ = e.Props["adopted"].(bool)
	f.State, f.rev = State(state), e.Rev
	return f, nil
}

// Insert adds the row of f, and its day first; table.ErrExists when there is one.
func (r *Rows) Insert(ctx context.Context, f File) (File, error) {
	day := table.Entity{Key: table.Key{Partition: daysKey, Row: f.key().Partition}, Props: map[string]any{"settled": false}}
	if _, err := r.store.Insert(ctx, day); err != nil && !errors.Is(err, table.ErrExists) {
		return f, err
	}
	e, err := r.store.Insert(ctx, f.entity())
	f.rev = e.Rev
	return f, err
}

// Get reads the row of the file f names.
func (r *Rows) Get(ctx context.Context, f File) (File, error) {
	e, err := r.store.Get(ctx, f.key())
	if err != nil {
		return File{}, err
	}
	return fileOf(e)
}

// Replace writes the row if it is as it was when f was read. An owner writes its row alone,
// so what it finds there under its name is a write of its own whose answer was lost, and is
// written over; ErrTaken says that the row is another's.
func (r *Rows) Replace(ctx context.Context, f File) (File, error) {
	for {
		e, err := r.store.Replace(ctx, f.entity())
		if err == nil {
			f.rev = e.Rev
			return f, nil
		}
		if !errors.Is(err, table.ErrConflict) {
			return f, err
		}
		stored, err := r.Get(ctx, f)
		if err != nil {
			return f, err
		}
		if stored.Owner != f.Owner {
			return f, ErrTaken
		}
		f.rev = stored.rev
	}
}

// Day yields the rows of one day in the order of their hours.
func (r *Rows) Day(ctx context.Context, day time.Time) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		for e, err := range r.store.Scan(ctx, day.UTC().Format(dayLayout)) {
			var f File
			if err == nil {
				f, err = fileOf(e)
			}
			if !yield(f, err) || err != nil {
				return
			}
		}
	}
}

// Day is a day that has files.
type Day struct {
	Time    time.Time
	Settled bool // all its files are done and there will be no more
	rev     table.Rev
}

// Days returns the days that have files, in their order.
func (r *Rows) Days(ctx context.Context) (days []Day, err error) {
	for e, err := range r.store.Scan(ctx, daysKey) {
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

// Settle notes that a day needs no more sweeping.
func (r *Rows) Settle(ctx context.Context, d Day) error {
	_, err := r.store.Replace(ctx, table.Entity{
		Key: table.Key{Partition: daysKey, Row: d.Time.Format(dayLayout)}, Rev: d.rev, Props: map[string]any{"settled": true},
	})
	return err
}
