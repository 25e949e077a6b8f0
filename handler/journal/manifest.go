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

// File is one file of the journal as its manifest entry has it.
type File struct {
	Name    string
	Process string // of the writer; a part of the name, like Number and Hour
	Number  int
	Hour    time.Time

	State   State
	Adopted bool // a recovery found the file without an entry
	Head
	Cursor

	rev table.Rev
}

// Head is the end of a file's chain. The one in the manifest is the checkpoint.
type Head struct {
	Seq    int64 // of the last batch; -1 before the first
	Length int64 // of the file, up to that batch's end
	Hash   string
}

// Cursor says how far a file is processed, and who processes it.
type Cursor struct {
	Processed int64     // everything before this offset is derived
	Owner     string    // the writer or a recovery
	Until     time.Time // when the owner must be assumed dead
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
	return File{Name: name, Process: base[:dash], Number: n, Hour: hour, Head: Head{Seq: -1}, State: Open}, true
}

// Rows are the rows of the files: in the partition of its day one a file. The partition
// "days" has one row for each day that has any, so that nobody needs to read them all.
type Manifest struct{ table table.Store }

// NewRows returns the rows in store, which should not retry what may have been applied.
func NewManifest(store table.Store) *Manifest { return &Manifest{store} }

// Lifetimes of a claim on a row.
const (
	WriterClaim   = 2 * time.Minute // a writer that touches its row no more
	RecoveryClaim = time.Minute     // a sweep that renews its claim no more
)

// ErrTaken says that a row changed under its owner: another has taken the file.
var ErrTaken = errors.New("journal: the file was taken by another")

const (
	dayLayout = "2006-01-02"
	daysKey   = "days"
)

// Now is the store's time, as well as it is known.
func (r *Manifest) Now() time.Time { return time.Now().Add(r.table.Offset()).UTC() }

func (f File) tableKey() table.Key {
	return table.Key{
		Partition: f.Hour.Format(dayLayout),
		Row:       f.Hour.Format("15-") + strings.TrimSuffix(baseName(f.Process, f.Number), extension),
	}
}

func (f File) entity() table.Entity {
	return table.Entity{Key: f.tableKey(), Rev: f.rev, Props: map[string]any{
		"seq": f.Seq, "length": f.Length, "hash": f.Hash, "shipped": f.Processed,
		"owner": f.Owner, "until": f.Until, "state": string(f.State), "adopted": f.Adopted,
	}}
}

func parseEntry(e table.Entity) (File, error) {
	hour, rest, _ := strings.Cut(e.Row, "-")
	f, ok := ParseName(strings.ReplaceAll(e.Partition, "-", "/") + "/" + hour + "/" + rest + extension)
	if !ok {
		return File{}, fmt.Errorf("journal: row %q of %q names no file", e.Row, e.Partition)
	}
	var state string
	f.Seq, _ = e.Props["seq"].(int64)
	f.Length, _ = e.Props["length"].(int64)
	f.Hash, _ = e.Props["hash"].(string)
	f.Processed, _ = e.Props["shipped"].(int64)
	f.Owner, _ = e.Props["owner"].(string)
	f.Until, _ = e.Props["until"].(time.Time)
	state, _ = e.Props["state"].(string)
	f.Adopted, _ = e.Props["adopted"].(bool)
	f.State, f.rev = State(state), e.Rev
	return f, nil
}

// Insert adds the row of f, and its day first; table.ErrExists when there is one.
func (r *Manifest) Insert(ctx context.Context, f File) (File, error) {
	day := table.Entity{Key: table.Key{Partition: daysKey, Row: f.tableKey().Partition}, Props: map[string]any{"settled": false}}
	if _, err := r.table.Insert(ctx, day); err != nil && !errors.Is(err, table.ErrExists) {
		return f, err
	}
	e, err := r.table.Insert(ctx, f.entity())
	f.rev = e.Rev
	return f, err
}

// Get reads the row of the file f names.
func (r *Manifest) Get(ctx context.Context, f File) (File, error) {
	e, err := r.table.Get(ctx, f.tableKey())
	if err != nil {
		return File{}, err
	}
	return parseEntry(e)
}

// Replace writes the row if it is as it was when f was read. An owner writes its row alone,
// so what it finds there under its name is a write of its own whose answer was lost, and is
// written over; ErrTaken says that the row is another's.
func (r *Manifest) Replace(ctx context.Context, f File) (File, error) {
	for {
		e, err := r.table.Replace(ctx, f.entity())
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
func (r *Manifest) Day(ctx context.Context, day time.Time) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		for e, err := range r.table.Scan(ctx, day.UTC().Format(dayLayout)) {
			var f File
			if err == nil {
				f, err = parseEntry(e)
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
func (r *Manifest) Days(ctx context.Context) (days []Day, err error) {
	for e, err := range r.table.Scan(ctx, daysKey) {
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
func (r *Manifest) Settle(ctx context.Context, d Day) error {
	_, err := r.table.Replace(ctx, table.Entity{
		Key: table.Key{Partition: daysKey, Row: d.Time.Format(dayLayout)}, Rev: d.rev, Props: map[string]any{"settled": true},
	})
	return err
}
