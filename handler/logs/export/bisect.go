package export

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
)

// The bounds of a search for bad rows while the service takes nothing.
const (
	maxProbes  = 8 // rows of one batch that are sent by themselves
	maxRefused = 4 // batches that are refused whole
)

// smallCall is a call's size in bytes that no limit of the service refuses.
const smallCall = 100_000

// shipment is one call of Ship. A row that was refused by itself is bad only if the service takes another row after
// it, which proves that the refusal was not about all rows. If no other row is left, the canary row is sent once more:
// a row that was taken before, of which another copy does no harm.
type shipment struct {
	shipper        *Shipper
	taken          int // calls accepted so far
	refusedBatches int // batches of which nothing was accepted
	last           *refusal
	refusedRows    []refusedRow
}

type refusedRow struct {
	encodedRow
	taken int // shipment.taken when it was refused
}

// send ships a batch and adds the rows that were refused by themselves to refusedRows.
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

// findRefused finds the refused rows of a batch. First it sends a few rows spread over the batch by themselves, other
// rows each time. If the service takes none of them, it sends no others yet.
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

// bisect halves a batch until each call is taken or has a single row.
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

// try sends one call and reports whether the service took it. A refusal that is not about the rows is an error.
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
	if !aboutRows(r.status, batch) {
		return false, s.refusedError()
	}
	return false, nil
}

// aboutRows reports whether a single row can be the reason of a refusal.
func aboutRows(status int, batch []encodedRow) bool {
	switch status {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusUnprocessableEntity:
		return true
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

// confirmRefused sends the refused rows again once the service has taken another row. What it refuses again is bad.
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

// sendCanary fails unless the service takes the canary row now.
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
	s.shipper.options.Logger.Error("Log Analytics refuses a row; it is a dead letter now", "id", bad.row.RecordID, "reason", reason)
	return nil
}

func (s *shipment) refusedError() error { return &RefusedError{s.last.status, s.last.reason} }
