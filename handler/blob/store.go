package blob

import (
	"context"
	"errors"
	"io"
)

// The outcomes of a write that a caller must distinguish. After any other error the write may have been applied or
// not: the length shows it.
var (
	ErrExists   = errors.New("blob: the blob exists already")
	ErrNotFound = errors.New("blob: the blob does not exist")
	ErrPosition = errors.New("blob: the blob is not as long as expected")
	ErrSealed   = errors.New("blob: the blob takes no more appends")
)

// MaxAppend is the largest size of one append in bytes.
const MaxAppend = 4 << 20

// Store is a container. Implementations never repeat Create and Append: a repetition would turn an applied append
// whose answer was lost into ErrPosition. Every method returns when ctx ends. Safe for concurrent use.
type Store interface {
	// Create makes an empty append blob. It returns ErrExists if the name is taken.
	Create(ctx context.Context, name string) error
	// Append adds data, 1 byte to MaxAppend, if the blob is exactly at bytes long.
	Append(ctx context.Context, name string, at int64, data []byte) error
	// Length returns the length and whether the blob is sealed.
	Length(ctx context.Context, name string) (n int64, sealed bool, err error)
	// Seal makes the append blob read-only for good. Sealing a sealed blob is no error.
	Seal(ctx context.Context, name string) error
	// Put stores a whole block blob from r in bounded memory and replaces a block blob of that name. When Put returns
	// nil, the blob is durable. When r fails, the blob is as before or absent.
	Put(ctx context.Context, name string, r io.Reader) error
	// Open reads a blob from offset to its present end. From the end on there is nothing to read, which is no error.
	Open(ctx context.Context, name string, offset int64) (io.ReadCloser, error)
	// List returns the blobs whose names begin with prefix, in order of their names.
	List(ctx context.Context, prefix string) ([]Info, error)
}

// Info is one listed blob. A listing does not show whether a blob is sealed; Length does.
type Info struct {
	Name   string
	Length int64
}
