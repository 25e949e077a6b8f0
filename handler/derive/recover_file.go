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

// recoverFile does what is left to do for the last of files. Only the last file of a
// process shows which requests were in flight when the process died, because the first
// batch of each later file lists the requests in flight.
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

// fence seals the blob, so that its writer can append nothing more. After that it reads the
// blob's length and moves the checkpoint to the last batch. It returns the offset up to
// which the file can be read.
func (d *Worker) fence(ctx context.Context, c *claim) (int64, error) {
	f := c.current()
	err := d.o.Blobs.Seal(ctx, f.Name)
	if errors.Is(err, blob.ErrNotFound) {
		if f.Length > 0 {
			d.o.Logger.Error("a journal file that the manifest lists does not exist; its records are lost", "file", f.Name, "length", f.Length)
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
		d.o.Logger.Error("a journal file is shorter than the manifest says; records are lost",
			"file", f.Name, "length", length, "checkpoint", f.Length)
		return length, c.update(ctx, func(f *manifest.File) { f.State = manifest.Sealed })
	}
	head := f.Head
	for b, err := range format.Read(ctx, d.o.Blobs, f.Name, f.Length) {
		if _, broken := errors.AsType[*format.BreakError](err); broken {
			d.o.Logger.Error("the last batches of a journal file are damaged", "file", f.Name, "error", err)
			break
		}
		if err != nil {
			return 0, err
		}
		head = manifest.Head{Seq: b.Seq, Length: b.Offset + b.Length, Hash: b.Hash}
	}
	return head.Length, c.update(ctx, func(f *manifest.File) { f.State, f.Head = manifest.Sealed, head })
}

// createSealed creates and seals the blob of a file that has no blob yet. The file's writer
// may be about to create the blob, and must not append to it.
func (d *Worker) createSealed(ctx context.Context, name string) error {
	if err := d.o.Blobs.Create(ctx, name); err != nil && !errors.Is(err, blob.ErrExists) {
		return err
	}
	return d.o.Blobs.Seal(ctx, name)
}

// deriveFile hands a sealed file to every consumer. Lines before the file's cursor go to
// Replay, later lines to Take.
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
				_ = c.update(ctx, func(f *manifest.File) { f.Processed = least }) // if this fails, a later update also moves the cursor
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

// writeIncomplete writes a record of type "incomplete" for each request that was in flight
// when the process died, and waits until these records are durable.
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

// appendRecord queues one line in this process's journal. While the backlog is more than a
// quarter full it waits, because the records of requests are more urgent.
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
