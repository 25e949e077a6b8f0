package derive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal/manifest"
	"aoaigateway/handler/table"
)

// summary has the numbers of files and requests that one recovery handled.
type summary struct {
	recovered, adopted, incomplete int
}

// Recover finishes the work of processes that died. It seals each of their files, hands the
// rest of it to the consumers, writes records of type "incomplete" to this process's
// journal for requests that were in flight, and marks the file as done. The timer calls it;
// a run continues what earlier runs did not finish.
func (d *Worker) Recover(ctx context.Context) (string, error) {
	days, err := d.days(ctx)
	if err != nil {
		return "", err
	}
	var counts summary
	var errs []error
	processes := map[string][]manifest.File{}
	for i := range days {
		files, err := d.filesOf(ctx, &days[i], &counts)
		if err != nil {
			return "", err
		}
		for _, f := range files {
			processes[f.Process] = append(processes[f.Process], f)
		}
	}
	for _, process := range slices.Sorted(maps.Keys(processes)) {
		if process == d.o.Journal.Process() {
			continue
		}
		if err := d.recoverProcess(ctx, processes[process], &counts); err != nil && !errors.Is(err, manifest.ErrTaken) {
			errs = append(errs, err)
		}
	}
	errs = append(errs, d.settle(ctx, days))
	report := fmt.Sprintf("files recovered: %d, files added to the manifest: %d, incomplete requests recorded: %d",
		counts.recovered, counts.adopted, counts.incomplete)
	return report, errors.Join(errs...)
}

// openDay is a day that may have files that are not done.
type openDay struct {
	manifest.Day
	hasEntry bool // the manifest has an entry for the day
	pending  int  // files that are not done
}

// days returns the days that are not settled. It always includes today and yesterday, whose
// files may not be in the manifest yet.
func (d *Worker) days(ctx context.Context) ([]openDay, error) {
	all, err := d.o.Manifest.Days(ctx)
	if err != nil {
		return nil, err
	}
	today := d.o.Manifest.Now().Truncate(24 * time.Hour)
	recent := map[time.Time]bool{today: true, today.AddDate(0, 0, -1): true}
	var days []openDay
	for _, day := range all {
		if !day.Settled {
			days = append(days, openDay{Day: day, hasEntry: true})
			delete(recent, day.Time)
		}
	}
	for day := range recent {
		days = append(days, openDay{Day: manifest.Day{Time: day}})
	}
	slices.SortFunc(days, func(a, b openDay) int { return a.Time.Compare(b.Time) })
	return days, nil
}

// filesOf returns a day's manifest entries. It lists the blobs before it reads the entries,
// because a writer inserts the entry before it creates the blob. So a blob without an entry
// belongs to a writer that could not reach the table, and filesOf inserts the entry. If
// this writer is alive, it claims the entry later.
func (d *Worker) filesOf(ctx context.Context, day *openDay, counts *summary) ([]manifest.File, error) {
	blobs, err := d.o.Blobs.List(ctx, day.Time.Format("2006/01/02/"))
	if err != nil {
		return nil, err
	}
	var files []manifest.File
	known := map[string]bool{}
	for f, err := range d.o.Manifest.Day(ctx, day.Time) {
		if _, newer := errors.AsType[*gateway.VersionError](err); newer {
			d.o.Logger.Error("a journal file's manifest entry has a newer format and is skipped", "file", f.Name, "error", err)
			known[f.Name] = true
			day.pending++
			continue
		}
		if err != nil {
			return nil, err
		}
		known[f.Name] = true
		files = append(files, f)
		if f.State != manifest.Done {
			day.pending++
		}
	}
	for _, b := range blobs {
		f, ok := manifest.ParseFile(b.Name)
		if !ok || known[b.Name] {
			continue
		}
		day.pending++
		f.Adopted, f.Until = true, d.o.Manifest.Now().Add(manifest.WriterClaim)
		if _, err := d.o.Manifest.Insert(ctx, f); err != nil && !errors.Is(err, table.ErrExists) {
			return nil, err
		}
		d.o.Logger.Warn("a journal file without a manifest entry was added to the manifest", "file", f.Name)
		counts.adopted++
	}
	return files, nil
}

// settle marks the days that need no recovery any more. This is safe because writers create
// files only in the current hour.
func (d *Worker) settle(ctx context.Context, days []openDay) error {
	var errs []error
	for _, day := range days {
		old := day.Time.AddDate(0, 0, 2).Before(d.o.Manifest.Now())
		if !old || !day.hasEntry || day.pending > 0 {
			continue
		}
		if err := d.o.Manifest.Settle(ctx, day.Day); err != nil && !errors.Is(err, table.ErrConflict) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// recoverProcess recovers the files of one dead process, in their order.
func (d *Worker) recoverProcess(ctx context.Context, files []manifest.File, counts *summary) error {
	slices.SortFunc(files, func(a, b manifest.File) int { return cmp.Compare(a.Number, b.Number) })
	now := d.o.Manifest.Now()
	for _, f := range files {
		if f.State != manifest.Done && f.Owner != f.Process && f.Until.After(now) {
			return nil // another recovery has claimed the file, or its writer may still claim the entry that was added
		}
	}
	var readers []*reader
	for _, c := range d.o.Consumers {
		readers = append(readers, d.reader(c))
	}
	for i, f := range files {
		if f.State == manifest.Done || f.Until.After(now) {
			continue
		}
		if err := d.recoverFile(ctx, readers, files[:i+1], i == len(files)-1, counts); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return nil
}
