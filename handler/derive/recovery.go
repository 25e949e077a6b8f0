package derive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"aoaigateway/handler/blob"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal"
	"aoaigateway/handler/table"
)

// found counts what a sweep of the journal did.
type found struct {
	taken, adopted, incomplete int
}

// Sweep takes over the files of dead processes: it fences each, derives what is left of it,
// writes the incomplete records of the process into this process's journal, and closes it.
// It is a step of the timer's function. What it does not get done it leaves to the next.
func (d *Deriver) Sweep(ctx context.Context) (string, error) {
	days, err := d.days(ctx)
	if err != nil {
		return "", err
	}
	var n found
	var errs []error
	processes := map[string][]journal.File{}
	for i := range days {
		files, err := d.filesOf(ctx, &days[i], &n)
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
		if err := d.takeOver(ctx, processes[process], &n); err != nil && !errors.Is(err, journal.ErrTaken) {
			errs = append(errs, err)
		}
	}
	errs = append(errs, d.settle(ctx, days))
	return fmt.Sprintf("%d files taken over, %d adopted, %d requests incomplete", n.taken, n.adopted, n.incomplete), errors.Join(errs...)
}

// sweptDay is a day whose files may not all be done.
type sweptDay struct {
	journal.Day
	row     bool // it has one
	pending int
}

// days are those that are not settled, and the last two, whose rows may not have got in.
func (d *Deriver) days(ctx context.Context) ([]sweptDay, error) {
	all, err := d.o.Rows.Days(ctx)
	if err != nil {
		return nil, err
	}
	today := d.o.Rows.Now().Truncate(24 * time.Hour)
	recent := map[time.Time]bool{today: true, today.AddDate(0, 0, -1): true}
	var days []sweptDay
	for _, day := range all {
		if !day.Settled {
			days = append(days, sweptDay{Day: day, row: true})
			delete(recent, day.Time)
		}
	}
	for day := range recent {
		days = append(days, sweptDay{Day: journal.Day{Time: day}})
	}
	slices.SortFunc(days, func(a, b sweptDay) int { return a.Time.Compare(b.Time) })
	return days, nil
}

// filesOf reads a day's rows. Blobs are listed first, since a row stands before its blob: a
// blob without one is of a writer whose store of rows was away, and gets one. If that
// writer lives, it claims it.
func (d *Deriver) filesOf(ctx context.Context, day *sweptDay, n *found) ([]journal.File, error) {
	blobs, err := d.o.Blobs.List(ctx, day.Time.Format("2006/01/02/"))
	if err != nil {
		return nil, err
	}
	var files []journal.File
	known := map[string]bool{}
	for f, err := range d.o.Rows.Day(ctx, day.Time) {
		if err != nil {
			return nil, err
		}
		known[f.Name] = true
		files = append(files, f)
		if f.State != journal.Done {
			day.pending++
		}
	}
	for _, b := range blobs {
		f, ok := journal.ParseName(b.Name)
		if !ok || known[b.Name] {
			continue
		}
		day.pending++
		f.Adopted, f.Until = true, d.o.Rows.Now().Add(journal.WriterLives)
		if _, err := d.o.Rows.Insert(ctx, f); err != nil && !errors.Is(err, table.ErrExists) {
			return nil, err
		}
		d.o.Logger.Warn("journal file had no row", "file", f.Name)
		n.adopted++
	}
	return files, nil
}

