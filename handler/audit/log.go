// Package audit writes a record of each request to the journal. No answer is complete
// before its record is durable.
package audit

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"aoaigateway/handler/backoff"
	"aoaigateway/handler/blob"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal"
)

// DefaultWait is how long an answer waits for its record to become durable. It is also the
// default of the setting.
const DefaultWait = 15 * time.Second

// Options of a Log. Journal and Bodies are required.
type Options struct {
	Journal *journal.Writer
	Bodies  blob.Store    // may be the container of the journal
	Wait    time.Duration // how long an answer waits for its record; 0 = DefaultWait
	Relaxed bool          // relaxed mode: send answers even if their records are not durable in time; their records say so
	Logger  *slog.Logger  // default: nothing is logged
}

// Log is the audit log of one process. Safe for concurrent use.
type Log struct{ o Options }

// New returns a Log that writes to o.Journal. The caller must close the journal.
func New(o Options) *Log {
	o.Wait = cmp.Or(o.Wait, DefaultWait)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	return &Log{o: o}
}

// Exchange begins the record of one request. The caller owns rec, and must call End exactly
// once.
func (l *Log) Exchange(rec *gateway.Record) *Exchange {
	return &Exchange{log: l, rec: rec}
}

// encode returns rec as a line. The line contains the content of the request's body only if
// whole is true.
func (l *Log) encode(t gateway.LineType, rec *gateway.Record, whole bool) ([]byte, error) {
	return gateway.Line{Type: t, Relaxed: l.o.Relaxed, Record: *rec}.Encode(whole)
}

// halfFull reports whether half of the journal's backlog is in use. The other half is kept
// for the end records of accepted requests.
func (l *Log) halfFull() bool {
	used, limit := l.o.Journal.Backlog()
	return used > limit/2
}

// appendEnd queues the end record of the request id. If the journal is full it waits until
// ctx ends.
func (l *Log) appendEnd(ctx context.Context, id string, line []byte) (*journal.Pending, error) {
	for {
		p, err := l.o.Journal.AppendEnd(id, line)
		if !errors.Is(err, journal.ErrFull) || !backoff.Sleep(ctx, 20*time.Millisecond) {
			return p, err
		}
	}
}

// source opens a body that is to be stored. It can be opened again. A body that is stored as
// it is is an *io.SectionReader, which the store uploads without copying it.
type source func() (content io.Reader, done func())

// inMemory is the source of a body in memory.
func inMemory(content []byte) source {
	return func() (io.Reader, func()) {
		return io.NewSectionReader(bytes.NewReader(content), 0, int64(len(content))), func() {}
	}
}

// putBody stores a body as a blob. If that fails it tries again, until ctx ends.
func (l *Log) putBody(ctx context.Context, name string, open source) error {
	retry := backoff.Backoff{First: 100 * time.Millisecond, Max: 2 * time.Second}
	for {
		content, done := open()
		err := l.o.Bodies.Put(ctx, name, content)
		done()
		if err == nil {
			return nil
		}
		l.o.Logger.Warn("a body could not be stored; the gateway tries again", "blob", name, "error", err)
		if !retry.Wait(ctx) {
			return err
		}
	}
}

// unavailable returns the error for a client whose request or answer cannot be recorded.
func unavailable(message string, err error) error {
	return gateway.AuditLogUnavailable.New("%s", message).WithRetry(5 * time.Second).WithCause(err)
}
