package affinity

import (
	"context"
	"errors"
	"time"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/table"
)

// invocationLifetime covers the few seconds in which the Functions host repeats an invocation.
const invocationLifetime = time.Hour

// FirstDelivery makes it durable that this process serves the invocation. It refuses an
// invocation that was delivered before: when the gateway dies, the Functions host sends
// requests without a body again, to the next process and with the same invocation id. An
// empty id stands for a request that may be repeated.
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
