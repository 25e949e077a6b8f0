package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strconv"
	"time"

	"aoaigateway/handler/affinity"
	"aoaigateway/handler/audit"
	"aoaigateway/handler/backend"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/headers"
	"aoaigateway/handler/meter"
	"aoaigateway/handler/openai"
	"aoaigateway/handler/plan"
	"aoaigateway/handler/quota"
	"aoaigateway/handler/sse"
)

var (
	errAnswerTimeout = errors.New("no answer began within the answer timeout")
	errTotalTimeout  = errors.New("the request took longer than the total timeout")
	errClientWrite   = errors.New("the client did not accept the answer")
	errNotRecorded   = errors.New("the answer cannot be recorded")
)

// delivery is one planned request while the gateway fetches its answer and passes it on.
// Only the request's goroutine uses it.
type delivery struct {
	in          Inference
	plan        *plan.Plan
	options     *Options
	outputs     *meter.Averages
	reservation *quota.Reservation
	meter       meter.Meter
	owner       *affinity.Pending // the write that notes which subscription owns a new response; nil = not begun
	answer      *backend.Answer   // nil until a region has answered
}

// run gets an answer from the pool and passes it on.
func (d *delivery) run() error {
	ctx, cancel := context.WithTimeoutCause(d.in.R.Context(), d.options.TotalTimeout, errTotalTimeout)
	defer cancel()
	ctx, cut := context.WithCancelCause(ctx)
	defer cut(nil)
	if lost := d.reservation.Done(); lost != nil {
		go func() { // ends the request, because another request may take its lost slot
			select {
			case <-lost:
				cut(d.reservation.Err())
			case <-ctx.Done():
			}
		}()
	}
	if d.plan.Call.Stream {
		return d.runStream(ctx)
	}
	return d.runWhole(ctx)
}

func (d *delivery) runWhole(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	limit := time.AfterFunc(d.options.AnswerTimeout, func() { cancel(errAnswerTimeout) })
	err := d.ask(ctx)
	limit.Stop()
	if err != nil {
		return err
	}
	defer d.answer.Close()
	switch {
	case d.answer.Events != nil:
		out := sse.NewWriter(d.in.W, d.options.Heartbeat)
		defer out.Stop()
		return d.stream(out)
	case d.answer.Rest != nil:
		return d.long()
	default:
		return d.whole()
	}
}

// ask gets the beginning of an answer from the pool and records which region sent it.
func (d *delivery) ask(ctx context.Context) error {
	var charged backend.Hold
	if d.plan.Kind.Metered() {
		charged = hold{d.reservation}
	}
	answer, attempts, err := d.options.Pool.Do(ctx, &d.plan.Call, charged)
	rec := d.in.Record
	rec.Attempts = attempts
	if err != nil {
		return d.timeoutOr(ctx, err)
	}
	d.answer = answer
	rec.Region, rec.Deployment, rec.BackendAPIVersion = answer.Region, answer.Deployment, answer.APIVersion
	rec.BackendStatus, rec.Status = answer.Status, answer.Status
	if answer.Pinned != "" {
		rec.ErrorReason, rec.ErrorMessage = gateway.RegionPinned.Code, "Only the region that "+answer.Pinned+" was asked."
		d.in.W.Header().Set("X-Gateway-Pinned", rec.ErrorMessage)
	}
	rec.FirstByteMilli = time.Since(rec.Time).Milliseconds()
	return nil
}

// capture starts the recording of the answer's body.
func (d *delivery) capture() *audit.Capture {
	return d.in.Audit.Response(d.answer.Header.Get("Content-Type"))
}

// rememberOwner starts the write that notes which region keeps the response, if raw
// contains the response's id.
func (d *delivery) rememberOwner(raw []byte) {
	if d.owner != nil || !d.plan.KeepsResponse() {
		return
	}
	if id := openai.ResponseID(raw); id != "" {
		d.owner = d.options.Owners.Begin(d.in.R.Context(), d.in.Record.Subscription, id, d.answer.Region)
	}
}

// whole passes on an answer whose body was read whole.
func (d *delivery) whole() error {
	a := d.answer
	_, _ = d.capture().Write(a.Whole) // cannot fail: a body of this size fits into the record itself
	if a.Succeeded() {
		d.meter.ReadWhole(a.Whole)
		d.rememberOwner(a.Whole)
	}
	d.in.Record.Outcome = gateway.Complete
	if err := d.settle(); err != nil {
		return err
	}
	headers.Downstream(d.in.W.Header(), a.Header, d.in.R)
	if headers.HasBody(a.Status) {
		d.in.W.Header().Set("Content-Length", strconv.Itoa(len(a.Whole)))
	}
	d.in.W.WriteHeader(a.Status)
	if _, err := d.in.W.Write(a.Whole); err != nil {
		return ErrAborted
	}
	return nil
}

// tail is how many bytes of a long body are held back until the end record is durable.
const tail = 64 << 10

// long passes on the body of an answer while it arrives, and holds back its last bytes.
func (d *delivery) long() error {
	a := d.answer
	if err := d.beginDurable(); err != nil {
		return err
	}
	capture := d.capture()
	if a.Succeeded() {
		d.rememberOwner(a.Whole)
	}
	headers.Downstream(d.in.W.Header(), a.Header, d.in.R)
	if n := a.Header.Get("Content-Length"); n != "" && headers.HasBody(a.Status) {
		d.in.W.Header().Set("Content-Length", n)
	}
	d.in.W.WriteHeader(a.Status)
	held, err := copyHolding(d.in.W, capture, io.MultiReader(bytes.NewReader(a.Whole), a.Rest))
	if err != nil {
		return d.abandon(err)
	}
	d.meter.ReadTail(held)
	d.in.Record.Outcome = gateway.Complete
	if err := d.settle(); err != nil {
		return ErrAborted
	}
	if _, err := d.in.W.Write(held); err != nil {
		return ErrAborted
	}
	return nil
}

// beginDurable waits until the begin record is durable. If that fails, the client gets no
// answer, but the charge stays because the region may have worked for it.
func (d *delivery) beginDurable() error {
	err := d.in.Audit.BeginDurable(d.in.R.Context())
	if err != nil && d.answer.Succeeded() {
		d.reservation.Keep()
	}
	return err
}

// copyHolding copies src to the client and to the record. It returns the last bytes, which
// the client has not received yet.
func copyHolding(w io.Writer, capture *audit.Capture, src io.Reader) (held []byte, err error) {
	buf := make([]byte, 32<<10)
	for {
		n, readErr := src.Read(buf)
		if n > 0 {
			if _, err := capture.Write(buf[:n]); err != nil {
				return nil, notRecorded(err)
			}
			held = append(held, buf[:n]...)
		}
		if over := len(held) - tail; over > tail || over > 0 && readErr != nil {
			if _, err := w.Write(held[:over]); err != nil {
				return nil, errClientWrite
			}
			held = append(held[:0], held[over:]...)
		}
		if errors.Is(readErr, io.EOF) {
			return held, nil
		}
		if readErr != nil {
			return nil, readErr
		}
	}
}
