// Package body holds the body of a request while the gateway serves the request: a small body
// in memory, a larger one once in a file that nobody else can open. All that read a body read
// it from there, as a stream; what differs between two attempts is a list of edits.
//
// The bytes in memory and the bytes on disk have one bound each for the process. A request
// that finds no room waits for up to a second, and is refused after that. No caller can have
// all of the room: what one caller holds is at most four times what is still free.
package body

import (
	"bytes"
	"cmp"
	"io"
	"os"
	"slices"
	"sync"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/jsonscan"
)

// Body is a request's body. It does not change, and any number of readers may read it at the
// same time.
type Body struct {
	size   int64
	data   []byte   // the content if file is nil
	file   *os.File // nil = the content is in memory
	digest func() gateway.Digest
	close  func()
}

func inMemory(data []byte, release func()) *Body {
	return &Body{
		size: int64(len(data)), data: data, close: sync.OnceFunc(release),
		digest: sync.OnceValue(func() gateway.Digest { return gateway.DigestOf(data) }),
	}
}

// Size returns the number of bytes.
func (b *Body) Size() int64 { return b.size }

// Digest returns the size and the hash of the body.
func (b *Body) Digest() gateway.Digest { return b.digest() }

// InMemory returns the content if it is in memory. The caller must not change it.
func (b *Body) InMemory() (content []byte, ok bool) { return b.data, b.file == nil }

// Reader returns a reader of the whole body.
func (b *Body) Reader() io.Reader { return b.section(0, b.size) }

// Scanner returns a scanner of the body as JSON. maxText is as in jsonscan.New.
func (b *Body) Scanner(maxText int) *jsonscan.Scanner {
	if b.file == nil {
		return jsonscan.NewBytes(b.data, maxText)
	}
	return jsonscan.New(b.Reader(), maxText)
}

func (b *Body) section(from, to int64) io.Reader {
	if b.file == nil {
		return bytes.NewReader(b.data[from:to])
	}
	return io.NewSectionReader(b.file, from, to-from)
}

// Close gives the body's room back. After it, readers of a body on disk fail. It may be
// called again.
func (b *Body) Close() { b.close() }

// Edit replaces the bytes from From to To of a body by Text.
type Edit struct {
	From, To int64
	Text     string
}

// Edited is a body with edits. It is no copy: its readers take the unchanged bytes from the
// body.
type Edited struct {
	body  *Body
	edits []Edit // in order, without overlaps
}

// With returns the body with edits, which must not overlap. Edits at the same place follow
// each other in their given order.
func (b *Body) With(edits ...Edit) Edited {
	edits = slices.Clone(edits)
	slices.SortStableFunc(edits, func(a, b Edit) int { return cmp.Compare(a.From, b.From) })
	return Edited{b, edits}
}

// Size returns the number of bytes after the edits.
func (e Edited) Size() int64 {
	n := e.body.size
	for _, edit := range e.edits {
		n += int64(len(edit.Text)) - (edit.To - edit.From)
	}
	return n
}

// Reader returns a reader of the edited body.
func (e Edited) Reader() io.Reader {
	if len(e.edits) == 0 {
		return e.body.Reader()
	}
	var parts []io.Reader
	at := int64(0)
	for _, edit := range e.edits {
		parts = append(parts, e.body.section(at, edit.From), bytes.NewReader([]byte(edit.Text)))
		at = edit.To
	}
	return io.MultiReader(append(parts, e.body.section(at, e.body.size))...)
}
