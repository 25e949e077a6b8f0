package journal

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"aoaigateway/handler/backoff"
	"aoaigateway/handler/blob"
)

// appendResult says what is known about an append.
type appendResult int

const (
	resultUnknown appendResult = iota // the blob could not be read, so the result is not known
	applied
	notApplied // the file's length is unchanged, so the same bytes may be sent again
	fileClosed // the batch is not in this file and cannot be appended to it any more
)

// appendUntilKnown appends batch to the open file. It tries until the result is known or
// ctx ends. The bytes of batch stay the same.
func (c *committer) appendUntilKnown(ctx context.Context, batch []byte) appendResult {
	retry := c.retry()
	for {
		err := c.try(ctx, func(ctx context.Context) error {
			return c.Blobs.Append(ctx, c.file.name, c.file.length, batch)
		})
		if err == nil {
			retry.succeeded("append")
			return applied
		}
		retry.failed("append", err)
		result := c.resolve(ctx, batch, retry)
		if result == notApplied && errors.Is(err, blob.ErrSealed) {
			result = fileClosed
		}
		if result != notApplied || !retry.wait(ctx) {
			return result
		}
	}
}

// resolve finds out whether batch was appended. It tries until the file can be read or ctx
// ends.
func (c *committer) resolve(ctx context.Context, batch []byte, retry *retry) appendResult {
	for {
		result, err := c.inspect(ctx, batch)
		if err == nil {
			return result
		}
		retry.failed("read back", err)
		if !retry.wait(ctx) {
			return resultUnknown
		}
	}
}

// inspect compares the file's length now with its length before the append and with the
// length that the append should give.
func (c *committer) inspect(ctx context.Context, batch []byte) (appendResult, error) {
	length, sealed, err := c.length(ctx, c.file.name)
	switch {
	case errors.Is(err, blob.ErrNotFound):
		c.Logger.Error("a journal file does not exist any more; the journal continues in the next file",
			"file", c.file.name, "length", c.file.length)
		return fileClosed, nil
	case err != nil:
		return resultUnknown, err
	case length == c.file.length && !sealed:
		return notApplied, nil
	case length < c.file.length+int64(len(batch)):
		c.Logger.Warn("another process closed a journal file; the journal continues in the next file",
			"file", c.file.name, "length", length, "sealed", sealed)
		return fileClosed, nil
	}
	return c.compare(ctx, batch)
}

// compare reports whether the file contains batch at the place to which it was sent.
func (c *committer) compare(ctx context.Context, batch []byte) (appendResult, error) {
	found := make([]byte, len(batch))
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
	case bytes.Equal(found, batch):
		return applied, nil
	}
	c.Logger.Error("another process wrote to a journal file; the journal continues in the next file",
		"file", c.file.name, "position", c.file.length)
	return fileClosed, nil
}

func (c *committer) length(ctx context.Context, name string) (n int64, sealed bool, err error) {
	err = c.try(ctx, func(ctx context.Context) (err error) {
		n, sealed, err = c.Blobs.Length(ctx, name)
		return err
	})
	return n, sealed, err
}

func (c *committer) try(ctx context.Context, op func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.TryTimeout)
	defer cancel()
	return op(ctx)
}

// retry makes pauses between the tries of one operation, and logs failures.
type retry struct {
	pauses   backoff.Backoff
	logger   *slog.Logger
	failures int
	since    time.Time
}

const maxRetryPause = 2 * time.Second

func (c *committer) retry() *retry {
	return &retry{pauses: backoff.Backoff{First: c.RetryPause, Max: maxRetryPause}, logger: c.Logger, since: time.Now()}
}

func (r *retry) failed(step string, err error) {
	r.failures++
	r.logger.Warn("journal write failed", "step", step, "failures", r.failures, "error", err)
}

func (r *retry) succeeded(step string) {
	if r.failures > 0 {
		r.logger.Info("journal write succeeded again", "step", step, "failures", r.failures, "after", time.Since(r.since))
	}
}

// wait pauses before the next try. It returns false if ctx ended first.
func (r *retry) wait(ctx context.Context) bool {
	return backoff.Sleep(ctx, backoff.Jitter(r.pauses.Next()))
}
