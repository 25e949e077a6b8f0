package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/headers"
	"aoaigateway/handler/openai"
	"aoaigateway/handler/sse"
)

// runStream answers a request for a stream. If no region has sent an event by
// StreamBeginAfter, it makes the begin record durable and begins the answer with a comment.
func (d *delivery) runStream(ctx context.Context) error {
	out := sse.NewWriter(d.in.W, d.options.Heartbeat)
	defer out.Stop()
	out.BeginAfter(d.options.StreamBeginAfter, func() bool { return d.in.Audit.BeginDurable(d.in.R.Context()) == nil })
	if err := d.ask(ctx); err != nil {
		return d.unanswered(out, err)
	}
	defer d.answer.Close()
	switch {
	case d.answer.Events != nil:
		return d.stream(out)
	case out.Stop():
		return d.notStreamed(out)
	case d.answer.Rest != nil:
		return d.long()
	default:
		return d.whole()
	}
}

// unanswered ends a stream that no region answered. It returns an ordinary error if the
// client has received nothing yet; otherwise it sends an error event.
func (d *delivery) unanswered(out *sse.Writer, err error) error {
	if !out.Stop() {
		return err
	}
	d.in.Record.Status = http.StatusOK
	d.sendError(out, err)
	return d.abandon(err)
}

// notStreamed ends a stream that had begun when the region sent an answer that is no
// stream, usually an error. The error event has the region's message.
func (d *delivery) notStreamed(out *sse.Writer) error {
	a := d.answer
	_, _ = d.capture().Write(a.Whole) // cannot fail: a body of this size fits into the record itself
	if a.Succeeded() {
		d.meter.ReadWhole(a.Whole)
	}
	d.in.Record.Status = http.StatusOK
	err := gateway.UpstreamError.Because(nil)
	if code, message := openai.ParseError(a.Whole); !a.Succeeded() && message != "" {
		err.Code, err.Message = code, message
	}
	d.sendError(out, err)
	return d.abandon(err)
}

// stream passes each event on unchanged when it arrives, and holds the terminal event back.
func (d *delivery) stream(out *sse.Writer) error {
	if err := d.beginDurable(); err != nil {
		return err
	}
	t := newTap(d)
	out.Begin(d.answer.Status, func(h http.Header) { headers.Downstream(h, d.answer.Header, d.in.R) })
	held, err := d.pass(out, t)
	switch {
	case held != nil:
		return d.completeDraining(out, t, held)
	case errors.Is(err, io.EOF) && (!d.plan.Kind.Metered() || t.choicesFinished()):
		return d.complete(out, t, nil)
	}
	return d.broken(out, t, err)
}

// pass passes events on. It returns the terminal event, which it has not sent, or an error.
func (d *delivery) pass(out *sse.Writer, t *tap) (held []byte, err error) {
	a := d.answer
	for {
		event, err := a.Next()
		if err != nil {
			return nil, err
		}
		if event.Half && d.plan.Kind.Metered() && !openai.IsDone(event.Data) {
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
		if err := send(out, event.Raw); err != nil {
			return nil, err
		}
	}
}

// completeDraining completes the stream, and meanwhile reads the rest of the region's
// answer so that the connection can be used again.
func (d *delivery) completeDraining(out *sse.Writer, t *tap, held []byte) error {
	var drained sync.WaitGroup
	drained.Go(d.answer.Drain)
	err := d.complete(out, t, held)
	d.answer.Close()
	drained.Wait()
	return err
}

// complete sends the terminal event after the end record is durable.
func (d *delivery) complete(out *sse.Writer, t *tap, held []byte) error {
	t.finish()
	d.in.Record.Outcome = gateway.Complete
	err := d.settle()
	out.Stop()
	if err != nil {
		d.sendError(out, err)
		return ErrAborted
	}
	if held != nil && send(out, held) != nil {
		return ErrAborted
	}
	return nil
}

// broken ends a stream that cannot be completed. If the region has sent an error event
// itself, the client has it already, and broken sends no second one.
func (d *delivery) broken(out *sse.Writer, t *tap, err error) error {
	out.Stop()
	switch {
	case errors.Is(err, errNotRecorded):
		d.sendError(out, err)
	case d.slotLost():
		d.sendError(out, d.reservation.Err())
	case d.isRegionsFault(err) && !t.failed:
		d.sendError(out, gateway.UpstreamBrokeOff.Because(nil))
	}
	t.finish()
	return d.abandon(err)
}

// sendError sends err as an error event. If err is no *gateway.Error, its text is internal,
// and the client gets a general message.
func (d *delivery) sendError(out *sse.Writer, err error) {
	code, message := "server_error", "The answer could not be completed."
	if e, ok := errors.AsType[*gateway.Error](err); ok {
		code, message = e.Code, e.Message
	}
	_ = send(out, openai.ErrorEvent(d.plan.Kind, code, message)) // an error does not matter: the connection is aborted next
}

func send(out *sse.Writer, b []byte) error {
	if _, err := out.Write(b); err != nil {
		return errClientWrite
	}
	return nil
}
