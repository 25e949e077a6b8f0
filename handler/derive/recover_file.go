package derive

import (
	"context"
	"errors"
	"sync"
	"time"

	"aoaigateway/handler/backoff"
	"aoaigateway/handler/blob"
	"aoaigateway/handler/derive/inflight"
	"aoaigateway/handler/journal"
	"aoaigateway/handler/journal/format"
	"aoaigateway/handler/journal/manifest"
)

// recoverFile does everything that is left to do for the last of files. Only the last file of a process knows which
// requests its death left incomplete, because the first batch of any later file lists the ones in flight.
func (d *Worker) recoverFile(ctx context.Context, readers []*reader, files []manifest.File, last bool, counts *summary) error {
	c, ctx, err := newClaim(ctx, d.o.Manifest, files[len(files)-1])
	if err != nil {
		return err
	}
	defer c.release()
	counts.recovered++
	end, err := d.fence(ctx, c)
	if err != nil {
		return err
	}
	if err := d.deriveFile(ctx, c, readers, end); err != nil {
		return err
	}
	if last {
		n, err := d.writeIncomplete(ctx, files, end)
		counts.incomplete += n
		if err != nil {
			return err
		}
	}
	return c.update(ctx, func(f *manifest.File) { f.State, f.Processed = manifest.Done, end })
}

// fence seals the blob, so that its writer can append nothing more, and reads its length only after that. Then it
// moves the checkpoint to the last batch. It returns the end of what can be read.
func (d *Worker) fence(ctx context.Context, c *claim) (int64, error) {
	f := c.current()
	err := d.o.Blobs.Seal(ctx, f.Name)
	if errors.Is(err, blob.ErrNotFound) {
		if f.Length > 0 {
			d.o.Logger.Error("a journal file is gone", "file", f.Name, "length", f.Length)
			return 0, nil
		}
		err = d.createSealed(ctx, f.Name)
	}
	if err != nil {
		return 0, err
	}
	length, _, err := d.o.Blobs.Length(ctx, f.Name)
	if err != nil {
		return 0, err
	}
	if length < f.Length {
		d.o.Logger.Error("a journal file is shorter than its checkpoint", "file", f.Name, "length", length, "checkpoint", f.Length)
		return length, c.update(ctx, func(f *manifest.File) { f.State = manifest.Sealed })
	}
	head := f.Head
	for b, err := range format.Read(ctx, d.o.Blobs, f.Name, f.Length) {
		if _, broken := errors.AsType[*format.BreakError](err); broken {
			d.o.Logger.Error("the end of a journal file cannot be read", "file", f.Name, "error", err)
			break
		}
		if err != nil {
			return 0, err
		}
		head = manifest.Head{Seq: b.Seq, Length: b.Offset + b.Length, Hash: b.Hash}
	}
	return head.Length, c.update(ctx, func(f *manifest.File) { f.State, f.Head = manifest.Sealed, head })
}

// createSealed creates a file that never had a batch. Its writer may be about to create it, and must not append to it.
func (d *Worker) createSealed(ctx context.Context, name string) error {
	if err := d.o.Blobs.Create(ctx, name); err != nil && !errors.Is(err, blob.ErrExists) {
		return err
	}
	return d.o.Blobs.Seal(ctx, name)
}

// deriveFile hands a sealed file to every consumer: what is before the cursor for replay, the rest for the first time.
func (d *Worker) deriveFile(ctx context.Context, c *claim, readers []*reader, end int64) error {
	f := c.current()
	p, moved := newProgress(len(readers)), time.Now()
	var mu sync.Mutex
	var all sync.WaitGroup
	errs := make([]error, len(readers))
	for i, r := range readers {
		r.at = position{}
		r.advanced = func(_ manifest.File, offset int64, closed bool) {
			mu.Lock()
			defer mu.Unlock()
			if least, _ := p.set(i, offset, closed); least > f.Processed && time.Since(moved) > time.Second {
				moved = time.Now()
				_ = c.update(ctx, func(f *manifest.File) { f.Processed = least }) // if it fails, a later update succeeds
			}
		}
		all.Go(func() {
			if errs[i] = r.read(ctx, f, end, f.Processed); errs[i] == nil {
				errs[i] = r.close(ctx, f)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// writeIncomplete records the requests in flight at the end of the last file that has batches, and waits until these
// records are durable.
func (d *Worker) writeIncomplete(ctx context.Context, files []manifest.File, end int64) (int, error) {
	f := files[len(files)-1]
	for i := len(files) - 2; end == 0 && i >= 0; i-- {
		f, end = files[i], files[i].Length
	}
	left, err := inflight.At(ctx, d.o.Blobs, f.Name, end)
	if err != nil {
		return 0, err
	}
	var waiting []*journal.Pending
	for n, id := range left.IDs() {
		begin, err := left.BeginLine(ctx, id)
		if err != nil {
			return n, err
		}
		line, err := inflight.Incomplete(id, begin)
		if err != nil {
			return n, err
		}
		p, err := d.appendRecord(ctx, line)
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

// appendRecord queues one line in this process's journal. The records of requests go first: it waits while the
// backlog is more than a quarter full.
func (d *Worker) appendRecord(ctx context.Context, line []byte) (*journal.Pending, error) {
	for {
		if used, limit := d.o.Journal.Backlog(); used < limit/4 {
			p, err := d.o.Journal.Append(line)
			if !errors.Is(err, journal.ErrFull) {
				return p, err
			}
		}
		if !backoff.Sleep(ctx, 100*time.Millisecond) {
			return nil, ctx.Err()
		}
	}
}
