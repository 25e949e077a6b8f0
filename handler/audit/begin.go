package audit

import (
	"context"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal"
)

// begin is the begin record of a request, which may not be durable yet.
type begin struct {
	id      string             // id of the record
	settled chan struct{}      // closed when the fields below are set
	stop    context.CancelFunc // aborts the upload of the request's body
	stored  bool               // the request's body is larger than 1 MiB and is durable in its blob
	pending *journal.Pending   // nil if the record could not be queued
	err     error
}

// Begin queues the begin record with the present content of rec. If the request's body
// belongs into a blob, the body is uploaded first. Begin never waits for storage. It fails
// when the journal's backlog is half full, because the other half is kept for the end
// records of accepted requests. The record of a request that is refused here has no bodies.
func (x *Exchange) Begin() error {
	if err := x.MayBegin(); err != nil {
		x.DropRequest()
		return err
	}
	line, err := x.log.encode(gateway.Begin, x.rec, true)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	b := &begin{id: x.rec.ID, settled: make(chan struct{}), stop: stop}
	if x.open != nil {
		x.begin = b
		go b.run(ctx, x.log, x.rec.Request.Blob, x.open, line)
		return nil
	}
	b.run(ctx, x.log, "", nil, line)
	if b.err != nil { // x.begin stays nil, so that the end record will contain the whole request
		return unavailable("The gateway cannot write its audit log now, so it refuses new requests. Try again.", b.err)
	}
	x.begin = b
	return nil
}

// MayBegin fails if the journal's backlog is so full that Begin would refuse the request.
func (x *Exchange) MayBegin() error {
	if !x.log.halfFull() {
		return nil
	}
	x.stalled.Store(true)
	return unavailable("The gateway cannot write its audit log now, so it refuses new requests. Try again.", journal.ErrFull)
}

// DropRequest gives back the body of a refused request. The record keeps the body's size and
// hash, and no content.
func (x *Exchange) DropRequest() {
	x.open = nil
	if x.body != nil {
		x.body.Close()
	}
	if b := x.rec.Request; b != nil {
		x.rec.Request = b.WithoutContent()
	}
}

// run uploads the body, if there is one to upload, and then queues line in the journal.
func (b *begin) run(ctx context.Context, l *Log, name string, open source, line []byte) {
	defer close(b.settled)
	defer b.stop()
	if open != nil {
		if b.err = l.putBody(ctx, name, open); b.err != nil {
			return
		}
	}
	b.stored = true
	b.pending, b.err = l.o.Journal.AppendBegin(b.id, line)
}

// queued waits until the begin record is queued. If ctx ends first, it aborts the upload of
// the request's body.
func (b *begin) queued(ctx context.Context) error {
	select {
	case <-b.settled:
	case <-ctx.Done():
		b.stop()
		<-b.settled
	}
	return b.err
}

// BeginDurable waits until the begin record is durable. It calls Begin if that was not
// called. In relaxed mode (Options.Relaxed) it returns nil if the record is not durable in
// time.
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
	return unavailable("The request could not be recorded in time, so it is not answered. Try again.", err)
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
