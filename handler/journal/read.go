package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"path"

	"aoaigateway/handler/blob"
)

// Member is one group commit, as read.
type Batch struct {
	Name    string   // of the file
	Index   int      // in the file, from 0
	Offset  int64    // of its compressed bytes in the file
	Length  int64    // of its compressed bytes
	Hash    string   // SHA-256 of its compressed bytes, hex
	Process string   // of the writer
	File    int      // the writer's count of files
	Seq     int64    // the writer's count of members
	Prev    string   // Hash of the member before
	Records [][]byte // the lines after the header

	// Open names the ids that were begun and not ended when the file was opened, by the
	// file in which their begin stands. Only the first member of a file may have it.
	InFlight map[string][]string
}

// BreakError names the first member of a file that is not what it should be.
type BreakError struct {
	Name   string
	Index  int // of the member in the file; -1 = the file itself
	Offset int64
	Reason string
}

func (e *BreakError) Error() string {
	if e.Index < 0 {
		return fmt.Sprintf("journal: %s: the file %s", e.Name, e.Reason)
	}
	return fmt.Sprintf("journal: %s: member %d at byte %d: %s", e.Name, e.Index, e.Offset, e.Reason)
}

// ReadFrom yields the members of one file from offset on, which must be where a member
// begins, without looking at their chain. Its Index counts from there. It ends at the
// blob's present end, or with an error as [Read] says.
func ReadFrom(ctx context.Context, b blob.Store, name string, offset int64) iter.Seq2[Batch, error] {
	return func(yield func(Batch, error) bool) {
		blob, err := openPatiently(ctx, b, name, offset)
		if err != nil {
			yield(Batch{}, fmt.Errorf("journal: %s: %w", name, err))
			return
		}
		defer func() { _ = blob.Close() }()
		s := newScanner(blob, offset, smallChunk)
		for index := 0; ; index++ {
			m := Batch{Name: name, Index: index, Offset: s.offset}
			err := m.read(s)
			switch {
			case errors.Is(err, errEnd):
				return
			case s.readErr != nil:
				err = fmt.Errorf("journal: %s: %w", name, s.readErr)
			case err != nil:
				err = &BreakError{Name: name, Index: index, Offset: m.Offset, Reason: err.Error()}
			}
			if !yield(m, err) || err != nil {
				return
			}
		}
	}
}

// read fills m from the next member of s; errEnd means there is none.
func (m *Batch) read(s *scanner) error {
	b, err := s.next()
	if err != nil {
		return err
	}
	m.Length, m.Hash = int64(len(b.data)), hash(b.data)
	return m.parse(bytes.Clone(b.raw))
}

// parse splits the lines and takes the header off.
func (m *Batch) parse(raw []byte) error {
	first, rest, err := m.head(raw)
	if err != nil {
		return err
	}
	m.Process, m.File, m.Seq, m.Prev, m.InFlight = first.Process, first.File, first.Seq, first.Prev, first.InFlight
	if len(rest) > 0 {
		m.Records = bytes.Split(rest[:len(rest)-1], []byte{'\n'})
	}
	return nil
}

// head reads a member's header and returns the lines after it.
func (m *Batch) head(raw []byte) (h header, rest []byte, err error) {
	if len(raw) == 0 || raw[len(raw)-1] != '\n' {
		return h, nil, errors.New("does not end with a newline")
	}
	first, rest, _ := bytes.Cut(raw, []byte{'\n'})
	if err := json.Unmarshal(first, &h); err != nil || h.Type != batchType {
		return h, nil, errors.New("does not begin with a member header")
	}
	if path.Base(m.Name) != baseName(h.Process, h.File) {
		return h, nil, fmt.Errorf("says it belongs to file %d of process %q", h.File, h.Process)
	}
	return h, rest, nil
}
