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
	metadataOnly bool          // sizes and hashes only, no content
	rules        *redact.Rules // nil = the content as it is
	ended        bool
	stalled      atomic.Bool // the journal does not keep up: nobody waits for the end of a refusal
}

// begin is a begin record on its way.
type begin struct {
	id      string             // of the record
	settled chan struct{}      // closed once the fields below are final
	stop    context.CancelFunc // gives the body up
	stored  bool               // the large body, if there is one, is durable
	pending *journal.Pending   // nil when the record could not be queued
	err     error
}

// FiguresOnly has the record keep sizes and hashes of the bodies and nothing of what they
// say. Call it before the first of them.
func (x *Exchange) MetadataOnly() { x.metadataOnly = true }

// Redact has personal data taken out of the content of both bodies, before it goes
// anywhere. Call it before the first of them.
func (x *Exchange) Redact(rules *redact.Rules) { x.rules = rules }

// Request records the client's body. body must not change and is kept until its record is
// durable.
func (x *Exchange) Request(contentType string, body []byte) {
	wire := gateway.DigestOf(body)
	b := &gateway.Body{Size: wire.Size, SHA256: wire.SHA256, ContentType: contentType}
	if x.metadataOnly {
		x.rec.Request = b
		return
	}
	body = x.redacted(b, body)
	if len(body) > gateway.MaxInline {
		b.Blob = blobName(x.rec.ID, "request")
		x.body = body
	} else {
		b.SetContent(body)
	}
	x.rec.Request = b
}

// redacted returns what of body may be kept; b says so where that will be a blob.
func (x *Exchange) redacted(b *gateway.Body, body []byte) []byte {
	if x.rules == nil {
		return body
	}
	take := x.rules.Text
	if jsonLike(b.ContentType) {
		take = x.rules.JSON
	}
	body, n := take(body)
	x.rec.Redactions += n
	if len(body) > gateway.MaxInline {
		b.Stored = new(gateway.DigestOf(body))
	}
	return body
}

func blobName(id, part string) string { return "bodies/" + id + "/" + part }

// Begin queues the begin record as rec is now, after the body's blob when there is one,
// and never waits for storage. It refuses when the backlog is half full: the other half
// is for the ends of what was let in, so that of what was not it keeps the figures only.
func (x *Exchange) Begin() error {
	if x.log.halfFull() {
		x.stalled.Store(true)
		x.dropContent()
		return unavailable("The gateway cannot keep its audit log at the moment and takes no new requests; try again.", journal.ErrFull)
	}
	line, err := x.log.encode(gateway.Begin, x.rec, true)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	b := &begin{id: x.rec.ID, settled: make(chan struct{}), stop: stop}
	if x.body != nil {
		x.begin = b
		go b.run(ctx, x.log, x.rec.Request.Blob, x.body, line)
		return nil
	}
	b.run(ctx, x.log, "", nil, line)
	if b.err != nil { // x.begin stays nil: the end will carry everything
		return unavailable("The gateway cannot keep its audit log at the moment and takes no new requests; try again.", b.err)
	}
	x.begin = b
	return nil
}

func (x *Exchange) dropContent() {
	x.body = nil
	if b := x.rec.Request; b != nil {
		x.rec.Request = b.WithoutContent()
	}
}

// run stores body, if there is one, and then queues line.
func (b *begin) run(ctx context.Context, l *Log, name string, body, line []byte) {
	defer close(b.settled)
	defer b.stop()
	if body != nil {
		if b.err = l.putBody(ctx, name, body); b.err != nil {
			return
		}
	}
	b.stored = true
	b.pending, b.err = l.o.Journal.AppendBegin(b.id, line)
}

// queued waits until the record is queued; when ctx ends first it is given up.
func (b *begin) queued(ctx context.Context) error {
	select {
	case <-b.settled:
	case <-ctx.Done():
		b.stop()
		<-b.settled
	}
	return b.err
}

// BeginDurable waits until the begin record is durable, queueing it if Begin was not
// called. A relaxed log gives up waiting without an error.
func (x *Exchange) BeginDurable(ctx context.Context) error {
	if x.begin == nil {
		if err := x.Begin(); err != nil {
			return err
		}
	}
	wait, cancel := context.WithTimeout(ctx, x.log.o.Wait)
	defer cancel()
	err := x.begin.durable(wait)
	x.stalled.Store(err != nil && ctx.Err() == nil)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return gateway.ClientConnectionFailure.Because(err)
	case x.log.o.Relaxed:
		return nil
	}
	return unavailable("The request could not be recorded in time, so it is not answered; try again.", err)
}

func (b *begin) durable(ctx context.Context) error {
	select {
	case <-b.settled:
	case <-ctx.Done():
		return ctx.Err()
	}
	if b.err != nil {
		return b.err
	}
	return b.pending.Wait(ctx)
}

// Response starts recording the answer; at most once.
func (x *Exchange) Response(contentType string) *Capture {
	x.capture = &Capture{log: x.log, name: blobName(x.rec.ID, "response"), contentType: contentType, hash: sha256.New(), metadataOnly: x.metadataOnly, rules: x.rules}
	return x.capture
}

var errEnded = errors.New("audit: exchange ended twice")

// End queues the end record and waits until it, the begin record and both bodies are
// durable; nil means that they are. Only its own time limit ends the wait, not ctx. Past
// it the answer must be withheld: rec's outcome becomes NotDurable and the error says why.
// A relaxed log returns nil then.
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
	if x.rules != nil { // an error may quote the prompt
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
			_, _ = x.log.o.Journal.Append(gateway.EncodeAmend(x.rec)) // corrects the queued end as well as can be
		}
		return unavailable("The answer could not be recorded in time, so it is withheld; try again.", err)
	}
}

// Ended says whether End was called: the record is written as well as it will be.
func (x *Exchange) Ended() bool { return x.ended }

// Withhold corrects an end record that said the client gets its answer: for something
// else that must be durable and is not. False means that the answer may go all the same.
func (x *Exchange) Withhold() bool {
	if !x.withhold() {
		return false
	}
	_, _ = x.log.o.Journal.Append(gateway.EncodeAmend(x.rec)) // as well as can be
	return true
}

// withhold notes that the client does not get its answer, and reports whether that is new.
// An answer that nobody waited for, or that was cut, stays what it was.
func (x *Exchange) withhold() bool {
	whole := x.rec.Outcome == gateway.Complete || x.rec.Outcome == gateway.Refused
	if x.log.o.Relaxed || !whole {
		return false
	}
	x.rec.Outcome = gateway.NotDurable
	return true
}

// bodies makes both bodies durable, and the begin record, if any, queued.
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
		if err == nil || x.begin.stored { // if it could only not be queued, the end can name the blob
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
	begun := x.begin != nil && x.begin.pending != nil
	line, err := x.log.encode(gateway.End, x.rec, !begun)
	if err != nil {
		return nil, err
	}
	return x.log.appendEnd(ctx, x.rec.ID, line)
}
