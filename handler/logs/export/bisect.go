package export

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
)

// Limits of the search for bad rows while the service accepts no row.
const (
	maxProbes  = 8 // rows of one batch that are sent alone
	maxRefused = 4 // batches of which the service accepted nothing
)

// smallCall is the size in bytes of a call that cannot be too large for the service.
const smallCall = 100_000

// shipment is one call of Ship. A row that is refused when it is sent alone is bad only if
// the service accepts another row afterwards: that proves that the service does not refuse
// all rows. If there is no other row, the shipment sends the canary row, that is a row that
// the service accepted before. A second copy of it does no harm.
type shipment struct {
	shipper        *Shipper
	taken          int // number of calls that the service has accepted so far
	refusedBatches int // number of batches of which it accepted no row
	last           *refusal
	refusedRows    []refusedRow
}

type refusedRow struct {
	encodedRow
	taken int // value of shipment.taken when the row was refused
}

// send ships a batch. It adds rows that are refused when they are sent alone to
// refusedRows.
func (s *shipment) send(ctx context.Context, batch []encodedRow) error {
	before := s.taken
	if err := s.findRefused(ctx, batch); err != nil || s.taken > before {
		return err
	}
	if _, ok := s.shipper.canaryRow(); ok {
		return s.sendCanary(ctx)
	}
	if s.refusedBatches++; s.refusedBatches >= maxRefused {
		return s.refusedError()
	}
	return nil
}

// findRefused finds the refused rows of a batch. It first sends a few rows alone. They are
// spread over the batch and differ each time. If the service accepts none of them,
// findRefused stops.
func (s *shipment) findRefused(ctx context.Context, batch []encodedRow) error {
	ok, err := s.try(ctx, batch)
	switch {
	case err != nil || ok:
		return err
	case len(batch) == 1:
		s.addRefused(batch)
		return nil
	case s.last.status == http.StatusRequestEntityTooLarge:
		return s.halves(ctx, batch)
	}
	before := s.taken
	step := max(1, len(batch)/maxProbes)
	first := rand.N(step) //nolint:gosec // spreads the probes; needs no secret randomness
	var rest []encodedRow
	for i, row := range batch {
		if i%step != first || i/step >= maxProbes {
			rest = append(rest, row)
			continue
		}
		if err := s.bisect(ctx, []encodedRow{row}); err != nil {
			return err
		}
	}
	if s.taken == before {
		s.addRefused(rest)
		return nil
	}
	return s.bisect(ctx, rest)
}

// bisect halves a batch until every call is accepted or has a single row.
func (s *shipment) bisect(ctx context.Context, batch []encodedRow) error {
	if len(batch) == 0 {
		return nil
	}
	ok, err := s.try(ctx, batch)
	switch {
	case err != nil || ok:
		return err
	case len(batch) == 1:
		s.addRefused(batch)
		return nil
	}
	return s.halves(ctx, batch)
}

func (s *shipment) halves(ctx context.Context, batch []encodedRow) error {
	half := len(batch) / 2
	if err := s.bisect(ctx, batch[:half]); err != nil {
		return err
	}
	return s.bisect(ctx, batch[half:])
}

// try sends one call and reports whether the service accepted it. If the refusal cannot be
// caused by a row, try returns an error.
func (s *shipment) try(ctx context.Context, batch []encodedRow) (bool, error) {
	r, err := s.shipper.upload(ctx, batch)
	switch {
	case err != nil:
		return false, err
	case r == nil:
		s.taken++
		s.shipper.setCanary(batch[0])
		return true, nil
	}
	s.last = r
	if !r.aboutRows(batch) {
		return false, s.refusedError()
	}
	return false, nil
}

// aboutRows reports whether a single row can have caused the refusal. A 403 never is about
// rows: the service says with it that the identity has no access to the rule, and a new
// role takes up to 30 minutes to reach all front ends (Azure.Monitor.Ingestion,
// TROUBLESHOOTING.md).
func (r *refusal) aboutRows(batch []encodedRow) bool {
	switch r.status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return r.code != "InvalidStream" && r.code != "InvalidApiVersion"
	case http.StatusRequestEntityTooLarge:
		n := 0
		for _, row := range batch {
			n += len(row.raw) + 1
		}
		return n > smallCall
	default:
		return false
	}
}

func (s *shipment) addRefused(batch []encodedRow) {
	for _, row := range batch {
		s.refusedRows = append(s.refusedRows, refusedRow{row, s.taken})
	}
}

// confirmRefused sends each refused row again if the service has accepted another row
// since. A row that is refused again is bad.
func (s *shipment) confirmRefused(ctx context.Context) error {
	for _, row := range s.refusedRows {
		if s.taken == row.taken {
			if err := s.sendCanary(ctx); err != nil {
				return err
			}
		}
		ok, err := s.try(ctx, []encodedRow{row.encodedRow})
		if err == nil && !ok {
			err = s.deadLetter(ctx, row)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sendCanary sends the canary row and returns an error if the service does not accept it.
func (s *shipment) sendCanary(ctx context.Context) error {
	canary, ok := s.shipper.canaryRow()
	if !ok {
		return s.refusedError()
	}
	ok, err := s.try(ctx, []encodedRow{canary})
	if err == nil && !ok {
		err = s.refusedError()
	}
	return err
}

func (s *shipment) deadLetter(ctx context.Context, bad refusedRow) error {
	reason := fmt.Sprintf("status %d: %s", s.last.status, s.last.reason)
	if err := s.shipper.options.DeadLetter(ctx, *bad.row, reason); err != nil {
		return fmt.Errorf("logs: Log Analytics refuses row %s (%s), and it could not be stored as a dead letter: %w",
			bad.row.RecordID, reason, err)
	}
	s.shipper.options.Logger.Error("Log Analytics refuses a row, which was stored as a dead letter",
		"id", bad.row.RecordID, "reason", reason)
	return nil
}

func (s *shipment) refusedError() error { return &RefusedError{s.last.status, s.last.reason} }
