package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"time"

	"aoaigateway/handler/blob"
)

// committer turns groups into members of files. It belongs to the writer's one goroutine,
// so one append is in flight at a time.
type committer struct {
	Options
	process  string
	chain    chain
	file     *file    // nil before the first member and after a file that takes no more
	files    int      // numbers used
	inserted int      // numbers that have their row, or have been tried
	retired  []string // files that take no more, until the next one has a member
	manifest *manifestWriter
	inFlight inFlight
	packer   packer
}

// chain is the head of a process's members.
type chain struct {
	seq  int64  // of the next member
	prev string // hash of the last durable one
}

// file is the open blob.
type file struct {
	name    string
	number  int
	hour    time.Time
	length  int64
	appends int
}

// fate is what became of a member whose append failed.
type appendResult int

const (
	resultUnknown appendResult = iota // the blob could not be read
	applied
	notApplied // as long as before: the same bytes may be sent again
	fileClosed // can never be applied to this file
)

// commit returns true once every line of group is durable, and false only when ctx ended
// first. It tries for as long as the process lives.
func (c *committer) commit(ctx context.Context, group []*Pending) bool {
	for {
		if !c.ensureFile(ctx) {
			return false
		}
		f := applied
		if c.file.appends == 0 && c.inFlight.len() > 0 {
			f = c.append(ctx, c.inFlight.list(c.Logger), nil)
		}
		if f == applied {
			f = c.append(ctx, nil, group)
		}
		switch f {
		case applied:
			c.inFlight.update(group, c.file.name)
			return true
		case fileClosed:
			c.retireFile()
		case resultUnknown, notApplied: // ctx ended
			return false
		}
	}
}

// append makes one member durable in the open file, or tells why it is not.
func (c *committer) append(ctx context.Context, open map[string][]string, group []*Pending) appendResult {
	h := header{Type: batchType, Process: c.process, File: c.file.number, Seq: c.chain.seq, Prev: c.chain.prev, InFlight: open}
	m := c.packer.pack(h, group)
	f := c.appendUntilKnown(ctx, m)
	if f == applied {
		c.advance(m)
	}
	return f
}

// place appends member, whose bytes stay the same, until its fate is known.
func (c *committer) appendUntilKnown(ctx context.Context, member packedBatch) appendResult {
	retry := c.backoff()
	for {
		err := c.try(ctx, func(ctx context.Context) error {
			return c.Blobs.Append(ctx, c.file.name, c.file.length, member.data)
		})
		if err == nil {
			retry.recovered("append")
			return applied
		}
		retry.note("append", err)
		f := c.resolve(ctx, member, retry)
		if f == notApplied && errors.Is(err, blob.ErrSealed) {
			f = fileClosed
		}
		if f != notApplied || !retry.wait(ctx) {
			return f
		}
	}
}

// resolve reads the file until it tells what became of member.
func (c *committer) resolve(ctx context.Context, member packedBatch, retry *backoff) appendResult {
	for {
		f, err := c.inspect(ctx, member)
		if err == nil {
			return f
		}
		retry.note("read back", err)
		if !retry.wait(ctx) {
			return resultUnknown
		}
	}
}

// look compares the file with what it was and what it should be.
func (c *committer) inspect(ctx context.Context, m packedBatch) (appendResult, error) {
	var length int64
	var sealed bool
	err := c.try(ctx, func(ctx context.Context) (err error) {
		length, sealed, err = c.Blobs.Length(ctx, c.file.name)
		return err
	})
	switch {
	case errors.Is(err, blob.ErrNotFound):
		c.Logger.Error("journal file is gone", "file", c.file.name, "length", c.file.length)
		return fileClosed, nil
	case err != nil:
		return resultUnknown, err
	case length == c.file.length && !sealed:
		return notApplied, nil
	case length < c.file.length+int64(len(m.data)):
		c.Logger.Warn("journal file was closed by another", "file", c.file.name, "length", length, "sealed", sealed)
		return fileClosed, nil
	}
	return c.compare(ctx, m)
}

// compare tells whether the file holds member at the place it was sent to.
func (c *committer) compare(ctx context.Context, m packedBatch) (appendResult, error) {
	found := make([]byte, len(m.data))
	err := c.try(ctx, func(ctx context.Context) error {
		r, err := c.Blobs.Open(ctx, c.file.name, c.file.length)
		if err != nil {
			return err
		}
		defer func() { _ = r.Close() }()
		_, err = io.ReadFull(r, found)
		return err
	})
	switch {
	case err != nil:
		return resultUnknown, err
	case bytes.Equal(found, m.data):
		return applied, nil
	}
	c.Logger.Error("journal file was written by another", "file", c.file.name, "position", c.file.length)
	return fileClosed, nil
}

