package audit

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"sync/atomic"

	"aoaigateway/handler/body"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal"
	"aoaigateway/handler/redact"
)

// Exchange keeps the record of one request. Only the request's goroutine uses it.
type Exchange struct {
	log          *Log
	rec          *gateway.Record
	body         *body.Body // the request's body; nil before Request
	open         source     // what is to be stored as the blob of the request's body; nil = no blob, or it is durable
	begin        *begin     // nil before Begin
	capture      *Capture
	metadataOnly bool          // keep sizes and hashes, no content
	rules        *redact.Rules // nil = the content is not changed
	ended        bool
	stalled      atomic.Bool // the journal is behind, so a refused request does not wait for its end record
}

// MetadataOnly makes the record keep only the sizes and hashes of both bodies. It must be
// called before the first body is recorded.
func (x *Exchange) MetadataOnly() { x.metadataOnly = true }

// Redact makes the record keep both bodies without personal data. It must be called before
// the first body is recorded.
func (x *Exchange) Redact(rules *redact.Rules) { x.rules = rules }

// Request records the client's body. The record owns the body from then on: End closes it.
func (x *Exchange) Request(contentType string, b *body.Body) {
	wire := b.Digest()
	x.body = b
	x.rec.Request = &gateway.Body{Size: wire.Size, SHA256: wire.SHA256, ContentType: contentType}
	if x.metadataOnly {
		return
	}
	if content, ok := b.InMemory(); ok {
		content, found := redactBody(x.rules, contentType, content)
		if len(content) <= gateway.MaxInline {
			x.rec.Redactions += found
			x.rec.Request.SetContent(content)
			return
		}
	}
	x.rec.Request.Blob = blobName(x.rec.ID, "request")
	x.open = func() (io.Reader, func()) { return b.Reader(), func() {} }
	if x.rules != nil {
		stored, found := digestRedacted(x.rules, contentType, b)
		x.rec.Request.Stored = stored
		x.rec.Redactions += found
		x.open = func() (io.Reader, func()) { return readRedacted(x.rules, contentType, b) }
	}
}

func blobName(id, part string) string { return "bodies/" + id + "/" + part }

// Response begins the recording of the answer's body. It may be called only once.
func (x *Exchange) Response(contentType string) *Capture {
	x.capture = &Capture{
		log: x.log, name: blobName(x.rec.ID, "response"), contentType: contentType, hash: sha256.New(),
		metadataOnly: x.metadataOnly, rules: x.rules,
	}
	return x.capture
}

var errEnded = errors.New("audit: Exchange.End was called twice")

// End queues the end record. It returns nil when the end record, the begin record and both
// bodies are durable. The wait is limited by the log's Wait, not by ctx. If End fails, the
// client must not get the answer: the outcome in rec is then NotDurable and the error says
// why. In relaxed mode End returns nil instead.
func (x *Exchange) End(ctx context.Context) error {
	if x.ended {
		return errEnded
	}
	x.ended = true
	if x.body != nil {
		defer x.body.Close()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), x.log.o.Wait)
	defer cancel()
	if x.stalled.Load() && !x.log.o.Relaxed {
		cancel()
	}
	if x.rules != nil { // the message may quote the prompt
		message, _ := x.rules.Text([]byte(x.rec.ErrorMessage))
		x.rec.ErrorMessage = string(message)
	}
	berr := x.bodies(ctx)
	if berr != nil {
		x.withhold()
	}
	p, err := x.queueEnd(ctx)
	if x.stalled.Load() && !x.log.o.Relaxed {
		return unavailable("The request could not be recorded in time, so it is not answered. Try again.", errors.Join(berr, err))
	}
	if err == nil && (berr == nil || x.log.o.Relaxed) {
		err = p.Wait(ctx)
	}
	switch err := errors.Join(berr, err); {
	case err == nil:
		return nil
	case x.log.o.Relaxed:
		x.log.o.Logger.Warn("the answer was sent although its record is not durable yet (relaxed mode)", "id", x.rec.ID, "error", err)
		return nil
	default:
		if x.withhold() && p != nil {
			_, _ = x.log.o.Journal.Append(gateway.EncodeAmend(x.rec)) // if this fails too, the record says that the client got the answer
		}
		return unavailable("The answer could not be recorded in time, so it is not sent. Try again.", err)
	}
}

// Ended reports whether End was called.
func (x *Exchange) Ended() bool { return x.ended }

// Withhold corrects the end record after the answer could not be sent because something
// else was not durable in time. It returns false if the answer may be sent nevertheless.
func (x *Exchange) Withhold() bool {
	if !x.withhold() {
		return false
	}
	_, _ = x.log.o.Journal.Append(gateway.EncodeAmend(x.rec)) // if this fails, the record says that the client got the answer
	return true
}

// withhold sets the outcome to NotDurable, unless the answer was cut off or the client had
// left. It reports whether it changed the outcome.
func (x *Exchange) withhold() bool {
	whole := x.rec.Outcome == gateway.Complete || x.rec.Outcome == gateway.Refused
	if x.log.o.Relaxed || !whole {
		return false
	}
	x.rec.Outcome = gateway.NotDurable
	return true
}

// bodies makes both bodies durable, and waits until the begin record, if there is one, is
// queued.
func (x *Exchange) bodies(ctx context.Context) error {
	var err error
	if x.capture != nil {
		x.rec.Response, err = x.capture.finish(ctx)
		x.rec.Redactions += x.capture.redactions
	}
	return errors.Join(err, x.requestBody(ctx))
}

func (x *Exchange) requestBody(ctx context.Context) error {
	open := x.open
	x.open = nil
	if x.begin != nil {
		err := x.begin.queued(ctx)
		if err == nil || x.begin.stored { // also if queueing the begin record failed: its blob exists, and the end record can name it
			return nil
		}
		x.rec.Request.Blob = ""
		return err
	}
	if open == nil {
		return nil
	}
	err := x.log.putBody(ctx, x.rec.Request.Blob, open)
	if err != nil {
		x.rec.Request.Blob = ""
	}
	return err
}

func (x *Exchange) queueEnd(ctx context.Context) (*journal.Pending, error) {
	beginQueued := x.begin != nil && x.begin.pending != nil
	line, err := x.log.encode(gateway.End, x.rec, !beginQueued)
	if err != nil {
		return nil, err
	}
	return x.log.appendEnd(ctx, x.rec.ID, line)
}
