package format

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"path"
	"time"

	"aoaigateway/handler/blob"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/idle"
)

// Batch is one batch as it was read.
type Batch struct {
	Header

	Name    string   // of the file
	Index   int      // among the batches read
	Offset  int64    // of its compressed bytes in the file
	Length  int64    // of its compressed bytes
	Hash    string   // SHA-256 of its compressed bytes, hex
	Records [][]byte // the lines after the header
}

// BreakError names the first batch of a file that is not as it was written.
type BreakError struct {
	Name   string
	Index  int // of the batch in the file; FileItself = the whole file
	Offset int64
	Reason string
}

// FileItself is the Index of a break that no single batch has.
const FileItself = -1

func (e *BreakError) Error() string {
	if e.Index == FileItself {
		return fmt.Sprintf("journal: %s: the file %s", e.Name, e.Reason)
	}
	return fmt.Sprintf("journal: %s: batch %d at byte %d: %s", e.Name, e.Index, e.Offset, e.Reason)
}

// Read yields the batches of a file from offset on, where a batch must begin. It does not check the chain. It ends at
// the blob's present end, or with an error: a *BreakError if the content is not as it was written, a
// *gateway.VersionError if a newer program wrote it, otherwise an error of the store.
func Read(ctx context.Context, blobs blob.Store, name string, offset int64) iter.Seq2[Batch, error] {
	return func(yield func(Batch, error) bool) {
		content, err := open(ctx, blobs, name, offset)
		if err != nil {
			yield(Batch{}, fmt.Errorf("journal: %s: %w", name, err))
			return
		}
		defer func() { _ = content.Close() }()
		s := NewScanner(content, offset, smallChunk)
		for index := 0; ; index++ {
			b, err := s.batch(name, index)
			if errors.Is(err, ErrEnd) {
				return
			}
			if !yield(b, err) || err != nil {
				return
			}
		}
	}
}

func (s *Scanner) batch(name string, index int) (Batch, error) {
	b := Batch{Name: name, Index: index, Offset: s.offset}
	raw, err := s.Next()
	switch {
	case errors.Is(err, ErrEnd):
		return b, err
	case s.readErr != nil:
		return b, fmt.Errorf("journal: %s: %w", name, s.readErr)
	case err != nil:
		return b, &BreakError{Name: name, Index: index, Offset: b.Offset, Reason: err.Error()}
	}
	b.Length, b.Hash = int64(len(raw.Data)), raw.Hash()
	lines := bytes.Clone(raw.Lines)
	b.Header, lines, err = ParseHeader(name, lines)
	if _, newer := errors.AsType[*gateway.VersionError](err); newer {
		return b, fmt.Errorf("journal: %s: %w", name, err)
	}
	if err != nil {
		return b, &BreakError{Name: name, Index: index, Offset: b.Offset, Reason: err.Error()}
	}
	if len(lines) > 0 {
		b.Records = bytes.Split(lines[:len(lines)-1], []byte{'\n'})
	}
	return b, nil
}

// ParseHeader reads the header from a batch's lines in the named file, and returns the lines after it.
func ParseHeader(name string, lines []byte) (h Header, rest []byte, err error) {
	if len(lines) == 0 || lines[len(lines)-1] != '\n' {
		return h, nil, errors.New("does not end with a newline")
	}
	first, rest, _ := bytes.Cut(lines, []byte{'\n'})
	if err := json.Unmarshal(first, &h); err != nil || h.Type != batchType {
		return h, nil, errors.New("does not begin with a batch header")
	}
	if err := gateway.CheckVersion("batch", h.Version, Version); err != nil {
		return h, nil, err
	}
	if path.Base(name) != (Name{Process: h.Process, Number: h.File}).Base()+Extension {
		return h, nil, fmt.Errorf("says that it belongs to file %d of process %q", h.File, h.Process)
	}
	return h, rest, nil
}

const readTimeout = 10 * time.Second // of opening a blob, and of each single read

// open opens a blob whose reads fail if one takes too long.
func open(ctx context.Context, blobs blob.Store, name string, offset int64) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancel(ctx)
	timer := time.AfterFunc(readTimeout, cancel)
	content, err := blobs.Open(ctx, name, offset)
	timer.Stop()
	if err != nil {
		cancel()
		return nil, err
	}
	r := idle.NewReader(content)
	r.SetLimit(readTimeout, cancel)
	return cancelling{r, cancel}, nil
}

// cancelling releases its context when it is closed.
type cancelling struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (c cancelling) Close() error {
	defer c.cancel()
	return c.ReadCloser.Close()
}