// advance moves the head past a durable member. The files before are given up to whoever
// derives from them only now: this file's first member says what is still open.
func (c *committer) advance(m packedBatch) {
	c.file.length += int64(len(m.data))
	c.file.appends++
	c.manifest.checkpoint(c.file.name, c.chain.seq, c.file.length, m.hash)
	c.chain = chain{seq: c.chain.seq + 1, prev: m.hash}
	for _, name := range c.retired {
		c.manifest.seal(name)
	}
	c.retired = nil
}

// leave turns from a file that takes no more.
func (c *committer) retireFile() {
	if c.file != nil {
		c.retired = append(c.retired, c.file.name)
		c.file = nil
	}
}

// retire closes the open file for good, unless requests are open: of those the next file
// must tell.
func (c *committer) closeFile() {
	if c.inFlight.len() > 0 {
		return
	}
	c.retireFile()
	for _, name := range c.retired {
		c.manifest.seal(name)
	}
	c.retired = nil
}

// open makes sure there is a file that takes the next member, and returns false only when
// ctx ended first.
func (c *committer) ensureFile(ctx context.Context) bool {
	hour := time.Now().UTC().Truncate(time.Hour)
	if c.file != nil && c.file.hour.Equal(hour) && c.file.appends < c.MaxAppends {
		return true
	}
	c.retireFile()
	retry := c.backoff()
	for {
		next := &file{number: c.files, hour: hour, name: fileName(hour, c.process, c.files)}
		err := c.insertAndCreate(ctx, next)
		switch {
		case err == nil:
			retry.recovered("create")
			c.file = next
			c.files++
			return true
		case errors.Is(err, blob.ErrExists), errors.Is(err, ErrTaken):
			c.retired = append(c.retired, next.name)
			c.files++
			continue
		}
		retry.note("create", err)
		if !retry.wait(ctx) {
			return false
		}
	}
}

// insertAndCreate makes the file's row, which is tried once a file, and then its blob: a
// store of rows that is away delays a new file by rowTimeout and no more.
func (c *committer) insertAndCreate(ctx context.Context, f *file) error {
	if c.inserted <= f.number {
		c.inserted = f.number + 1
		if err := c.manifest.insert(ctx, f.name); err != nil {
			return err
		}
	}
	return c.create(ctx, f.name)
}

// create makes the blob, or finds that an earlier try, whose answer was lost, has made it.
func (c *committer) create(ctx context.Context, name string) error {
	err := c.try(ctx, func(ctx context.Context) error { return c.Blobs.Create(ctx, name) })
	if !errors.Is(err, blob.ErrExists) {
		return err
	}
	var length int64
	var sealed bool
	lerr := c.try(ctx, func(ctx context.Context) (err error) {
		length, sealed, err = c.Blobs.Length(ctx, name)
		return err
	})
	switch {
	case lerr != nil:
		return lerr
	case length == 0 && !sealed:
		return nil
	}
	return err
}

func (c *committer) try(ctx context.Context, op func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.TryTimeout)
	defer cancel()
	return op(ctx)
}

func fileName(hour time.Time, process string, n int) string {
	return hour.Format("2006/01/02/15/") + baseName(process, n)
}

// baseName pads n so that names sort in the order the files were opened.
func baseName(process string, n int) string {
	return fmt.Sprintf("%s-%06d%s", process, n, extension)
}

const extension = ".jsonl.gz"

// backoff spaces the tries of one thing and logs how it goes.
type backoff struct {
	logger *slog.Logger
	pause  time.Duration
	failed int
	since  time.Time
}

const maxPause = 2 * time.Second

func (c *committer) backoff() *backoff {
	return &backoff{logger: c.Logger, pause: c.RetryPause, since: time.Now()}
}

func (b *backoff) note(step string, err error) {
	b.failed++
	b.logger.Warn("journal write failed", "step", step, "failures", b.failed, "error", err)
}

func (b *backoff) recovered(step string) {
	if b.failed > 0 {
		b.logger.Info("journal write recovered", "step", step, "failures", b.failed, "after", time.Since(b.since))
	}
}

// wait sleeps, doubling each time, with jitter so that instances do not knock together.
// It returns false when ctx ended.
func (b *backoff) wait(ctx context.Context) bool {
	timer := time.NewTimer(b.pause/2 + rand.N(b.pause/2+1)) //nolint:gosec // jitter
	defer timer.Stop()
	b.pause = min(2*b.pause, maxPause)
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
