package audit

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync/atomic"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal"
	"aoaigateway/handler/redact"
)

// Exchange keeps the record of one request. It belongs to the request's goroutine.
type Exchange struct {
	log          *Log
	rec          *gateway.Record
	body         []byte // a request body over gateway.MaxInline, until it is durable
	begin        *begin // nil until Begin
	capture      *Capture
	metadataOnly bool          // keep sizes and hashes, no content
	rules        *redact.Rules // nil = the content as it is
	ended        bool
	stalled      atomic.Bool // the journal is behind, so the end of a refused request is not awaited
}

// MetadataOnly makes the record keep sizes and hashes of the bodies, and no content. Call it before the first body.
func (x *Exchange) MetadataOnly() { x.metadataOnly = true }

// Redact has personal data removed from the content of both bodies before it is stored. Call it before the first body.
func (x *Exchange) Redact(rules *redact.Rules) { x.rules = rules }

// Request records the client's body. body must not change; it is held until its record is durable.
func (x *Exchange) Request(contentType string, body []byte) {
	wire := gateway.DigestOf(body)
	b := &gateway.Body{Size: wire.Size, SHA256: wire.SHA256, ContentType: contentType}
	if x.metadataOnly {
		x.rec.Request = b
		return
	}
	body, found := redactBody(x.rules, contentType, body)
	x.rec.Redactions += found
	if len(body) > gateway.MaxInline {
		b.Blob = blobName(x.rec.ID, "request")
		if x.rules != nil {
			b.Stored = new(gateway.DigestOf(body))
		}
		x.body = body
	} else {
		b.SetContent(body)
	}
	x.rec.Request = b
}

func blobName(id, part string) string { return "bodies/" + id + "/" + part }

// Response starts recording the answer; at most once.
func (x *Exchange) Response(contentType string) *Capture {
	x.capture = &Capture{
		log: x.log, name: blobName(x.rec.ID, "response"), contentType: contentType, hash: sha256.New(),
		metadataOnly: x.metadataOnly, rules: x.rules,
	}
	return x.capture
}

var errEnded = errors.New("audit: exchange ended twice")

// End queues the end record and returns nil once it, the begin record and both bodies are durable. Only the log's Wait
// limits that, not ctx. After it the answer must be withheld: rec's outcome becomes NotDurable and the error says why.
// A relaxed log returns nil instead.
func (x *Exchange) End(ctx context.Context) error {
	if x.ended {
		return errEnded
	}
	x.ended = true
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), x.log.o.Wait)
	defer cancel()
	if x.stalled.Load() && !x.log.o.Relaxed {
		cancel()
	}
	if x.rules != nil { // the error message may quote the prompt
		message, _ := x.rules.Text([]byte(x.rec.ErrorMessage))
		x.rec.ErrorMessage = string(message)
	}
	berr := x.bodies(ctx)
	if berr != nil {
		x.withhold()
	}
	p, err := x.queueEnd(ctx)
	if x.stalled.Load() && !x.log.o.Relaxed {
		return unavailable("The request could not be recorded in time, so it is not answered; try again.", errors.Join(berr, err))
	}
	if err == nil && (berr == nil || x.log.o.Relaxed) {
		err = p.Wait(ctx)
	}
	switch err := errors.Join(berr, err); {
	case err == nil:
		return nil
	case x.log.o.Relaxed:
		x.log.o.Logger.Warn("answer released before its record was durable", "id", x.rec.ID, "error", err)
		return nil
	default:
		if x.withhold() && p != nil {
			_, _ = x.log.o.Journal.Append(gateway.EncodeAmend(x.rec)) // a best effort to correct the queued end
		}
		return unavailable("The answer could not be recorded in time, so it is withheld; try again.", err)
	}
}

// Ended reports whether End was called.
func (x *Exchange) Ended() bool { return x.ended }

// Withhold corrects an end record that says that the client gets its answer, because something else is not durable in
// time. It returns false if the answer may be sent all the same.
func (x *Exchange) Withhold() bool {
	if !x.withhold() {
		return false
	}
	_, _ = x.log.o.Journal.Append(gateway.EncodeAmend(x.rec)) // a best effort
	return true
}

// withhold notes that the client does not get its answer, and reports whether it changed the outcome. The outcome of an
// answer that was cut or whose client left stays.
func (x *Exchange) withhold() bool {
	whole := x.rec.Outcome == gateway.Complete || x.rec.Outcome == gateway.Refused
	if x.log.o.Relaxed || !whole {
		return false
	}
	x.rec.Outcome = gateway.NotDurable
	return true
}

// bodies makes both bodies durable, and waits until the begin record, if there is one, is queued.
func (x *Exchange) bodies(ctx context.Context) error {
	var err error
	if x.capture != nil {
		x.rec.Response, err = x.capture.finish(ctx)
		x.rec.Redactions += x.capture.redactions
	}
	return errors.Join(err, x.requestBody(ctx))
}

func (x *Exchange) requestBody(ctx context.Context) error {
	body := x.body
	x.body = nil
	if x.begin != nil {
		err := x.begin.queued(ctx)
		if err == nil || x.begin.stored { // if only queueing failed, the end can name the blob
			return nil
		}
		x.rec.Request.Blob = ""
		return err
	}
	if body == nil {
		return nil
	}
	err := x.log.putBody(ctx, x.rec.Request.Blob, body)
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
