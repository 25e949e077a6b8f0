// Package audit writes what happened to a request into the journal, so that no answer is complete without its record.
//
// An exchange has a begin record (who asked what, by which route) and an end record (attempts, usage, outcome, answer).
// Each is one JSON line with a "type" and the fields of [gateway.Record]. An end whose begin was queued repeats the
// size and hash of the request's body but not its content. An end without a begin, that of an early refusal, has the
// whole request. An end that was queued but not durable in time is followed by an amend, which has only the id and the
// outcome that replaces the end's.
//
// Bodies up to 1 MiB are in the record: unchanged if they are one JSON value without duplicate names (line breaks
// between its tokens become spaces), otherwise as text, otherwise as base64. Larger ones are blobs,
// bodies/{id}/request and bodies/{id}/response. They are durable before the record that names them is queued: a kill
// in between leaves a blob that no record names, never a name without a blob.
package audit

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"aoaigateway/handler/backoff"
	"aoaigateway/handler/blob"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal"
)

// DefaultWait is how long an answer waits for its record, and the setting's default.
const DefaultWait = 15 * time.Second

// Options of a Log; Journal and Bodies are needed.
type Options struct {
	Journal *journal.Writer
	Bodies  blob.Store    // may be the journal's own container
	Wait    time.Duration // for durability, before an answer is given up; 0 = DefaultWait
	Relaxed bool          // release answers whose record is not durable in time; records say so
	Logger  *slog.Logger  // default: discards
}

// Log is the audit log of one process. Safe for concurrent use.
type Log struct{ o Options }

// New returns a log over o's journal. The caller closes the journal.
func New(o Options) *Log {
	o.Wait = cmp.Or(o.Wait, DefaultWait)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	return &Log{o: o}
}

// Exchange starts the records of one request. rec belongs to the caller. End must be called exactly once.
func (l *Log) Exchange(rec *gateway.Record) *Exchange {
	return &Exchange{log: l, rec: rec}
}

// encode renders rec as a line, with the content of the request's body only when whole is set.
func (l *Log) encode(t gateway.LineType, rec *gateway.Record, whole bool) ([]byte, error) {
	return gateway.Line{Type: t, Relaxed: l.o.Relaxed, Record: *rec}.Encode(whole)
}

// halfFull reports whether only the half of the backlog is left that is for the ends of requests that were let in.
func (l *Log) halfFull() bool {
	used, limit := l.o.Journal.Backlog()
	return used > limit/2
}

// appendEnd queues the end of request id. It waits for room until ctx ends.
func (l *Log) appendEnd(ctx context.Context, id string, line []byte) (*journal.Pending, error) {
	for {
		p, err := l.o.Journal.AppendEnd(id, line)
		if !errors.Is(err, journal.ErrFull) || !backoff.Sleep(ctx, 20*time.Millisecond) {
			return p, err
		}
	}
}

// putBody stores a body that is in memory. It retries until ctx ends.
func (l *Log) putBody(ctx context.Context, name string, body []byte) error {
	retry := backoff.Backoff{First: 100 * time.Millisecond, Max: 2 * time.Second}
	for {
		err := l.o.Bodies.Put(ctx, name, bytes.NewReader(body))
		if err == nil {
			return nil
		}
		l.o.Logger.Warn("a body could not be stored and is tried again", "blob", name, "error", err)
		if !retry.Wait(ctx) {
			return err
		}
	}
}

// unavailable is the error for a client whose record cannot be kept.
func unavailable(message string, err error) error {
	return gateway.AuditLogUnavailable.New("%s", message).WithRetry(5 * time.Second).WithCause(err)
}
