// Package table keeps small entities that change by compare-and-swap: subscriptions,
// quota counters, affinity. Azure Table Storage is the real store, Mem its twin for
// tests; tabletest holds both to the contract below.
package table

import (
	"context"
	"errors"
	"iter"
	"time"
)

// The outcomes a caller must tell apart. After any other error of a write the write
// may or may not have been applied: the caller finds out by reading, never by guessing.
var (
	ErrNotFound = errors.New("table: no such entity")
	ErrExists   = errors.New("table: entity exists")
	ErrConflict = errors.New("table: entity changed since it was read")
)

// Key names an entity. Neither part may hold / \ # ? or control characters, nor be
// longer than 512 UTF-16 units (Table Storage's rules). Row may be empty, Partition not
// (the SDK's rule).
type Key struct{ Partition, Row string }

// Rev is the opaque version a compare-and-swap is made against: an ETag in Azure.
// The zero Rev never matches a stored entity.
type Rev struct{ etag string }

// Entity is one row. Props hold string, bool, int64, float64, []byte or time.Time (UTC,
// 100 ns, year 1601 on); other types are an error, as is what Table Storage would refuse
// for its size. An empty []byte comes back empty, not nil. Callers own the map; stores copy.
type Entity struct {
	Key
	Rev   Rev
	Props map[string]any
}

// Store is one table. All methods are safe for concurrent use. Whether transient
// failures are retried inside is the constructor's choice; quota counters need a store
// that never does, since a retry turns an applied write whose answer was lost into a conflict.
type Store interface {
	// Get returns ErrNotFound when there is no such entity.
	Get(ctx context.Context, key Key) (Entity, error)
	// Insert returns ErrExists when the key is taken. The result carries the new Rev.
	Insert(ctx context.Context, e Entity) (Entity, error)
	// Replace swaps the whole entity if e.Rev is still current, else ErrConflict;
	// ErrNotFound when it is gone. The result carries the new Rev.
	Replace(ctx context.Context, e Entity) (Entity, error)
	// Swap replaces several entities of one partition, at most 100, all or none: if all
	// revisions are current, else ErrConflict or ErrNotFound.
	Swap(ctx context.Context, list []Entity) error
	// Delete removes the entity if e.Rev is still current, else ErrConflict;
	// ErrNotFound when it is gone.
	Delete(ctx context.Context, e Entity) error
	// Scan yields a partition's entities in row order; an error ends the sequence.
	// Entities written meanwhile may or may not be seen.
	Scan(ctx context.Context, partition string) iter.Seq2[Entity, error]
	// Offset is the store's clock minus ours, as good as the Date headers of its answers
	// allow; 0 before the first. "Ours" is the wall clock as it was when the store was
	// opened, carried on by the monotonic clock, so that a step of the wall clock moves nothing.
	Offset() time.Duration
}
