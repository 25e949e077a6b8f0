package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/openai"
)

// runStream answers a request for a stream. If no region has begun by StreamBeginAfter,
// the answer begins with a comment, after its begin record is durable.
func (d *delivery) runStream(ctx context.Context) error {
	out := newEventStream(d.in.W, d.in.R, d.plan.kind, d.options.Heartbeat)
	defer out.stop()
	out.beginAfter(d.options.StreamBeginAfter, func() error { return d.in.Audit.BeginDurable(d.in.R.Context()) })
	if err := d.ask(ctx); err != nil {
		return d.unanswered(out, err)
	}
	defer d.answer.Close()
	switch {
	case d.answer.Events != nil:
		return d.stream(out)
	case out.stop():
		return d.notStreamed(out)
	case d.answer.Rest != nil:
		return d.long()
	default:
		return d.whole()
	}
}

// unanswered ends a stream that no region answered: as an ordinary error if nothing has
// left yet, otherwise with an error event.
func (d *delivery) unanswered(out *eventStream, err error) error {
	if !out.stop() {
		return err
	}
	d.in.Record.Status = http.StatusOK
	out.fail(err)
	return d.abandon(err)
}

// notStreamed ends a stream that had begun when the region answered with something else,
// usually an error. The error event repeats the region's words.
func (d *delivery) notStreamed(out *eventStream) error {
	a := d.answer
	_, _ = d.capture().Write(a.Whole) // never fails: it is small enough to stand in the record
	d.meter.readWhole(a)
	d.in.Record.Status = http.StatusOK
	err := gateway.UpstreamError.Because(nil)
	if code, message := openai.ParseError(a.Whole); !a.Succeeded() && message != "" {
		err.Code, err.Message = code, message
	}
	out.fail(err)
	return d.abandon(err)
}

// stream passes events on unchanged as they come and holds the terminal one.
func (d *delivery) stream(out *eventStream) error {
	if err := d.beginDurable(); err != nil {
		return err
	}
	t := newTap(d)
	out.start(d.answer.Status, d.answer.Header)
	held, err := d.pass(out, t)
	switch {
	case held != nil:
		return d.completeDraining(out, t, held)
	case errors.Is(err, io.EOF) && !d.plan.kind.Metered():
		return d.complete(out, t, nil)
	case d.isRegionsFault(err):
		d.answer.Broke()
	}
	return d.broken(out, t, err)
}

// pass hands events on until the terminal one, which it returns, or until an error.
func (d *delivery) pass(out *eventStream, t *tap) (held []byte, err error) {
	a := d.answer
	if len(a.Lead) > 0 {
		if err := t.record(a.Lead); err != nil {
			return nil, err
		}
		err = out.write(a.Lead)
	}
	for event := a.First; err == nil; event, err = a.Events.Next() {
		if event.Half && d.plan.kind.Metered() && !openai.IsDone(event.Data) {
			return nil, io.ErrUnexpectedEOF
		}
		kind, err := t.see(event)
		if err != nil {
			return nil, err
		}
		if kind == openai.Terminal {
			return bytes.Clone(event.Raw), nil
		}
		if kind == openai.UsageOnly && a.UsageAsked {
			continue
		}
		if err := out.write(event.Raw); err != nil {
			return nil, err
		}
	}
	return nil, err
}

// completeDraining reads the region's connection empty while the end record is written.
func (d *delivery) completeDraining(out *eventStream, t *tap, held []byte) error {
	var drained sync.WaitGroup
	drained.Go(d.answer.Drain)
	err := d.complete(out, t, held)
	d.answer.Close()
	drained.Wait()
	return err
}

// complete sends the terminal event once the end record is durable.
func (d *delivery) complete(out *eventStream, t *tap, held []byte) error {
	t.finish()
	d.in.Record.Outcome = gateway.Complete
	err := d.settle()
	out.stop()
	if err != nil {
		out.fail(err)
		return ErrAborted
	}
	if held != nil && out.write(held) != nil {
		return ErrAborted
	}
	return nil
}

// broken ends a stream that will not be completed. An error event of the region's own was
// passed on and is not repeated.
func (d *delivery) broken(out *eventStream, t *tap, err error) error {
	out.stop()
	switch {
	case errors.Is(err, errNotRecorded):
		out.fail(err)
	case d.slotLost():
		out.fail(d.reservation.Err())
	case d.isRegionsFault(err) && !t.failed:
		out.fail(gateway.UpstreamBrokeOff.Because(nil))
	}
	t.finish()
	return d.abandon(err)
}
