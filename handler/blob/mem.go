package blob

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
)

// Op is the name of a method of [Store], for Mem.Fault.
type Op string

// The operations of [Store].
const (
	OpCreate Op = "create"
	OpAppend Op = "append"
	OpLength Op = "length"
	OpSeal   Op = "seal"
	OpPut    Op = "put"
	OpOpen   Op = "open"
	OpList   Op = "list"
)

// Mem is a container in memory, for tests. The zero value is an empty container.
type Mem struct {
	// Fault is called before each operation, possibly by several goroutines at a time; nil
	// = no faults. If it returns an error, the operation returns this error; apply says
	// whether the operation changes the container nevertheless. Fault may block, for
	// example until ctx ends.
	Fault func(ctx context.Context, op Op, name string) (apply bool, err error)

	mu    sync.Mutex
	blobs map[string]*memBlob
}

type memBlob struct {
	data             []byte
	appendable, seal bool
}

var errBlobType = errors.New("blob: the operation does not fit the blob's type (append blob or block blob)")

// do calls apply with mu locked, or fails as Fault says.
func (m *Mem) do(ctx context.Context, op Op, name string, apply func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.Fault != nil {
		if applied, err := m.Fault(ctx, op, name); err != nil {
			if applied {
				_ = m.locked(apply)
			}
			return err
		}
	}
	return m.locked(apply)
}

func (m *Mem) locked(f func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.blobs == nil {
		m.blobs = map[string]*memBlob{}
	}
	return f()
}

// Create implements [Store].
func (m *Mem) Create(ctx context.Context, name string) error {
	return m.do(ctx, OpCreate, name, func() error {
		if m.blobs[name] != nil {
			return ErrExists
		}
		m.blobs[name] = &memBlob{appendable: true}
		return nil
	})
}

// Append implements [Store].
func (m *Mem) Append(ctx context.Context, name string, at int64, data []byte) error {
	return m.do(ctx, OpAppend, name, func() error {
		b := m.blobs[name]
		switch {
		case b == nil:
			return ErrNotFound
		case !b.appendable:
			return errBlobType
		case len(data) == 0 || len(data) > MaxAppend:
			return errors.New("blob: an append must have 1 byte to 4 MiB")
		case b.seal:
			return ErrSealed
		case int64(len(b.data)) != at:
			return ErrPosition
		}
		b.data = append(b.data, data...)
		return nil
	})
}

// Length implements [Store].
func (m *Mem) Length(ctx context.Context, name string) (n int64, sealed bool, err error) {
	err = m.do(ctx, OpLength, name, func() error {
		b := m.blobs[name]
		if b == nil {
			return ErrNotFound
		}
		n, sealed = int64(len(b.data)), b.seal
		return nil
	})
	return n, sealed, err
}

// Seal implements [Store].
func (m *Mem) Seal(ctx context.Context, name string) error {
	return m.do(ctx, OpSeal, name, func() error {
		b := m.blobs[name]
		switch {
		case b == nil:
			return ErrNotFound
		case !b.appendable:
			return errBlobType
		}
		b.seal = true
		return nil
	})
}

// Put implements [Store].
func (m *Mem) Put(ctx context.Context, name string, r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	return m.do(ctx, OpPut, name, func() error {
		if b := m.blobs[name]; b != nil && b.appendable {
			return errBlobType
		}
		m.blobs[name] = &memBlob{data: data}
		return nil
	})
}

// Open implements [Store].
func (m *Mem) Open(ctx context.Context, name string, offset int64) (r io.ReadCloser, err error) {
	err = m.do(ctx, OpOpen, name, func() error {
		b := m.blobs[name]
		if b == nil {
			return ErrNotFound
		}
		// Bytes that were appended never change, so the reader needs no copy of them.
		r = io.NopCloser(bytes.NewReader(b.data[min(offset, int64(len(b.data))):]))
		return nil
	})
	return r, err
}

// List implements [Store].
func (m *Mem) List(ctx context.Context, prefix string) (found []Info, err error) {
	err = m.do(ctx, OpList, prefix, func() error {
		for name, b := range m.blobs {
			if strings.HasPrefix(name, prefix) {
				found = append(found, Info{Name: name, Length: int64(len(b.data))})
			}
		}
		slices.SortFunc(found, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
		return nil
	})
	return found, err
}
