package affinity

import (
	"context"
	"errors"
	"time"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/table"
)

// invocationLifetime is how long an invocation id is kept. The Functions host repeats an
// invocation only within a few seconds.
const invocationLifetime = time.Hour

// FirstDelivery records durably that this process serves the invocation. It fails if the
// invocation was delivered before: when the gateway dies, the Functions host sends requests
// without a body again, with the same invocation id, to the next process. An empty id means
// that the request may be repeated.
func (s *Store) FirstDelivery(ctx context.Context, subscription, invocation string) error {
	if invocation == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.options.ReadTimeout)
	defer cancel()
	row := owner{subscription: subscription, until: s.now().Add(invocationLifetime)}
	_, err := s.options.Table.Insert(ctx, row.encode("invocation/"+invocation))
	switch {
	case errors.Is(err, table.ErrExists):
		return gateway.MayBeDone.Because(nil)
	case err != nil:
		return gateway.StorageUnavailable.Because(err).WithRetry(time.Second)
	}
	return nil
}
