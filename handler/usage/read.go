package usage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"aoaigateway/handler/backoff"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/table"
)

// Query asks for sums over a range of whole hours. By lists what to group by: subscription,
// product, user, model, region.
type Query struct {
	From, To time.Time // To itself is not included
	By       []string
}

const (
	maxHours  = 366 * 24
	parallel  = 16
	maxReread = 10
)

// check returns an InvalidQuery error if q is not valid.
func (q Query) check() error {
	bad := func(format string, args ...any) error {
		return gateway.InvalidQuery.New(format, args...)
	}
	for _, name := range q.By {
		if keyFields[strings.ToLower(name)] == nil {
			return bad("Usage cannot be grouped by %q. Use subscription, product, user, model or region.", name)
		}
	}
	switch hours := q.To.Sub(q.From).Hours(); {
	case hours <= 0:
		return bad("The range of time is empty: from %s to %s. The end must be after the beginning.", q.From.Format(time.RFC3339),
			q.To.Format(time.RFC3339))
	case hours > maxHours:
		return bad("The range of time is longer than %d days. Choose a shorter range.", maxHours/24)
	}
	return nil
}

// Read returns the sums, most tokens first.
func (s *Store) Read(ctx context.Context, q Query) ([]Row, error) {
	if err := q.check(); err != nil {
		return nil, err
	}
	from := q.From.UTC().Truncate(time.Hour)
	var hours []string
	for at := from; at.Before(q.To); at = at.Add(time.Hour) {
		hours = append(hours, at.Format(hourLayout))
	}
	found := make([]entity, len(hours))
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for i, hour := range hours {
		group.Go(func() (err error) {
			found[i], err = s.hour(gctx, hour)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	sums := entity{}
	for _, hour := range found {
		for k, c := range hour.rows {
			sums.add(restrict(k, q.By), c)
		}
	}
	return sorted(sums.rows), nil
}

// hour returns the sums of one hour. Reading several entities is not atomic, so it reads
// again, after growing pauses, if a file was rolled up in the meantime.
func (s *Store) hour(ctx context.Context, hour string) (entity, error) {
	pauses := backoff.Backoff{First: time.Millisecond, Max: 100 * time.Millisecond}
	for range maxReread {
		total, before := entity{}, table.Rev{}
		for e, err := range s.table.Scan(ctx, hour) {
			if err != nil {
				return total, fmt.Errorf("usage: %w", err)
			}
			counts, err := decode(e)
			if err != nil {
				return total, err
			}
			if e.Row == hourRow {
				before = e.Rev
			}
			total.merge(counts.rows)
		}
		now, err := s.table.Get(ctx, table.Key{Partition: hour, Row: hourRow})
		switch {
		case errors.Is(err, table.ErrNotFound) && before == (table.Rev{}) || err == nil && now.Rev == before:
			return total, nil
		case err != nil && !errors.Is(err, table.ErrNotFound):
			return total, fmt.Errorf("usage: %w", err)
		}
		if !pauses.Wait(ctx) {
			return total, fmt.Errorf("usage: %w", ctx.Err())
		}
	}
	return entity{}, fmt.Errorf("usage: the counts of the hour %s changed during each of %d readings; try again", hour, maxReread)
}

// Summary has rows and their total.
type Summary struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	Rows []Row     `json:"rows"`
	Sum  Counts    `json:"sum"`
}

// Summarize returns the sums and their total.
func (s *Store) Summarize(ctx context.Context, q Query) (Summary, error) {
	rows, err := s.Read(ctx, q)
	sum := Summary{From: q.From, To: q.To, Rows: slices.Clip(rows)}
	for _, r := range rows {
		sum.Sum.add(r.Counts)
	}
	return sum, err
}
