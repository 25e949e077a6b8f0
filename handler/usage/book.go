// Package usage keeps statistics by the hour, derived from the journal: how much each
// subscription used of each model, in which region, for whom.
//
// A partition of its table is an hour, that of the names of journal files. In it an entity
// stands for each file,
//
//	f|{file}   state open|folded, upto, index, counts
//
// whose counts are those of the file's records up to one: absolute, so that
// whoever goes on with a file goes on from there, and a writer that has fallen behind loses
// its compare-and-swap. When a file is closed its counts are folded into the hour's own
// entity, "hour", in one entity group transaction that also marks the file folded.
package usage

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"
	"time"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/table"
)

const (
	hourRow    = "hour"
	fileRow    = "f|"
	open       = "open"
	folded     = "folded"
	hourLayout = "2006-01-02T15"
	maxTries   = 20 // of a compare-and-swap
)

// Book is the statistics of all gateways. Safe for concurrent use by one caller a file.
type Book struct {
	store table.Store

	mu    sync.Mutex
	files map[string]*account // of files that are being counted
}

// New returns the book in store.
func New(store table.Store) *Book { return &Book{store: store, files: map[string]*account{}} }

// account is a file's entity as we last read or wrote it.
type account struct{ sheet }

// Entry is a record and its place in a journal file. An amend is the whole end, amended.
type Entry struct {
	Offset int64 // of its member
	Index  int   // in the member
	*gateway.Line
}

// Add counts entries of a file, which come in order; those counted before are passed over.
// A nil error means that the table has them.
func (b *Book) Add(ctx context.Context, file string, entries []Entry) error {
	for range maxTries {
		a, err := b.account(ctx, file)
		if err != nil {
			return err
		}
		if a.state == folded || len(entries) == 0 || !a.before(entries[len(entries)-1]) {
			return nil
		}
		next := a.with(entries)
		e, err := b.save(ctx, next)
		switch {
		case err == nil:
			a.sheet = next
			a.rev = e.Rev
			return nil
		case !errors.Is(err, table.ErrConflict) && !errors.Is(err, table.ErrExists):
			b.forget(file) // whether it was written is not known
			return err
		}
		b.forget(file)
	}
	return fmt.Errorf("usage: %s changes all the time", file)
}

func (b *Book) forget(file string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.files, file)
}

func (b *Book) account(ctx context.Context, file string) (*account, error) {
	b.mu.Lock()
	a := b.files[file]
	b.mu.Unlock()
	if a != nil {
		return a, nil
	}
	hour, err := hourOf(file)
	if err != nil {
		return nil, err
	}
	s, err := b.load(ctx, table.Key{Partition: hour, Row: fileRow + path.Base(file)})
	if err != nil {
		return nil, err
	}
	a = &account{sheet: s}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.files[file] = a
	return a, nil
}

// load returns an empty sheet where there is no entity.
func (b *Book) load(ctx context.Context, key table.Key) (sheet, error) {
	e, err := b.store.Get(ctx, key)
	switch {
	case errors.Is(err, table.ErrNotFound):
		return sheet{key: key, state: open, index: -1}, nil
	case err != nil:
		return sheet{}, fmt.Errorf("usage: %w", err)
	}
	return decode(e)
}

func (b *Book) save(ctx context.Context, s sheet) (table.Entity, error) {
	e, err := s.encode()
	switch {
	case err != nil:
		return e, err
	case s.rev == (table.Rev{}):
		return b.store.Insert(ctx, e)
	}
	e, err = b.store.Replace(ctx, e)
	if errors.Is(err, table.ErrNotFound) {
		err = table.ErrConflict
	}
	return e, err
}

