package affinity

import (
	"context"
	"errors"
	"fmt"
	"time"

	"aoaigateway/handler/table"
)

// The timer runs every 5 minutes. One partition in each run covers the whole table in 21
// hours.
const (
	partitions  = 256
	timerPeriod = 5 * time.Minute
)

// Purge deletes the expired rows of one partition; the time selects the partition. Rows
// that cannot be decoded are kept.
func (s *Store) Purge(ctx context.Context) (string, error) {
	now := s.now()
	partition := fmt.Sprintf("%02x", now.Unix()/int64(timerPeriod/time.Second)%partitions)
	kept, deleted := 0, 0
	for e, err := range s.options.Table.Scan(ctx, partition) {
		if err != nil {
			return "", err
		}
		known, err := decode(e)
		if err != nil || now.Before(known.until) {
			kept++
			continue
		}
		if err := s.options.Table.Delete(ctx, e); err != nil && !errors.Is(err, table.ErrNotFound) {
			return "", err
		}
		deleted++
	}
	return fmt.Sprintf("partition %s: %d rows kept, %d expired rows deleted", partition, kept, deleted), nil
}
