package app

import (
	"context"

	"aoaigateway/handler/derive"
	"aoaigateway/handler/journal"
	"aoaigateway/handler/logs"
	"aoaigateway/handler/usage"
)

// Consumers are the consumers of the journal. Each reads the journal on its own, so that the page of
// usage does not wait for Log Analytics to come back.
func Consumers(e Services, book *usage.Book) []derive.Consumer {
	list := []derive.Consumer{counted{book}}
	if e.Feed != nil {
		list = append(list, shipped{e.Feed})
	}
	return list
}

// counted are the statistics. What was counted before is known by its place.
type counted struct{ book *usage.Book }

func (c counted) Take(ctx context.Context, f journal.File, entries []journal.Entry, _ bool) error {
	list := make([]usage.Entry, len(entries))
	for i := range entries {
		list[i] = usage.Entry{Offset: entries[i].Offset, Index: entries[i].Index, Line: &entries[i].Line}
	}
	return c.book.Add(ctx, f.Name, list)
}

func (c counted) Close(ctx context.Context, f journal.File) error { return c.book.Fold(ctx, f.Name) }

// shipped are the rows of Log Analytics: at least once, and once by their RecordId.
type shipped struct{ feed *logs.Feed }

func (s shipped) Take(ctx context.Context, f journal.File, entries []journal.Entry, replay bool) error {
	if replay {
		return nil
	}
	list := make([]logs.Entry, len(entries))
	for i, e := range entries {
		list[i] = logs.Entry{Line: e.Line, File: f.Name, Chain: e.Hash}
	}
	return s.feed.Take(ctx, list)
}

func (s shipped) Close(context.Context, journal.File) error { return nil }
