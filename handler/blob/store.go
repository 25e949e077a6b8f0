package blob

import (
	"context"
	"errors"
	"io"
)

// The outcomes of a blob write that a caller must tell apart. After any other error the
// write may or may not have been applied: read the length.
var (
	ErrExists   = errors.New("blob: blob exists")
	ErrNotFound = errors.New("blob: no such blob")
	ErrPosition = errors.New("blob: blob is not as long as expected")
	ErrSealed   = errors.New("blob: blob takes no more appends")
)

// MaxAppend is the largest block one Append may carry.
const MaxAppend = 4 << 20

// Store is the container the journal lives in. Create and Append are never retried below
// this interface: a retry turns an applied append whose answer was lost into ErrPosition.
// Every method returns when ctx ends. Safe for concurrent use.
type Store interface {
	// Create makes an empty append blob; ErrExists when the name is taken.
	Create(ctx context.Context, name string) error
	// Append adds data (1 byte to MaxAppend) if the blob is exactly at bytes long.
	Append(ctx context.Context, name string, at int64, data []byte) error
	// Length returns the length and whether the blob is sealed.
	Length(ctx context.Context, name string) (n int64, sealed bool, err error)
	// Seal makes the append blob read-only for good. Sealing a sealed blob is no error.
	Seal(ctx context.Context, name string) error
	// Put stores a whole block blob from r in bounded memory, replacing any block blob of
	// that name. It is durable when Put returns nil and absent (or as before) when r failed.
	Put(ctx context.Context, name string, r io.Reader) error
	// Open reads a blob from offset to its present end; nothing is left at or beyond it.
	Open(ctx context.Context, name string, offset int64) (io.ReadCloser, error)
	// List returns the blobs whose names begin with prefix, in order of their names.
	List(ctx context.Context, prefix string) ([]Info, error)
}

// Info is one listed blob. Listings do not tell whether a blob is sealed: Length does.
type Info struct {
	Name   string
	Length int64
}
