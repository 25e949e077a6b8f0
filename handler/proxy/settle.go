package proxy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/openai"
	"aoaigateway/handler/policy"
	"aoaigateway/handler/quota"
)

// settle ends the request. It puts usage and price into the record, settles the
// reservation, and makes the end record and the owner of a new response durable. All writes
// run in parallel.
func (d *delivery) settle() error {
	rec := d.in.Record
	rec.TotalMilli = time.Since(rec.Time).Milliseconds()
	worked := d.answer != nil && d.answer.Succeeded() // if so, usage that was not reported must be estimated
	if worked {
		d.meter.EstimatePrompt(d.plan.Call.Body)
	}
	rec.Usage, rec.AnsweredModel = d.meter.Usage, d.meter.Answered
	rec.Cost = priceOf(d.options.Policy, d.plan.Kind, rec.Model, d.meter.Usage)
	if d.meter.Known && d.plan.Kind != openai.Embeddings {
		d.outputs.Observe(rec.Model, d.meter.Usage.Completion/d.plan.Request.Choices)
	}
	ctx := d.in.R.Context()
	var settled sync.WaitGroup
	settled.Go(func() { d.settleReservation(ctx, worked || d.meter.Known) })
	err := d.in.Audit.End(ctx)
	settled.Wait()
	if ownerErr := d.owner.Wait(); ownerErr != nil {
		d.options.Logger.Error("the region that keeps a new response could not be stored; later requests cannot find the response",
			"record_id", rec.ID, "error", ownerErr)
		if d.in.Audit.Withhold() {
			err = ownerErr
		}
	}
	return err
}

// settleReservation charges the usage, or releases the reservation if nothing was used.
func (d *delivery) settleReservation(ctx context.Context, used bool) {
	if !used {
		d.reservation.Release(ctx)
		return
	}
	err := d.reservation.Settle(ctx, d.meter.Usage)
	if err != nil && !errors.Is(err, quota.ErrPending) { // pending settlements go on in the background
		d.options.Logger.Warn("the usage of a request could not be charged", "record_id", d.in.Record.ID, "error", err)
	}
}

// priceOf returns the price of usage, or nil if the policy has no price for the model.
func priceOf(pol *policy.Policy, kind openai.Kind, model string, usage gateway.Usage) *gateway.Cost {
	m, ok := pol.Cost(usage, model)
	if !ok || !kind.Metered() {
		return nil
	}
	return &gateway.Cost{Millionths: m.Millionths, Currency: m.Currency, PriceVersion: m.PriceVersion}
}

// abandon settles a request whose answer broke off after the client had received bytes of
// it.
func (d *delivery) abandon(err error) error {
	rec := d.in.Record
	switch {
	case d.isRegionsFault(err):
		rec.Outcome, rec.ErrorReason = gateway.UpstreamCut, gateway.StreamTruncated.Code
	case errors.Is(err, errNotRecorded):
		rec.Outcome, rec.ErrorReason = gateway.NotDurable, gateway.AuditLogUnavailable.Code
	case d.slotLost():
		rec.Outcome, rec.ErrorReason, err = gateway.GatewayFailed, gateway.ConcurrencySlotLost.Code, d.reservation.Err()
	default:
		rec.Outcome, rec.ErrorReason = gateway.ClientLeft, gateway.ClientConnectionFailure.Code
	}
	rec.ErrorMessage = err.Error()
	_ = d.settle()
	return ErrAborted
}

// isRegionsFault reports whether the region broke the answer off, rather than the client, a
// failure of the journal or the loss of the request's slot.
func (d *delivery) isRegionsFault(err error) bool {
	return d.in.R.Context().Err() == nil && !errors.Is(err, errClientWrite) && !errors.Is(err, errNotRecorded) && d.reservation.Err() == nil
}

// slotLost reports whether the gateway ended the request because the request lost its slot
// in a hard limit on concurrent requests.
func (d *delivery) slotLost() bool {
	return d.in.R.Context().Err() == nil && d.reservation.Err() != nil
}

// timeoutOr returns the error that explains why ctx ended: our own time limit or a lost
// slot. If neither ended ctx, it returns err.
func (d *delivery) timeoutOr(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if e, ok := errors.AsType[*gateway.Error](cause); ok {
		return e
	}
	switch {
	case errors.Is(cause, errAnswerTimeout):
		return gateway.Timeout.New(
			"No answer began within %v. Ask for a stream (\"stream\": true) to get long answers as they are written.", d.options.AnswerTimeout,
		).WithCause(cause)
	case errors.Is(cause, errTotalTimeout):
		return gateway.Timeout.New("The request took longer than %v, the longest allowed.", d.options.TotalTimeout).WithCause(cause)
	}
	return err
}

func notRecorded(err error) error { return fmt.Errorf("%w: %w", errNotRecorded, err) }
