package journal

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"path"
	"strings"

	"github.com/klauspost/compress/gzip"
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
}

// BreakError names the first member of a file that is not what it should be.
type BreakError struct {
	Name   string
	Index  int
	Offset int64
	Reason string
}

func (e *BreakError) Error() string {
	return fmt.Sprintf("journal: %s: member %d at byte %d: %s", e.Name, e.Index, e.Offset, e.Reason)
}

// Read yields the members of every journal file whose name begins with prefix, file by
// file in order of their names, and verifies framing and chain within what it reads. A
// *BreakError ends its file, not the iteration; any other error ends the iteration.
func Read(ctx context.Context, b Blobs, prefix string) iter.Seq2[Member, error] {
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
func ReadFile(ctx context.Context, b Blobs, name string) iter.Seq2[Member, error] {
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
func readFile(ctx context.Context, b Blobs, name string, heads map[string]*Member, yield func(Member, error) bool) bool {
	blob, err := b.Open(ctx, name, 0)
	if err != nil {
		return yield(Member{}, fmt.Errorf("journal: %s: %w", name, err)) && false
	}
	defer func() { _ = blob.Close() }()
	process := processOf(name)
	src := &source{r: bufio.NewReaderSize(blob, 64<<10)}
	for index := 0; ; index++ {
		m := Member{Name: name, Index: index, Offset: src.total}
		err := m.read(src)
		switch {
		case errors.Is(err, errEnd):
			return true
		case src.failed != nil:
			return yield(Member{}, fmt.Errorf("journal: %s: %w", name, src.failed)) && false
		case err == nil:
			err = m.follows(heads[process])
		}
		if err != nil {
			delete(heads, process)
			return yield(Member{}, &BreakError{Name: name, Index: index, Offset: m.Offset, Reason: err.Error()})
		}
		heads[process] = &Member{Name: name, File: m.File, Seq: m.Seq, Hash: m.Hash}
		if !yield(m, nil) {
			return false
		}
	}
}

// errEnd is the end of a file between two members.
var errEnd = errors.New("no more members")

// read fills m from the next member of src; errEnd means there is none.
func (m *Member) read(src *source) error {
	if _, err := src.r.Peek(1); errors.Is(err, io.EOF) {
		return errEnd
	} else if err != nil {
		return src.fail(err)
	}
	src.taken.Reset()
	gz, err := gzip.NewReader(src)
	if err != nil {
		return fmt.Errorf("is no gzip: %w", err)
	}
	gz.Multistream(false)
	raw, err := io.ReadAll(io.LimitReader(gz, maxRaw+1))
	switch {
	case err != nil:
		return fmt.Errorf("does not decompress: %w", err)
	case len(raw) > maxRaw:
		return errors.New("is larger than a member can be")
	}
	m.Length = int64(src.taken.Len())
	m.Hash = hash(src.taken.Bytes())
	return m.parse(raw)
}

// parse splits the lines and takes the header off.
func (m *Member) parse(raw []byte) error {
	if len(raw) == 0 || raw[len(raw)-1] != '\n' {
		return errors.New("does not end with a newline")
	}
	lines := bytes.Split(raw[:len(raw)-1], []byte{'\n'})
	var h header
	if err := json.Unmarshal(lines[0], &h); err != nil || h.Type != memberType {
		return errors.New("does not begin with a member header")
	}
	m.Process, m.File, m.Seq, m.Prev = h.Process, h.File, h.Seq, h.Prev
	m.Records = lines[1:]
	if path.Base(m.Name) != baseName(m.Process, m.File) {
		return fmt.Errorf("says it belongs to file %d of process %q", m.File, m.Process)
	}
	return nil
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

// source hands gzip exactly the bytes it asks for (it is an io.ByteReader, so nothing is
// read ahead of a member's end) and keeps them.
type source struct {
	r      *bufio.Reader
	taken  bytes.Buffer // of this member
	total  int64
	failed error // of the blob, not of its content
}

var errLong = errors.New("is longer than an append can be")

func (s *source) ReadByte() (byte, error) {
	if s.taken.Len() >= MaxAppend {
		return 0, errLong
	}
	b, err := s.r.ReadByte()
	if err != nil {
		return 0, s.fail(err)
	}
	s.taken.WriteByte(b)
	s.total++
	return b, nil
}

func (s *source) Read(p []byte) (int, error) {
	if s.taken.Len() >= MaxAppend {
		return 0, errLong
	}
	n, err := s.r.Read(p[:min(len(p), MaxAppend-s.taken.Len())])
	s.taken.Write(p[:n])
	s.total += int64(n)
	if err != nil {
		err = s.fail(err)
	}
	return n, err
}

func (s *source) fail(err error) error {
	if !errors.Is(err, io.EOF) {
		s.failed = err
	}
	return err
}
