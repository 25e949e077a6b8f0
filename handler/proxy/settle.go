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

// settle ends the request: usage and price go into the record, the reservation becomes
// what was used, the end record and the owner of a new response become durable. All
// writes run in parallel.
func (d *delivery) settle() error {
	rec := d.in.Record
	rec.TotalMilli = time.Since(rec.Time).Milliseconds()
	worked := d.answer != nil && d.answer.Succeeded() // then missing usage must be estimated
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
		d.options.Logger.Error("region of a response not recorded", "record_id", rec.ID, "error", ownerErr)
		if d.in.Audit.Withhold() {
			err = ownerErr
		}
	}
	return err
}

// settleReservation charges what was used, or gives the reservation back if nothing was.
func (d *delivery) settleReservation(ctx context.Context, used bool) {
	if !used {
		d.reservation.Release(ctx)
		return
	}
	err := d.reservation.Settle(ctx, d.meter.Usage)
	if err != nil && !errors.Is(err, quota.ErrPending) { // pending settlements go on in the background
		d.options.Logger.Warn("settle failed", "record_id", d.in.Record.ID, "error", err)
	}
}

// priceOf is nil where the policy has no price.
func priceOf(pol *policy.Policy, kind openai.Kind, model string, usage gateway.Usage) *gateway.Cost {
	m, ok := pol.Cost(usage, model)
	if !ok || !kind.Metered() {
		return nil
	}
	return &gateway.Cost{Millionths: m.Millionths, Currency: m.Currency, PriceVersion: m.PriceVersion}
}

// abandon settles an answer that broke off after bytes of it had left.
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

// isRegionsFault reports whether the region broke the answer off: nobody else has a
// reason to.
func (d *delivery) isRegionsFault(err error) bool {
	return d.in.R.Context().Err() == nil && !errors.Is(err, errClientWrite) && !errors.Is(err, errNotRecorded) && d.reservation.Err() == nil
}

// slotLost reports whether the request was cut because it lost its slot in a hard limit on
// concurrent requests.
func (d *delivery) slotLost() bool {
	return d.in.R.Context().Err() == nil && d.reservation.Err() != nil
}

// timeoutOr replaces the pool's error by our own time limit's when that ended ctx: a time
// limit and a client that leaves both end the context.
func (d *delivery) timeoutOr(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if e, ok := errors.AsType[*gateway.Error](cause); ok {
		return e
	}
	switch {
	case errors.Is(cause, errAnswerTimeout):
		return gateway.Timeout.New(
			"No answer within %v. Ask for a stream (\"stream\": true) to get long answers as they are written.", d.options.AnswerTimeout,
		).WithCause(cause)
	case errors.Is(cause, errTotalTimeout):
		return gateway.Timeout.New("No answer within %v, the longest this gateway waits.", d.options.TotalTimeout).WithCause(cause)
	}
	return err
}

func notRecorded(err error) error { return fmt.Errorf("%w: %w", errNotRecorded, err) }
