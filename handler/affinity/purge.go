package affinity

import (
	"context"
	"errors"
	"fmt"
	"time"

	"aoaigateway/handler/table"
)

// The timer comes every five minutes; a partition a time is the whole table in 21 hours.
const (
	partitions  = 256
	sweepPeriod = 5 * time.Minute
)

// Purge deletes what is over from the partition whose turn it is.
func (o *Store) Purge(ctx context.Context) (string, error) {
	now := o.now()
	turn := fmt.Sprintf("%02x", now.Unix()/int64(sweepPeriod/time.Second)%partitions)
	kept, gone := 0, 0
	for e, err := range o.options.Table.Scan(ctx, turn) {
		if err != nil {
			return "", err
		}
		known, err := parse(e)
		if err != nil || now.Before(known.until) {
			kept++
			continue
		}
		if err := o.options.Table.Delete(ctx, e); err != nil && !errors.Is(err, table.ErrNotFound) {
			return "", err
		}
		gone++
	}
	return fmt.Sprintf("partition %s: %d kept, %d deleted", turn, kept, gone), nil
}
