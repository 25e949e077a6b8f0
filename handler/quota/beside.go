package quota

import (
	"context"
	"slices"
)

// Beside holds the request's cost once more, for an attempt that runs beside the present
// one, or returns the *gateway.Error that refuses it. It counts no request and takes no
// slot. The new reservation is settled or cancelled on its own; it may be made on another
// goroutine while the first one rests.
func (r *Reservation) Beside(ctx context.Context) (*Reservation, error) {
	other := &Reservation{cost: r.cost, model: r.model, parts: slices.Clone(r.parts)}
	if err := other.take(ctx, 0); err != nil {
		return nil, err
	}
	return other, nil
}
