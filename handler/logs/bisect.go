package logs

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
)

// The bounds of a search for what the service does not take, while it takes nothing: rows
// asked by themselves in one batch, and batches refused whole.
const (
	maxProbes  = 8
	maxRefused = 4
)

// smallCall is a call whose size nobody can object to.
const smallCall = 100_000

// trip is one call of Ship. A row that was refused by itself is a suspect until another
// row, taken after it, proves that the refusal was the row's own. Where there is no other,
// the witness is sent once more: a row that was taken before, of which one copy more does
// no harm.
type shipment struct {
	shipper        *Shipper
	taken          int // calls accepted so far
	refusedBatches int // batches of which nothing was accepted
	last           *refusal
	refusedRows    []refusedRow
}

type refusedRow struct {
	encodedRow
	taken int // trip.taken when it was refused
}

// send ships a batch and leaves in suspects what was refused by itself.
func (t *shipment) send(ctx context.Context, batch []encodedRow) error {
	before := t.taken
	if err := t.findRefused(ctx, batch); err != nil || t.taken > before {
		return err
	}
	if _, ok := t.shipper.canaryRow(); ok {
		return t.sendCanary(ctx)
	}
	if t.refusedBatches++; t.refusedBatches >= maxRefused {
		return t.refusedError()
	}
	return nil
}

// search finds the refused rows of a batch. A few rows spread over it go first, each by
// itself, others each time: if the service takes none of them, the rest need not be asked yet.
func (t *shipment) findRefused(ctx context.Context, batch []encodedRow) error {
	ok, err := t.try(ctx, batch)
	switch {
	case err != nil || ok:
		return err
	case len(batch) == 1:
		t.addRefused(batch)
		return nil
	case t.last.status == http.StatusRequestEntityTooLarge:
		return t.halves(ctx, batch)
	}
	before := t.taken
	step := max(1, len(batch)/maxProbes)
	first := rand.N(step) //nolint:gosec // chance, no secret
	var rest []encodedRow
	for i, p := range batch {
		if i%step != first || i/step >= maxProbes {
			rest = append(rest, p)
			continue
		}
		if err := t.bisect(ctx, []encodedRow{p}); err != nil {
			return err
		}
	}
	if t.taken == before {
		t.addRefused(rest)
		return nil
	}
	return t.bisect(ctx, rest)
}

func (t *shipment) bisect(ctx context.Context, batch []encodedRow) error {
	if len(batch) == 0 {
		return nil
	}
	ok, err := t.try(ctx, batch)
	switch {
	case err != nil || ok:
		return err
	case len(batch) == 1:
		t.addRefused(batch)
		return nil
	}
	return t.halves(ctx, batch)
}

func (t *shipment) halves(ctx context.Context, batch []encodedRow) error {
	half := len(batch) / 2
	if err := t.bisect(ctx, batch[:half]); err != nil {
		return err
	}
	return t.bisect(ctx, batch[half:])
}

// ask sends one call and says whether it was taken; an answer that says nothing of its
// rows is the verdict.
func (t *shipment) try(ctx context.Context, batch []encodedRow) (bool, error) {
	r, err := t.shipper.upload(ctx, batch)
	switch {
	case err != nil:
		return false, err
	case r == nil:
		t.taken++
		t.shipper.setCanary(batch[0])
		return true, nil
	}
	t.last = r
	if !aboutRows(r.status, batch) {
		return false, t.refusedError()
	}
	return false, nil
}

// aboutRows says whether a refusal can be one row's fault.
func aboutRows(status int, batch []encodedRow) bool {
	switch status {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusUnprocessableEntity:
		return true
	case http.StatusRequestEntityTooLarge:
		n := 0
		for _, p := range batch {
			n += len(p.raw) + 1
		}
		return n > smallCall
	default:
		return false
	}
}

func (t *shipment) addRefused(batch []encodedRow) {
	for _, p := range batch {
		t.refusedRows = append(t.refusedRows, refusedRow{p, t.taken})
	}
}

// settle asks the suspects again once it is known that the service takes other rows.
func (t *shipment) confirmRefused(ctx context.Context) error {
	for _, s := range t.refusedRows {
		if t.taken == s.taken {
			if err := t.sendCanary(ctx); err != nil {
				return err
			}
		}
		ok, err := t.try(ctx, []encodedRow{s.encodedRow})
		if err == nil && !ok {
			err = t.deadLetter(ctx, s)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// testify fails unless the service takes the witness now.
func (t *shipment) sendCanary(ctx context.Context) error {
	w, ok := t.shipper.canaryRow()
	if !ok {
		return t.refusedError()
	}
	ok, err := t.try(ctx, []encodedRow{w})
	if err == nil && !ok {
		err = t.refusedError()
	}
	return err
}

func (t *shipment) deadLetter(ctx context.Context, s refusedRow) error {
	text := fmt.Sprintf("status %d: %s", t.last.status, t.last.reason)
	if err := t.shipper.options.DeadLetter(ctx, *s.row, text); err != nil {
		return fmt.Errorf("logs: row %s is refused (%s) and could not be set aside: %w", s.row.RecordID, text, err)
	}
	t.shipper.options.Logger.Error("row set aside", "id", s.row.RecordID, "reason", text)
	return nil
}

func (t *shipment) refusedError() error { return &RefusedError{t.last.status, t.last.reason} }
