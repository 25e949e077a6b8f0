// Package table stores small entities that change by compare-and-swap, such as
// subscriptions and quota counters. Azure is the real store, and Mem is a store in memory
// for tests. Package tabletest checks that both behave as the Store interface says.
package table

import (
	"context"
	"errors"
	"iter"
	"time"
)

// Errors that a caller may need to distinguish. After any other error of a write, the write
// may or may not have been applied; reading the entity shows which.
var (
	ErrNotFound = errors.New("table: no such entity")
	ErrExists   = errors.New("table: entity exists")
	ErrConflict = errors.New("table: entity changed since it was read")
)

// Key identifies an entity. Neither part may contain / \ # ? or control characters, or be
// longer than 512 UTF-16 units (rules of Table Storage). Partition must not be empty (a
// rule of the SDK).
type Key struct{ Partition, Row string }

// String returns the key in the form that messages use: partition/row.
func (k Key) String() string { return k.Partition + "/" + k.Row }

// Rev is the revision of an entity, which a compare-and-swap requires. In Azure it is an
// ETag. The zero Rev is the revision of no stored entity.
type Rev struct{ etag string }

// Entity is one row of a table. The values of Props have the type string, bool, int64,
// float64, []byte or time.Time (UTC, in steps of 100 ns, from the year 1601 on). Writing a
// value of another type fails, and so does writing more than Table Storage allows. An empty
// []byte is read back as empty, not as nil. The caller owns the map Props; a store copies
// it.
type Entity struct {
	Key
	Rev   Rev
	Props map[string]any
}

// Store is one table. All methods are safe for concurrent use. The constructor decides
// whether temporary failures are retried. Quota counters need a store that never retries:
// if the answer to an applied write is lost, a retry would report a conflict.
type Store interface {
	// Get reads an entity. It returns ErrNotFound if there is none with this key.
	Get(ctx context.Context, key Key) (Entity, error)
	// Insert adds an entity. It returns ErrExists if there is one with this key. The result
	// has the new Rev.
	Insert(ctx context.Context, e Entity) (Entity, error)
	// Replace replaces the whole entity if e.Rev is its current revision. Otherwise it
	// returns ErrConflict, or ErrNotFound if the entity does not exist. The result has the
	// new Rev.
	Replace(ctx context.Context, e Entity) (Entity, error)
	// Swap replaces up to 100 entities of one partition. If one of the revisions is not
	// current, it replaces none and returns ErrConflict or ErrNotFound.
	Swap(ctx context.Context, list []Entity) error
	// Delete removes the entity if e.Rev is its current revision. Otherwise it returns
	// ErrConflict, or ErrNotFound if the entity does not exist.
	Delete(ctx context.Context, e Entity) error
	// Scan yields the entities of a partition, sorted by row. It ends after an error.
	// Entities that are written during the scan may or may not be included.
	Scan(ctx context.Context, partition string) iter.Seq2[Entity, error]
	// Offset returns the store's clock minus this process's clock, as precisely as the Date
	// headers of the store's answers allow; 0 before the first answer. This process's clock
	// means the wall clock when the store was opened, plus the monotonic time since then.
	// So changing the wall clock has no effect.
	Offset() time.Duration
}
