package journal

import (
	"cmp"
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"aoaigateway/handler/blob"
)

// Report is what [Verify] found.
type Report struct {
	Files   int
	Batches int
	Records int
	Bodies  int   // blobs named by records, read and compared
	Bytes   int64 // of the files, compressed

	// Unanchored members are right as far as they go, but no row vouches for them yet: those
	// after the head of a file being written, and all of a file found without a row.
	BeyondCheckpoint int
	Breaks           []*BreakError // in the order of files and members
}

// Verify reads the files of the hours from (zero: the first) until before to (zero: all),
// each row before its blob, and compares them with their rows and their chains, and the
// bodies they name with size and hash. What is not as it was written is in the report; the
// error is of the stores alone.
func Verify(ctx context.Context, rows *Manifest, blobs blob.Store, from, to time.Time) (Report, error) {
	v := &verifier{manifest: rows, blobs: blobs, from: from.UTC().Truncate(time.Hour), to: to.UTC(), previous: map[string]*fileCheck{}}
	day, last, err := v.days(ctx)
	for ; err == nil && !day.After(last); day = day.AddDate(0, 0, 1) {
		err = v.day(ctx, day)
	}
	slices.SortStableFunc(v.report.Breaks, func(a, b *BreakError) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Index, b.Index))
	})
	return v.report, err
}

type verifier struct {
	manifest *Manifest
	blobs    blob.Store
	from, to time.Time
	report   Report
	previous map[string]*fileCheck // the file before, of each process
}

// days returns the first and the last day that blobs or rows tell of, within the range.
func (v *verifier) days(ctx context.Context) (first, last time.Time, err error) {
	all, err := v.manifest.Days(ctx)
	if err != nil {
		return first, last, err
	}
	first, last = v.from, v.to
	if v.from.IsZero() || v.to.IsZero() {
		blobs, err := v.blobs.List(ctx, "2") // the years; bodies are elsewhere
		if err != nil {
			return first, last, err
		}
		for _, b := range blobs {
			if f, ok := ParseName(b.Name); ok {
				all = append(all, Day{Time: f.Hour})
			}
		}
	}
	slices.SortFunc(all, func(a, b Day) int { return a.Time.Compare(b.Time) })
	if len(all) == 0 {
		return time.Unix(1, 0), time.Unix(0, 0), nil
	}
	if v.from.IsZero() {
		first = all[0].Time
	}
	if v.to.IsZero() {
		last = all[len(all)-1].Time
	}
	return first.UTC().Truncate(24 * time.Hour), last, nil
}

// day checks the files of one day side by side and then links them in order. A blob has
// its row before it, so blobs are listed first.
func (v *verifier) day(ctx context.Context, day time.Time) error {
	files, err := v.files(ctx, day)
	if err != nil {
		return err
	}
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(files)) {
		workers.Go(func() {
			s := newScanner(nil, 0, blob.MaxAppend)
			for n := next.Add(1) - 1; n < int64(len(files)); n = next.Add(1) - 1 {
				files[n].check(ctx, v.blobs, s)
			}
		})
	}
	workers.Wait()
	for _, c := range files {
		if c.err != nil {
			return c.err
		}
		v.link(c)
		v.report.add(c)
	}
	return nil
}

// files are the day's rows and those blobs that have none, in the order of their names.
func (v *verifier) files(ctx context.Context, day time.Time) ([]*fileCheck, error) {
	blobs, err := v.blobs.List(ctx, day.Format("2006/01/02/"))
	if err != nil {
		return nil, err
	}
	found := map[string]*fileCheck{}
	for f, err := range v.manifest.Day(ctx, day) {
		if err != nil {
			return nil, err
		}
		found[f.Name] = &fileCheck{File: f, hasEntry: true}
	}
	for _, b := range blobs {
		if f, ok := ParseName(b.Name); ok && found[b.Name] == nil {
			found[b.Name] = &fileCheck{File: f}
		}
	}
	var files []*fileCheck
	for _, c := range found {
		if !c.Hour.Before(v.from) && (v.to.IsZero() || c.Hour.Before(v.to)) {
			files = append(files, c)
		}
	}
	slices.SortFunc(files, func(a, b *fileCheck) int { return cmp.Compare(a.Name, b.Name) })
	return files, nil
}

// link checks a file against the one before of its process.
func (v *verifier) link(c *fileCheck) {
	before := v.previous[c.Process]
	v.previous[c.Process] = c
	switch {
	case before == nil && c.Number == 0:
		if c.first != nil {
			c.addBreak(c.first.follows(nil))
		}
		return
	case before == nil:
		if v.from.IsZero() {
			c.fail("is file %d of its process, and file 0 is missing", c.Number)
		}
		c.whole = c.whole && c.batches > 0 // else what it would follow is not known
		return
	case c.Number != before.Number+1:
		c.fail("is file %d of its process after file %d: what was between is missing", c.Number, before.Number)
		return
	}
	if c.first != nil && before.whole {
		if b := c.first.follows(before.last); b != nil && b.Name == before.Name {
			v.report.Breaks = append(v.report.Breaks, b)
		} else {
			c.addBreak(b)
		}
	}
	if c.batches == 0 && c.whole { // the next follows what this would have
		c.last, c.whole = before.last, before.whole
	}
}

func (r *Report) add(c *fileCheck) {
	if c.hasBlob {
		r.Files++
	}
	r.Batches += c.batches
	r.Records += c.records
	r.Bodies += c.bodies
	r.Bytes += c.bytes
	r.BeyondCheckpoint += c.beyondCheckpoint
	r.Breaks = append(r.Breaks, c.breaks...)
}

// fileItself is the index of a break that is no member's.
const fileItself = -1
