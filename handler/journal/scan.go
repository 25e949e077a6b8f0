package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"

	"aoaigateway/handler/blob"
)

// scanner takes a file apart into its members, holding a few megabytes of it at most.
type scanner struct {
	r       io.Reader
	offset  int64 // of the next member
	chunk   int   // bytes wanted at hand before a member is tried; the fewer, the smaller the memory
	window  []byte
	buf     []byte // window's memory
	ended   bool
	readErr error // of the blob, not of its content

	input bytes.Reader
	gz    gzip.Reader
	raw   []byte
}

// reset begins another file at its start.
func (s *scanner) reset(r io.Reader) {
	s.r, s.offset, s.window, s.ended, s.readErr = r, 0, nil, false, nil
}

// block is a member as it stands in the file: data compressed, raw not. Both are the
// scanner's and good until its next.
type rawBatch struct {
	offset    int64
	data, raw []byte
}

const smallChunk = 256 << 10

func newScanner(r io.Reader, offset int64, chunk int) *scanner {
	return &scanner{r: r, offset: offset, chunk: chunk}
}

// The ways a file ends or a member is none.
var (
	errEnd       = errors.New("no more members")
	errOversized = errors.New("is longer than an append can be")
	errInflated  = errors.New("is larger than a member can be")
)

// next returns the next member; errEnd means there is none. After any other error it must
// not be called again.
func (s *scanner) next() (rawBatch, error) {
	for want := s.chunk; ; want = min(2*want, blob.MaxAppend) {
		if s.fill(want); s.readErr != nil {
			return rawBatch{}, s.readErr
		}
		if len(s.window) == 0 {
			return rawBatch{}, errEnd
		}
		n, err := s.inflate()
		switch {
		case err == nil:
			b := rawBatch{s.offset, s.window[:n], s.raw}
			s.window = s.window[n:]
			s.offset += int64(n)
			return b, nil
		case !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF):
			return rawBatch{}, err
		case len(s.window) >= blob.MaxAppend:
			return rawBatch{}, errOversized
		case s.ended:
			return rawBatch{}, fmt.Errorf("does not decompress: %w", io.ErrUnexpectedEOF)
		}
	}
}

// fill has at least want bytes in the window, or all that are left.
func (s *scanner) fill(want int) {
	if s.ended || len(s.window) >= want {
		return
	}
	old := s.window
	if cap(s.buf) < 2*want {
		s.buf = make([]byte, 2*want)
	}
	n := copy(s.buf, old)
	more, err := io.ReadAtLeast(s.r, s.buf[n:], want-n)
	s.window = s.buf[:n+more]
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		s.ended = true
	case err != nil:
		s.readErr = err
	}
}

// inflate decompresses the window's first member into raw and returns its length. A
// bytes.Reader hands gzip exactly the bytes it asks for.
func (s *scanner) inflate() (int, error) {
	s.input.Reset(s.window[:min(len(s.window), blob.MaxAppend)])
	whole := s.input.Len()
	if err := s.gz.Reset(&s.input); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return 0, io.ErrUnexpectedEOF
		}
		return 0, fmt.Errorf("is no gzip: %w", err)
	}
	s.gz.Multistream(false)
	s.raw = s.raw[:0]
	for {
		if len(s.raw) == cap(s.raw) {
			s.raw = append(make([]byte, 0, max(64<<10, min(2*cap(s.raw), maxRaw+1))), s.raw...)
		}
		n, err := s.gz.Read(s.raw[len(s.raw):cap(s.raw)])
		s.raw = s.raw[:len(s.raw)+n]
		switch {
		case len(s.raw) > maxRaw:
			return 0, errInflated
		case errors.Is(err, io.ErrUnexpectedEOF):
			return 0, err
		case err == io.EOF: //nolint:errorlint // io.Reader's contract
			return whole - s.input.Len(), nil
		case err != nil:
			return 0, fmt.Errorf("does not decompress: %w", err)
		}
	}
}