// settle notes the days of which no sweep needs to know any more. Writers open files in
// the present hour only.
func (d *Deriver) settle(ctx context.Context, days []sweptDay) error {
	var errs []error
	for _, day := range days {
		old := day.Time.AddDate(0, 0, 2).Before(d.o.Rows.Now())
		if !old || !day.row || day.pending > 0 {
			continue
		}
		if err := d.o.Rows.Settle(ctx, day.Day); err != nil && !errors.Is(err, table.ErrConflict) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// takeOver closes the dead files of one process, in their order.
func (d *Deriver) takeOver(ctx context.Context, files []journal.File, n *found) error {
	slices.SortFunc(files, func(a, b journal.File) int { return cmp.Compare(a.Number, b.Number) })
	now := d.o.Rows.Now()
	for _, f := range files {
		if f.State != journal.Done && f.Owner != f.Process && f.Until.After(now) {
			return nil // another sweep is at work on this process, or it may yet claim its file
		}
	}
	readers := d.readersOfDead()
	for i, f := range files {
		if f.State == journal.Done || f.Until.After(now) {
			continue
		}
		if err := d.finishDead(ctx, readers, files[:i+1], i == len(files)-1, n); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return nil
}

func (d *Deriver) readersOfDead() (readers []*reader) {
	for _, c := range d.o.Consumers {
		readers = append(readers, d.reader(c))
	}
	return readers
}

// finishDead does all that is left to do for the last of files. Only the last file of a
// process tells what its death left open: the first member of any other lists the rest.
func (d *Deriver) finishDead(ctx context.Context, readers []*reader, files []journal.File, last bool, n *found) error {
	c, ctx, err := take(ctx, d.o.Rows, files[len(files)-1])
	if err != nil {
		return err
	}
	defer c.release()
	n.taken++
	end, err := d.fence(ctx, c)
	if err != nil {
		return err
	}
	if err := d.deriveDead(ctx, c, readers, end); err != nil {
		return err
	}
	if last {
		count, err := d.writeIncomplete(ctx, files, end)
		n.incomplete += count
		if err != nil {
			return err
		}
	}
	return c.update(ctx, func(f *journal.File) { f.State, f.Shipped = journal.Done, end })
}

// fence seals the blob, so that whatever its writer does from then on goes elsewhere, and
// only then reads how long it is; the row is made to vouch for all of it. It returns the
// end of what can be read.
func (d *Deriver) fence(ctx context.Context, c *claim) (int64, error) {
	f := c.now()
	err := d.o.Blobs.Seal(ctx, f.Name)
	if errors.Is(err, blob.ErrNotFound) {
		if f.Length > 0 {
			d.o.Logger.Error("journal file is gone", "file", f.Name, "length", f.Length)
			return 0, nil
		}
		// Its writer may be about to create it: whoever does, it is sealed.
		if err = d.o.Blobs.Create(ctx, f.Name); err == nil || errors.Is(err, blob.ErrExists) {
			err = d.o.Blobs.Seal(ctx, f.Name)
		}
	}
	if err != nil {
		return 0, err
	}
	length, _, err := d.o.Blobs.Length(ctx, f.Name)
	if err != nil {
		return 0, err
	}
	if length < f.Length {
		d.o.Logger.Error("journal file is shorter than its row says", "file", f.Name, "length", length, "row", f.Length)
		return length, c.update(ctx, func(f *journal.File) { f.State = journal.Sealed })
	}
	head := f
	for m, err := range journal.ReadFrom(ctx, d.o.Blobs, f.Name, f.Length) {
		if _, broken := errors.AsType[*journal.BreakError](err); broken {
			d.o.Logger.Error("journal file has an end that cannot be read", "file", f.Name, "error", err)
			break
		}
		if err != nil {
			return 0, err
		}
		head.Seq, head.Hash, head.Length = m.Seq, m.Hash, m.Offset+m.Length
	}
	return head.Length, c.update(ctx, func(f *journal.File) {
		f.State, f.Seq, f.Hash, f.Length = journal.Sealed, head.Seq, head.Hash, head.Length
	})
}

// deriveDead hands a sealed file to every consumer: what is before the cursor again, for
// what is made of files as a whole, the rest for the first time.
func (d *Deriver) deriveDead(ctx context.Context, c *claim, readers []*reader, end int64) error {
	f := c.now()
	p, moved := newProgress(len(readers)), time.Now()
	var mu sync.Mutex
	var all sync.WaitGroup
	errs := make([]error, len(readers))
	for i, r := range readers {
		r.at = position{}
		r.advanced = func(_ journal.File, offset int64, closed bool) {
			mu.Lock()
			defer mu.Unlock()
			if least, _ := p.set(i, offset, closed); least > f.Shipped && time.Since(moved) > time.Second {
				moved = time.Now()
				_ = c.update(ctx, func(f *journal.File) { f.Shipped = least }) // or the next time
			}
		}
		all.Go(func() {
			if errs[i] = r.take(ctx, f, end, f.Shipped); errs[i] == nil {
				errs[i] = r.close(ctx, f)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// writeIncomplete records what was open at the end of the last file that has members, and
// waits until that is durable.
func (d *Deriver) writeIncomplete(ctx context.Context, files []journal.File, end int64) (int, error) {
	f := files[len(files)-1]
	for i := len(files) - 2; end == 0 && i >= 0; i-- {
		f, end = files[i], files[i].Length
	}
	open, err := d.openAt(ctx, f.Name, end)
	if err != nil {
		return 0, err
	}
	var waiting []*journal.Pending
	for n, id := range slices.Sorted(maps.Keys(open.open)) {
		begin, err := open.beginLine(ctx, id)
		if err != nil {
			return n, err
		}
		p, err := d.record(ctx, incomplete(id, begin))
		if err != nil {
			return n, err
		}
		waiting = append(waiting, p)
	}
	for n, p := range waiting {
		if err := p.Wait(ctx); err != nil {
			return n, err
		}
	}
	return len(waiting), nil
}

// openAt reads a file for what is begun and not ended at its end.
func (d *Deriver) openAt(ctx context.Context, name string, end int64) (*begins, error) {
	b := newBegins(d.o.Blobs)
	if end == 0 {
		return b, nil
	}
	for m, err := range journal.ReadFrom(ctx, d.o.Blobs, name, 0) {
		if err != nil {
			return b, orGone(err)
		}
		if m.Offset >= end {
			break
		}
		b.listed(m)
		for _, raw := range m.Records {
			switch t, id := kind(raw); t {
			case gateway.Begin:
				b.begun(id, place{name, m.Offset}, raw)
			case gateway.End:
				b.left(id)
			case gateway.Amend, gateway.Incomplete:
			}
		}
	}
	return b, nil
}

// record queues one line in this process's journal, behind what requests have to write: it
// waits while the backlog is more than a quarter full.
func (d *Deriver) record(ctx context.Context, line []byte) (*journal.Pending, error) {
	for {
		if used, limit := d.o.Journal.Backlog(); used < limit/4 {
			p, err := d.o.Journal.Append(line)
			if !errors.Is(err, journal.ErrFull) {
				return p, err
			}
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
