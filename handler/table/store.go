// Package table stores small entities that change by compare-and-swap, such as
// subscriptions and quota counters. Azure is the real store and Mem its twin in memory for
// tests. tabletest tests both against the contract below.
package table

import (
	"context"
	"errors"
	"iter"
	"time"
)

// The outcomes that a caller must tell apart. After any other error of a write, the write
// may have been applied or not, and the caller must read to find out.
var (
	ErrNotFound = errors.New("table: no such entity")
	ErrExists   = errors.New("table: entity exists")
	ErrConflict = errors.New("table: entity changed since it was read")
)

// Key names an entity. Neither part may contain / \ # ? or control characters, or be longer
// than 512 UTF-16 units (rules of Table Storage). Partition must not be empty (a rule of
// the SDK).
type Key struct{ Partition, Row string }

// String is the key as messages show it.
func (k Key) String() string { return k.Partition + "/" + k.Row }

// Rev is the revision that a compare-and-swap requires: an ETag in Azure. The zero Rev
// matches no stored entity.
type Rev struct{ etag string }

// Entity is one row. The values of Props are string, bool, int64, float64, []byte or
// time.Time (UTC, 100 ns, from the year 1601 on). Another type is an error, and so is a
// size that Table Storage would refuse. An empty []byte comes back empty, not nil. Callers
// own the map; stores copy it.
type Entity struct {
	Key
	Rev   Rev
	Props map[string]any
}

// Store is one table. All methods are safe for concurrent use. The constructor decides
// whether transient failures are retried. Quota counters need a store that never retries:
// a retry turns a write that was applied, but whose answer was lost, into a conflict.
type Store interface {
	// Get returns ErrNotFound when there is no such entity.
	Get(ctx context.Context, key Key) (Entity, error)
	// Insert returns ErrExists when the key is taken. The result has the new Rev.
	Insert(ctx context.Context, e Entity) (Entity, error)
	// Replace replaces the whole entity if e.Rev is still current. Otherwise it returns
	// ErrConflict, or ErrNotFound when the entity is gone. The result has the new Rev.
	Replace(ctx context.Context, e Entity) (Entity, error)
	// Swap replaces up to 100 entities of one partition, all or none: all if all revisions
	// are current, otherwise none, with ErrConflict or ErrNotFound.
	Swap(ctx context.Context, list []Entity) error
	// Delete removes the entity if e.Rev is still current. Otherwise it returns ErrConflict,
	// or ErrNotFound when the entity is gone.
	Delete(ctx context.Context, e Entity) error
	// Scan yields a partition's entities in row order. An error ends the sequence. It is
	// open whether entities written during the scan are seen.
	Scan(ctx context.Context, partition string) iter.Seq2[Entity, error]
	// Offset is the store's clock minus this process's clock, as precise as the Date headers
	// of the store's answers allow; 0 before the first answer. This process's clock is the
	// wall clock at the time when the store was opened, plus the monotonic time since then,
	// so a step of the wall clock changes nothing.
	Offset() time.Duration
}
