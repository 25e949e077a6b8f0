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

// Batch is one batch that was read from a file.
type Batch struct {
	Header

	Name    string   // name of the file
	Index   int      // number of the batch among those read, from 0
	Offset  int64    // where its compressed bytes begin in the file
	Length  int64    // number of its compressed bytes
	Hash    string   // SHA-256 of its compressed bytes in hex
	Records [][]byte // the lines after the header
}

// BreakError describes the first batch of a file that differs from what was written.
type BreakError struct {
	Name   string
	Index  int // number of the batch in the file, or FileItself
	Offset int64
	Reason string
}

// FileItself is the Index of an error that concerns the whole file and no single batch.
const FileItself = -1

func (e *BreakError) Error() string {
	if e.Index == FileItself {
		return fmt.Sprintf("journal: %s: the file %s", e.Name, e.Reason)
	}
	return fmt.Sprintf("journal: %s: batch %d at byte %d: %s", e.Name, e.Index, e.Offset, e.Reason)
}

// Read yields the batches of a file. A batch must begin at offset. Read does not check the
// chain. It ends at the present end of the blob, or with an error: a *BreakError if the
// content differs from what was written, a *gateway.VersionError if a newer program wrote
// it, or an error of the store.
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

// ParseHeader parses the header of a batch in the named file. lines are the decompressed
// lines; rest are the lines after the header.
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
		return h, nil, fmt.Errorf("has a header for another file (file %d of process %q)", h.File, h.Process)
	}
	return h, rest, nil
}

const readTimeout = 10 * time.Second // limit for opening a blob, and for each single read

// open opens a blob. Reads fail if one takes longer than readTimeout.
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

// cancelling is a reader that cancels its context when it is closed.
type cancelling struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (c cancelling) Close() error {
	defer c.cancel()
	return c.ReadCloser.Close()
}
