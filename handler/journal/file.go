package journal

import (
	"context"
	"errors"
	"time"

	"aoaigateway/handler/blob"
	"aoaigateway/handler/journal/format"
	"aoaigateway/handler/journal/manifest"
)

// file is the journal file that is open.
type file struct {
	name    string
	number  int
	hour    time.Time
	length  int64
	appends int
}

// ensureFile makes sure that a file is open that can take the next batch. It returns false
// only if ctx ended first.
func (c *committer) ensureFile(ctx context.Context) bool {
	hour := time.Now().UTC().Truncate(time.Hour)
	if c.file != nil && c.file.hour.Equal(hour) && c.file.appends < c.MaxAppends {
		return true
	}
	c.retireFile()
	retry := c.retry()
	for {
		name := format.Name{Hour: hour, Process: c.process, Number: c.files}
		next := &file{number: c.files, hour: hour, name: name.String()}
		err := c.insertAndCreate(ctx, next)
		switch {
		case err == nil:
			retry.succeeded("create")
			c.file = next
			c.files++
			return true
		case errors.Is(err, blob.ErrExists), errors.Is(err, manifest.ErrTaken):
			c.retired = append(c.retired, next.name)
			c.files++
			continue
		}
		retry.failed("create", err)
		if !retry.wait(ctx) {
			return false
		}
	}
}

// insertAndCreate inserts the file's manifest entry and then creates its blob. It tries the
// insert only once. If the insert fails, a later call only creates the blob, and the entry
// follows later. So a table that cannot be reached delays a new file by at most 2 s.
func (c *committer) insertAndCreate(ctx context.Context, f *file) error {
	if c.inserted <= f.number {
		c.inserted = f.number + 1
		if err := c.manifest.Insert(ctx, f.name); err != nil {
			return err
		}
	}
	return c.create(ctx, f.name)
}

// create creates the blob. If the blob exists and is empty, an earlier try created it and
// its answer was lost.
func (c *committer) create(ctx context.Context, name string) error {
	err := c.try(ctx, func(ctx context.Context) error { return c.Blobs.Create(ctx, name) })
	if !errors.Is(err, blob.ErrExists) {
		return err
	}
	length, sealed, lengthErr := c.length(ctx, name)
	switch {
	case lengthErr != nil:
		return lengthErr
	case length == 0 && !sealed:
		return nil
	}
	return err
}

// retireFile stops using the open file.
func (c *committer) retireFile() {
	if c.file != nil {
		c.retired = append(c.retired, c.file.name)
		c.file = nil
	}
}

// closeFile stops using the open file and seals it, unless requests are in flight. If some
// are, the next file must list them first.
func (c *committer) closeFile() {
	if c.inFlight.len() > 0 {
		return
	}
	c.retireFile()
	c.sealRetired()
}
