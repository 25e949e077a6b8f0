package usage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/table"
)

// Query asks for the sums of a time, whole hours, by some of subscription, product, user,
// model and region.
type Query struct {
	From, To time.Time // To is not part of it
	By       []string
}

const (
	maxHours  = 366 * 24
	parallel  = 16
	maxReread = 10
)

// check says what is wrong with q.
func (q Query) check() error {
	bad := func(format string, args ...any) error {
		return gateway.InvalidQuery.New(format, args...)
	}
	for _, name := range q.By {
		if names[strings.ToLower(name)] == nil {
			return bad("Usage is not kept by %q. Ask by subscription, product, user, model or region.", name)
		}
	}
	switch hours := q.To.Sub(q.From).Hours(); {
	case hours <= 0:
		return bad("The time asked for ends before it begins: from %s to %s.", q.From.Format(time.RFC3339), q.To.Format(time.RFC3339))
	case hours > maxHours:
		return bad("The time asked for is longer than %d days.", maxHours/24)
	}
	return nil
}

// Read returns the sums, most tokens first.
func (b *Book) Read(ctx context.Context, q Query) ([]Row, error) {
	if err := q.check(); err != nil {
		return nil, err
	}
	from := q.From.UTC().Truncate(time.Hour)
	var hours []string
	for at := from; at.Before(q.To); at = at.Add(time.Hour) {
		hours = append(hours, at.Format(hourLayout))
	}
	found := make([]sheet, len(hours))
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for i, hour := range hours {
		group.Go(func() (err error) {
			found[i], err = b.hour(gctx, hour)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	sums := sheet{}
	for _, s := range found {
		for k, c := range s.rows {
			sums.add(only(k, q.By), c)
		}
	}
	return sorted(sums.rows), nil
}

// hour sums one hour. A scan is no snapshot: it is repeated if a file was folded meanwhile.
func (b *Book) hour(ctx context.Context, hour string) (sheet, error) {
	for range maxReread {
		total, before := sheet{}, table.Rev{}
		for e, err := range b.store.Scan(ctx, hour) {
			if err != nil {
				return total, fmt.Errorf("usage: %w", err)
			}
			s, err := decode(e)
			if err != nil {
				return total, err
			}
			if e.Row == hourRow {
				before = e.Rev
			}
			total.merge(s.rows)
		}
		now, err := b.store.Get(ctx, table.Key{Partition: hour, Row: hourRow})
		switch {
		case errors.Is(err, table.ErrNotFound) && before == (table.Rev{}) || err == nil && now.Rev == before:
			return total, nil
		case err != nil && !errors.Is(err, table.ErrNotFound):
			return total, fmt.Errorf("usage: %w", err)
		}
	}
	return sheet{}, fmt.Errorf("usage: hour %s changes all the time", hour)
}

// Summary is rows with their sum.
type Summary struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	Rows []Row     `json:"rows"`
	Sum  Counts    `json:"sum"`
}

// Summarize reads and adds up.
func (b *Book) Summarize(ctx context.Context, q Query) (Summary, error) {
	rows, err := b.Read(ctx, q)
	s := Summary{From: q.From, To: q.To, Rows: slices.Clip(rows)}
	for _, r := range rows {
		s.Sum.add(r.Counts)
	}
	return s, err
}
