package blob

import (
	"context"
	"errors"
	"io"
)

// Errors of a write that a caller may need to distinguish. After any other error, the write
// may or may not have been applied; the blob's length shows which.
var (
	ErrExists   = errors.New("blob: the blob exists already")
	ErrNotFound = errors.New("blob: the blob does not exist")
	ErrPosition = errors.New("blob: the blob is not as long as expected")
	ErrSealed   = errors.New("blob: the blob takes no more appends")
)

// MaxAppend is the largest number of bytes in one append.
const MaxAppend = 4 << 20

// Store is a container of blobs. Implementations never repeat Create and Append by
// themselves: if the answer to an applied append is lost, a repetition would return
// ErrPosition. Every method returns when ctx ends. Safe for concurrent use.
type Store interface {
	// Create makes an empty append blob. It returns ErrExists if there is a blob with this
	// name.
	Create(ctx context.Context, name string) error
	// Append adds data (1 byte to MaxAppend) if the blob's length is exactly at. Otherwise
	// it returns ErrPosition.
	Append(ctx context.Context, name string, at int64, data []byte) error
	// Length returns the blob's length and whether the blob is sealed.
	Length(ctx context.Context, name string) (n int64, sealed bool, err error)
	// Seal makes an append blob read-only, permanently. It may be called again.
	Seal(ctx context.Context, name string) error
	// Put stores a block blob with the content of r, in bounded memory. If r is an
	// *io.SectionReader, Put stores the whole section, and may read it concurrently. It
	// replaces a block blob with the same name, or returns ErrExists if the container is
	// immutable and the blob has another content. When Put returns nil, the blob is durable.
	// If reading r fails, nothing is stored or replaced.
	Put(ctx context.Context, name string, r io.Reader) error
	// Open returns a reader of the blob from offset to its present end. If offset is at or
	// after the end, the reader is empty.
	Open(ctx context.Context, name string, offset int64) (io.ReadCloser, error)
	// List returns the blobs whose names begin with prefix, sorted by name.
	List(ctx context.Context, prefix string) ([]Info, error)
}

// Info describes a blob in a list. A list does not show whether a blob is sealed; Length
// does.
type Info struct {
	Name   string
	Length int64
}
