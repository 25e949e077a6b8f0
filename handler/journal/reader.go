package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"path"
	"strings"

	"aoaigateway/handler/blob"
)

// Member is one group commit, as read.
type Member struct {
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
	Open map[string][]string
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

// Read yields the members of every journal file whose name begins with prefix, file by
// file in order of their names, and verifies framing and chain within what it reads. A
// *BreakError ends its file, not the iteration; any other error ends the iteration.
func Read(ctx context.Context, b blob.Store, prefix string) iter.Seq2[Member, error] {
	return func(yield func(Member, error) bool) {
		files, err := b.List(ctx, prefix)
		if err != nil {
			yield(Member{}, err)
			return
		}
		heads := map[string]*Member{} // the last member read of each process
		for _, f := range files {
			if strings.HasSuffix(f.Name, extension) && !readFile(ctx, b, f.Name, heads, yield) {
				return
			}
		}
	}
}

// ReadFile yields the members of one file like [Read].
func ReadFile(ctx context.Context, b blob.Store, name string) iter.Seq2[Member, error] {
	return func(yield func(Member, error) bool) {
		readFile(ctx, b, name, map[string]*Member{}, yield)
	}
}

// processOf returns the process part of a file's name.
func processOf(name string) string {
	base := path.Base(name)
	return base[:max(0, strings.LastIndexByte(base, '-'))]
}

// readFile reports whether to go on with the next file.
func readFile(ctx context.Context, b blob.Store, name string, heads map[string]*Member, yield func(Member, error) bool) bool {
	process := processOf(name)
	for m, err := range ReadFrom(ctx, b, name, 0) {
		if err == nil {
			if wrong := m.follows(heads[process]); wrong != nil {
				err = &BreakError{Name: name, Index: m.Index, Offset: m.Offset, Reason: wrong.Error()}
			}
		}
		if _, broken := errors.AsType[*BreakError](err); broken {
			delete(heads, process)
			return yield(Member{}, err)
		}
		if err != nil {
			return yield(Member{}, err) && false
		}
		heads[process] = &Member{Name: name, File: m.File, Seq: m.Seq, Hash: m.Hash}
		if !yield(m, nil) {
			return false
		}
	}
	return true
}

// ReadFrom yields the members of one file from offset on, which must be where a member
// begins, without looking at their chain. Its Index counts from there. It ends at the
// blob's present end, or with an error as [Read] says.
func ReadFrom(ctx context.Context, b blob.Store, name string, offset int64) iter.Seq2[Member, error] {
	return func(yield func(Member, error) bool) {
		blob, err := openPatiently(ctx, b, name, offset)
		if err != nil {
			yield(Member{}, fmt.Errorf("journal: %s: %w", name, err))
			return
		}
		defer func() { _ = blob.Close() }()
		s := newScanner(blob, offset, smallChunk)
		for index := 0; ; index++ {
			m := Member{Name: name, Index: index, Offset: s.offset}
			err := m.read(s)
			switch {
			case errors.Is(err, errEnd):
				return
			case s.failed != nil:
				err = fmt.Errorf("journal: %s: %w", name, s.failed)
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
func (m *Member) read(s *scanner) error {
	b, err := s.next()
	if err != nil {
		return err
	}
	m.Length, m.Hash = int64(len(b.data)), hash(b.data)
	return m.parse(bytes.Clone(b.raw))
}

// parse splits the lines and takes the header off.
func (m *Member) parse(raw []byte) error {
	first, rest, err := m.head(raw)
	if err != nil {
		return err
	}
	m.Process, m.File, m.Seq, m.Prev, m.Open = first.Process, first.File, first.Seq, first.Prev, first.Open
	if len(rest) > 0 {
		m.Records = bytes.Split(rest[:len(rest)-1], []byte{'\n'})
	}
	return nil
}

// head reads a member's header and returns the lines after it.
func (m *Member) head(raw []byte) (h header, rest []byte, err error) {
	if len(raw) == 0 || raw[len(raw)-1] != '\n' {
		return h, nil, errors.New("does not end with a newline")
	}
	first, rest, _ := bytes.Cut(raw, []byte{'\n'})
	if err := json.Unmarshal(first, &h); err != nil || h.Type != memberType {
		return h, nil, errors.New("does not begin with a member header")
	}
	if path.Base(m.Name) != baseName(h.Process, h.File) {
		return h, nil, fmt.Errorf("says it belongs to file %d of process %q", h.File, h.Process)
	}
	return h, rest, nil
}

// follows checks m against the last member read of its process, if any was.
func (m *Member) follows(head *Member) error {
	switch {
	case (m.Seq == 0) != (m.Prev == ""):
		return fmt.Errorf("has sequence %d and names %q as the member before", m.Seq, m.Prev)
	case head == nil:
		return nil
	case m.Seq != head.Seq+1:
		return fmt.Errorf("has sequence %d after %d (%s)", m.Seq, head.Seq, head.Name)
	case m.Prev != head.Hash:
		return fmt.Errorf("names %.12s… as the member before, which is %.12s… (%s)", m.Prev, head.Hash, head.Name)
	}
	return nil
}