// Fold adds a closed file to its hour. It may be asked for again.
func (b *Book) Fold(ctx context.Context, file string) error {
	hour, err := hourOf(file)
	if err != nil {
		return err
	}
	defer b.forget(file)
	for range maxTries {
		err := b.fold(ctx, hour, fileRow+path.Base(file))
		if !errors.Is(err, table.ErrConflict) && !errors.Is(err, table.ErrExists) {
			return err
		}
	}
	return fmt.Errorf("usage: hour %s changes all the time", hour)
}

func (b *Book) fold(ctx context.Context, hour, row string) error {
	file, err := b.load(ctx, table.Key{Partition: hour, Row: row})
	if err != nil || file.state == folded {
		return err
	}
	if file.rev == (table.Rev{}) { // nothing to fold, but nobody may begin to count it later
		file.state = folded
		_, err := b.save(ctx, file)
		return err
	}
	total, err := b.load(ctx, table.Key{Partition: hour, Row: hourRow})
	if err != nil {
		return err
	}
	if total.rev == (table.Rev{}) { // a transaction replaces what is there
		_, err := b.save(ctx, total)
		return errors.Join(err, table.ErrConflict)
	}
	total.merge(file.rows)
	file.state, file.rows = folded, nil
	list := make([]table.Entity, 2)
	for i, s := range []sheet{total, file} {
		if list[i], err = s.encode(); err != nil {
			return err
		}
	}
	return b.store.Swap(ctx, list)
}

// hourOf is the hour in a file's name, yyyy/mm/dd/hh/….
func hourOf(file string) (string, error) {
	at, err := time.Parse("2006/01/02/15", path.Dir(file))
	if err != nil {
		return "", fmt.Errorf("usage: %q is no journal file", file)
	}
	return at.Format(hourLayout), nil
}

// before tells whether e comes after all that is counted.
func (s *sheet) before(e Entry) bool {
	return e.Offset > s.upto || e.Offset == s.upto && e.Index > s.index
}

// with is the sheet after entries, as far as they are new.
func (a *account) with(entries []Entry) sheet {
	next := a.sheet
	next.rows = map[Key]Counts{}
	next.merge(a.rows)
	for _, e := range entries {
		if next.before(e) {
			next.upto, next.index = e.Offset, e.Index
			next.count(e.Line)
		}
	}
	return next
}

func (s *sheet) count(line *gateway.Line) {
	switch line.Type {
	case gateway.Begin:
	case gateway.End:
		s.add(keyOf(&line.Record), countsOf(&line.Record))
	case gateway.Incomplete:
		s.add(keyOf(&line.Record), Counts{Incomplete: 1})
	case gateway.Amend:
		s.amend(&line.Record)
	}
}

// amend takes an answer that was withheld from where its end was counted.
func (s *sheet) amend(rec *gateway.Record) {
	switch {
	case rec.Subscription == "" && rec.Model == "" || !failed(rec.Outcome) || rec.Status >= 500: // its end is unknown, or an error already
	case len(rec.Attempts) == 0:
		s.add(keyOf(rec), Counts{Errors: 1, Refused: -1})
	default:
		s.add(keyOf(rec), Counts{Errors: 1, Answered: -1, Millis: -rec.TotalMilli, FirstByteMillis: -rec.FirstByteMilli})
	}
}

// Names of the keys that Read can sum by.
var names = map[string]func(*Key) *string{
	"subscription": func(k *Key) *string { return &k.Subscription },
	"product":      func(k *Key) *string { return &k.Product },
	"user":         func(k *Key) *string { return &k.User },
	"model":        func(k *Key) *string { return &k.Model },
	"region":       func(k *Key) *string { return &k.Region },
}

// Values are what a row has of the names it was summed by.
func (r Row) Values(by []string) []string {
	values := make([]string, len(by))
	for i, name := range by {
		values[i] = *names[strings.ToLower(name)](&r.Key)
	}
	return values
}

func only(k Key, by []string) Key {
	kept := Key{Currency: k.Currency}
	for _, name := range by {
		*names[strings.ToLower(name)](&kept) = *names[strings.ToLower(name)](&k)
	}
	return kept
}
