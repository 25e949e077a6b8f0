package logs

import (
	"context"
	"fmt"
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
// row, taken after it, proves that the refusal was the row's own.
type trip struct {
	shipper  *Shipper
	ctx      context.Context //nolint:containedctx // lives as long as one call
	taken    int             // calls accepted so far
	refused  int             // batches of which nothing was accepted
	last     *refusal
	suspects []suspect
}

type suspect struct {
	packed
	refusal *refusal
	taken   int // trip.taken when it was refused
}

// send ships a batch and leaves in suspects what was refused by itself.
func (t *trip) send(batch []packed) error {
	before := t.taken
	if err := t.try(batch); err != nil {
		return err
	}
	if t.taken > before {
		return nil
	}
	if t.refused++; t.refused >= maxRefused && t.taken == 0 {
		return t.verdict()
	}
	return nil
}

// try sends batch as one call if it can, else in parts.
func (t *trip) try(batch []packed) error {
	r, err := t.shipper.upload(t.ctx, batch)
	switch {
	case err != nil:
		return err
	case r == nil:
		t.taken++
		return nil
	}
	t.last = r
	switch {
	case !r.aboutRows():
		return t.verdict()
	case len(batch) == 1:
		t.suspects = append(t.suspects, suspect{batch[0], r, t.taken})
		return nil
	case r.status == http.StatusRequestEntityTooLarge && sizeOf(batch) > smallCall:
		return t.halves(batch)
	}
	return t.isolate(batch)
}

func (t *trip) halves(batch []packed) error {
	if t.hopeless() {
		t.doubt(batch)
		return nil
	}
	half := len(batch) / 2
	if err := t.try(batch[:half]); err != nil {
		return err
	}
	return t.try(batch[half:])
}

// isolate finds the refused rows of a batch. A few rows spread over it go first, each by
// itself: if the service takes none of them, it takes nothing, and the rest need not be asked.
func (t *trip) isolate(batch []packed) error {
	before := t.taken
	step := max(1, len(batch)/maxProbes)
	var rest []packed
	for i, p := range batch {
		if i%step != 0 || i/step >= maxProbes {
			rest = append(rest, p)
			continue
		}
		if err := t.try([]packed{p}); err != nil {
			return err
		}
	}
	if len(rest) == 0 {
		return nil
	}
	if t.taken == before {
		t.doubt(rest)
		return nil
	}
	return t.halvesOf(rest)
}

// halvesOf bisects rows of which the service is known to take some.
func (t *trip) halvesOf(batch []packed) error {
	r, err := t.shipper.upload(t.ctx, batch)
	switch {
	case err != nil:
		return err
	case r == nil:
		t.taken++
		return nil
	case !r.aboutRows():
		t.last = r
		return t.verdict()
	case len(batch) == 1:
		t.suspects = append(t.suspects, suspect{batch[0], r, t.taken})
		return nil
	}
	t.last = r
	half := len(batch) / 2
	if err := t.halvesOf(batch[:half]); err != nil {
		return err
	}
	return t.halvesOf(batch[half:])
}

// hopeless says that so many rows were refused by themselves, and none taken, that it is
// no row's fault.
func (t *trip) hopeless() bool { return t.taken == 0 && len(t.suspects) >= maxProbes }

// doubt makes suspects of rows that were not asked by themselves.
func (t *trip) doubt(batch []packed) {
	for _, p := range batch {
		t.suspects = append(t.suspects, suspect{p, t.last, t.taken})
	}
}

// settle asks the suspects again, now that it is known whether the service takes anything.
func (t *trip) settle() error {
	for len(t.suspects) > 0 {
		s := t.suspects[0]
		if t.taken == s.taken { // nothing was taken since
			return t.verdict()
		}
		r, err := t.shipper.upload(t.ctx, []packed{s.packed})
		switch {
		case err != nil:
			return err
		case r == nil:
			t.taken++
		case !r.aboutRows():
			t.last = r
			return t.verdict()
		default:
			if err := t.aside(s, r); err != nil {
				return err
			}
		}
		t.suspects = t.suspects[1:]
	}
	return nil
}

func (t *trip) aside(s suspect, r *refusal) error {
	text := fmt.Sprintf("status %d: %s", r.status, r.reason)
	if err := t.shipper.options.Aside(t.ctx, *s.row, text); err != nil {
		return fmt.Errorf("logs: row %s is refused (%s) and could not be set aside: %w", s.row.RecordId, text, err)
	}
	t.shipper.options.Logger.Error("row set aside", "id", s.row.RecordId, "reason", text)
	return nil
}

func (t *trip) verdict() error { return &RefusedError{t.last.status, t.last.reason} }

func sizeOf(batch []packed) int {
	n := 0
	for _, p := range batch {
		n += len(p.raw) + 1
	}
	return n
}
