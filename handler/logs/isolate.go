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
type trip struct {
	shipper  *Shipper
	taken    int // calls accepted so far
	refused  int // batches of which nothing was accepted
	last     *refusal
	suspects []suspect
}

type suspect struct {
	packed
	taken int // trip.taken when it was refused
}

// send ships a batch and leaves in suspects what was refused by itself.
func (t *trip) send(ctx context.Context, batch []packed) error {
	before := t.taken
	if err := t.search(ctx, batch); err != nil || t.taken > before {
		return err
	}
	if _, ok := t.shipper.known(); ok {
		return t.testify(ctx)
	}
	if t.refused++; t.refused >= maxRefused {
		return t.verdict()
	}
	return nil
}

// search finds the refused rows of a batch. A few rows spread over it go first, each by
// itself, others each time: if the service takes none of them, the rest need not be asked yet.
func (t *trip) search(ctx context.Context, batch []packed) error {
	ok, err := t.ask(ctx, batch)
	switch {
	case err != nil || ok:
		return err
	case len(batch) == 1:
		t.suspect(batch)
		return nil
	case t.last.status == http.StatusRequestEntityTooLarge:
		return t.halves(ctx, batch)
	}
	before := t.taken
	step := max(1, len(batch)/maxProbes)
	first := rand.N(step) //nolint:gosec // chance, no secret
	var rest []packed
	for i, p := range batch {
		if i%step != first || i/step >= maxProbes {
			rest = append(rest, p)
			continue
		}
		if err := t.bisect(ctx, []packed{p}); err != nil {
			return err
		}
	}
	if t.taken == before {
		t.suspect(rest)
		return nil
	}
	return t.bisect(ctx, rest)
}

func (t *trip) bisect(ctx context.Context, batch []packed) error {
	if len(batch) == 0 {
		return nil
	}
	ok, err := t.ask(ctx, batch)
	switch {
	case err != nil || ok:
		return err
	case len(batch) == 1:
		t.suspect(batch)
		return nil
	}
	return t.halves(ctx, batch)
}

func (t *trip) halves(ctx context.Context, batch []packed) error {
	half := len(batch) / 2
	if err := t.bisect(ctx, batch[:half]); err != nil {
		return err
	}
	return t.bisect(ctx, batch[half:])
}

// ask sends one call and says whether it was taken; an answer that says nothing of its
// rows is the verdict.
func (t *trip) ask(ctx context.Context, batch []packed) (bool, error) {
	r, err := t.shipper.upload(ctx, batch)
	switch {
	case err != nil:
		return false, err
	case r == nil:
		t.taken++
		t.shipper.remember(batch[0])
		return true, nil
	}
	t.last = r
	if !aboutRows(r.status, batch) {
		return false, t.verdict()
	}
	return false, nil
}

// aboutRows says whether a refusal can be one row's fault.
func aboutRows(status int, batch []packed) bool {
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

func (t *trip) suspect(batch []packed) {
	for _, p := range batch {
		t.suspects = append(t.suspects, suspect{p, t.taken})
	}
}

// settle asks the suspects again once it is known that the service takes other rows.
func (t *trip) settle(ctx context.Context) error {
	for _, s := range t.suspects {
		if t.taken == s.taken {
			if err := t.testify(ctx); err != nil {
				return err
			}
		}
		ok, err := t.ask(ctx, []packed{s.packed})
		if err == nil && !ok {
			err = t.aside(ctx, s)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// testify fails unless the service takes the witness now.
func (t *trip) testify(ctx context.Context) error {
	w, ok := t.shipper.known()
	if !ok {
		return t.verdict()
	}
	ok, err := t.ask(ctx, []packed{w})
	if err == nil && !ok {
		err = t.verdict()
	}
	return err
}

func (t *trip) aside(ctx context.Context, s suspect) error {
	text := fmt.Sprintf("status %d: %s", t.last.status, t.last.reason)
	if err := t.shipper.options.Aside(ctx, *s.row, text); err != nil {
		return fmt.Errorf("logs: row %s is refused (%s) and could not be set aside: %w", s.row.RecordID, text, err)
	}
	t.shipper.options.Logger.Error("row set aside", "id", s.row.RecordID, "reason", text)
	return nil
}

func (t *trip) verdict() error { return &RefusedError{t.last.status, t.last.reason} }
