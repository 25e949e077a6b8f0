// Package usage keeps hourly statistics that are derived from the journal: how much each
// subscription used of each model, in which region and for which user.
//
// A partition of the table is one hour, as in the names of journal files. It has one entity
// for each file of that hour,
//
//	f|{file}   version, state open|rolled-up, offset, index, counts
//
// with the counts of the file's records up to offset and index. The counts are totals, not
// differences. So another process can continue with a file, and a writer that has fallen
// behind fails in its compare-and-swap. After the last record of a file, its counts are
// rolled up: added to the hour's own entity, "hour", in one entity group transaction that
// also marks the file's entity as rolled up.
package usage

import (
	"context"
	"errors"
	"fmt"
	"path"
	"sync"
	"time"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/table"
)

const (
	hourRow    = "hour"
	filePrefix = "f|"
	hourLayout = "2006-01-02T15"
	maxTries   = 20 // of one compare-and-swap, against other writers
)

// Store holds the statistics in a table. It is a consumer of the journal. Safe for
// concurrent use, except that a file must not be handled by two goroutines at a time.
type Store struct {
	table table.Store

	mu    sync.Mutex
	files map[string]*entity // files whose records are being counted, as last read or written
}

// New returns a Store of statistics in the given table.
func New(store table.Store) *Store { return &Store{table: store, files: map[string]*entity{}} }

// Take counts the entries of a file that are not counted yet. It returns nil when the
// counts are stored in the table.
func (s *Store) Take(ctx context.Context, file string, entries []gateway.Entry) error {
	for range maxTries {
		counted, err := s.file(ctx, file)
		if err != nil {
			return err
		}
		if counted.state == rolledUp || len(entries) == 0 || !counted.isNew(&entries[len(entries)-1]) {
			return nil
		}
		next := counted.plus(entries)
		e, err := s.save(ctx, &next)
		if err == nil {
			next.rev = e.Rev
			s.remember(file, &next)
			return nil
		}
		s.forget(file) // it is unknown whether the table has the new counts, so they must be read again
		if !changedMeanwhile(err) {
			return err
		}
	}
	return fmt.Errorf("usage: other processes changed the counts of %s %d times in a row; the next round tries again", file, maxTries)
}

// Replay does the same as Take, because entries that are counted already are skipped.
func (s *Store) Replay(ctx context.Context, file string, entries []gateway.Entry) error {
	return s.Take(ctx, file, entries)
}

// Close adds the counts of a complete file to its hour. It may be called again.
func (s *Store) Close(ctx context.Context, file string) error {
	hour, err := hourOf(file)
	if err != nil {
		return err
	}
	defer s.forget(file)
	for range maxTries {
		if err = s.rollUp(ctx, hour, filePrefix+path.Base(file)); !changedMeanwhile(err) {
			return err
		}
	}
	return fmt.Errorf("usage: other processes changed the counts of hour %s %d times in a row; the next round tries again", hour, maxTries)
}

func changedMeanwhile(err error) bool {
	return errors.Is(err, table.ErrConflict) || errors.Is(err, table.ErrExists)
}

func (s *Store) remember(file string, e *entity) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[file] = e
}

func (s *Store) forget(file string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.files, file)
}

// file returns the counts of a file: from memory if this process was the last to write
// them, otherwise from the table.
func (s *Store) file(ctx context.Context, file string) (*entity, error) {
	s.mu.Lock()
	e := s.files[file]
	s.mu.Unlock()
	if e != nil {
		return e, nil
	}
	hour, err := hourOf(file)
	if err != nil {
		return nil, err
	}
	loaded, err := s.load(ctx, table.Key{Partition: hour, Row: filePrefix + path.Base(file)})
	if err != nil {
		return nil, err
	}
	s.remember(file, &loaded)
	return &loaded, nil
}

// load reads an entity. If the table does not have it, the result is empty.
func (s *Store) load(ctx context.Context, key table.Key) (entity, error) {
	e, err := s.table.Get(ctx, key)
	switch {
	case errors.Is(err, table.ErrNotFound):
		return entity{key: key, state: open, index: -1}, nil
	case err != nil:
		return entity{}, fmt.Errorf("usage: %w", err)
	}
	return decode(e)
}

func (s *Store) save(ctx context.Context, counts *entity) (table.Entity, error) {
	e, err := counts.encode()
	switch {
	case err != nil:
		return e, err
	case counts.rev == (table.Rev{}):
		return s.table.Insert(ctx, e)
	}
	e, err = s.table.Replace(ctx, e)
	if errors.Is(err, table.ErrNotFound) {
		err = table.ErrConflict
	}
	return e, err
}

func (s *Store) rollUp(ctx context.Context, hour, row string) error {
	file, err := s.load(ctx, table.Key{Partition: hour, Row: row})
	if err != nil || file.state == rolledUp {
		return err
	}
	if file.rev == (table.Rev{}) { // no record was counted; the mark prevents that others count some later
		file.state = rolledUp
		_, err := s.save(ctx, &file)
		return err
	}
	total, err := s.load(ctx, table.Key{Partition: hour, Row: hourRow})
	if err != nil {
		return err
	}
	if total.rev == (table.Rev{}) { // the transaction can only replace an entity, so it must exist
		_, err := s.save(ctx, &total)
		return errors.Join(err, table.ErrConflict)
	}
	total.merge(file.rows)
	file.state, file.rows = rolledUp, nil
	list := make([]table.Entity, 2)
	for i, e := range []*entity{&total, &file} {
		if list[i], err = e.encode(); err != nil {
			return err
		}
	}
	return s.table.Swap(ctx, list)
}

// hourOf returns the hour in a file's name, in the form yyyy/mm/dd/hh/….
func hourOf(file string) (string, error) {
	at, err := time.Parse("2006/01/02/15", path.Dir(file))
	if err != nil {
		return "", fmt.Errorf("usage: %q is not the name of a journal file (yyyy/mm/dd/hh/…)", file)
	}
	return at.Format(hourLayout), nil
}
