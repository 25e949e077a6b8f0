// Package verify checks that a journal is unaltered: each file against its hash chain and the
// manifest's checkpoint, and each body against the size and the hash in its record.
package verify

import (
	"cmp"
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"aoaigateway/handler/blob"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal/format"
	"aoaigateway/handler/journal/manifest"
)

// Report is the result of Run.
type Report struct {
	Files   int
	Batches int
	Records int
	Bodies  int   // number of blobs of bodies that were compared
	Bytes   int64 // compressed bytes of the files

	// BeyondCheckpoint is the number of batches that continue the chain but that no
	// checkpoint covers yet. These are the last batches of a file that is being written,
	// and all batches of a file whose manifest entry a recovery added.
	BeyondCheckpoint int
	// Breaks are the places that differ from what was written, sorted by file and batch.
	Breaks []*format.BreakError
	// Newer describes the parts that a newer program wrote. They could not be verified;
	// this does not mean that they are damaged.
	Newer []string
}

// Run checks the files of the hours from from (zero: the first hour) until before to (zero:
// all hours). It reads each manifest entry before the entry's blob. Differences from what
// was written are in the report; an error is an error of the stores.
func Run(ctx context.Context, m *manifest.Manifest, blobs blob.Store, from, to time.Time) (Report, error) {
	v := &verifier{
		manifest: m, blobs: blobs, from: from.UTC().Truncate(time.Hour), to: to.UTC(),
		previous: map[string]*fileCheck{},
	}
	day, last, err := v.days(ctx)
	for ; err == nil && !day.After(last); day = day.AddDate(0, 0, 1) {
		err = v.day(ctx, day)
	}
	slices.SortStableFunc(v.report.Breaks, func(a, b *format.BreakError) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Index, b.Index))
	})
	return v.report, err
}

type verifier struct {
	manifest *manifest.Manifest
	blobs    blob.Store
	from, to time.Time
	report   Report
	previous map[string]*fileCheck // by process: its previous file
}

// days returns the first and the last day in the range that have blobs or manifest entries.
func (v *verifier) days(ctx context.Context) (first, last time.Time, err error) {
	all, err := v.manifest.Days(ctx)
	if err != nil {
		return first, last, err
	}
	first, last = v.from, v.to
	if v.from.IsZero() || v.to.IsZero() {
		blobs, err := v.blobs.List(ctx, "2") // years begin with this digit; the names of bodies do not
		if err != nil {
			return first, last, err
		}
		for _, b := range blobs {
			if n, ok := format.ParseName(b.Name); ok {
				all = append(all, manifest.Day{Time: n.Hour})
			}
		}
	}
	slices.SortFunc(all, func(a, b manifest.Day) int { return a.Time.Compare(b.Time) })
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

// day checks the files of one day in parallel. Then it checks, in order, how each file
// continues the previous one.
func (v *verifier) day(ctx context.Context, day time.Time) error {
	files, err := v.files(ctx, day)
	if err != nil {
		return err
	}
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(files)) {
		workers.Go(func() {
			s := format.NewScanner(nil, 0, blob.MaxAppend)
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

// files returns the files of a day, sorted by name. It includes blobs without a manifest
// entry. It lists the blobs before it reads the entries, because a writer inserts the entry
// before it creates the blob.
func (v *verifier) files(ctx context.Context, day time.Time) ([]*fileCheck, error) {
	blobs, err := v.blobs.List(ctx, day.Format("2006/01/02/"))
	if err != nil {
		return nil, err
	}
	found := map[string]*fileCheck{}
	for f, err := range v.manifest.Day(ctx, day) {
		c := &fileCheck{File: f, hasEntry: true}
		if newer, ok := errors.AsType[*gateway.VersionError](err); ok {
			c.addNewer(newer)
		} else if err != nil {
			return nil, err
		}
		found[f.Name] = c
	}
	for _, b := range blobs {
		if f, ok := manifest.ParseFile(b.Name); ok && found[b.Name] == nil {
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

// link checks how a file continues the previous file of its process.
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
			c.fail("is file %d of its process, but file 0 is missing", c.Number)
		}
		c.whole = c.whole && c.batches > 0 // without batches it is not known which batch the next file must continue
		return
	case c.Number != before.Number+1:
		c.fail("is file %d of its process and follows file %d: the files between them are missing", c.Number, before.Number)
		return
	}
	if c.first != nil && before.whole {
		if b := c.first.follows(before.last); b != nil && b.Name == before.Name {
			v.report.Breaks = append(v.report.Breaks, b)
		} else {
			c.addBreak(b)
		}
	}
	if c.batches == 0 && c.whole { // the next file continues the batch that this empty file would have continued
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
	r.Newer = append(r.Newer, c.newer...)
}
