package format

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"

	"aoaigateway/handler/blob"
)

// Scanner splits a file into its batches. It holds a few megabytes at most.
type Scanner struct {
	r       io.Reader
	offset  int64 // of the next batch
	chunk   int   // bytes read before a batch is tried; fewer bytes need less memory
	window  []byte
	buf     []byte // memory of window
	ended   bool
	readErr error // of the blob, not of its content

	input bytes.Reader
	gz    gzip.Reader
	raw   []byte
}

// NewScanner reads a file, of which r begins at offset, in chunks.
func NewScanner(r io.Reader, offset int64, chunk int) *Scanner {
	return &Scanner{r: r, offset: offset, chunk: chunk}
}

// Reset begins another file at its start.
func (s *Scanner) Reset(r io.Reader) {
	s.r, s.offset, s.window, s.ended, s.readErr = r, 0, nil, false, nil
}

// Offset returns where the next batch begins.
func (s *Scanner) Offset() int64 { return s.offset }

// ReadErr returns the error of the reader that ended the scan, if there was one.
func (s *Scanner) ReadErr() error { return s.readErr }

// RawBatch is a batch as it is in the file. Its bytes are valid until the scanner's next call.
type RawBatch struct {
	Data  []byte // compressed
	Lines []byte // decompressed
}

// Hash returns the SHA-256 of the compressed bytes, hex.
func (b RawBatch) Hash() string { return hash(b.Data) }

const smallChunk = 256 << 10

// ErrEnd says that a file has no more batches.
var ErrEnd = errors.New("no more batches")

var (
	errOversized = errors.New("is longer than an append can be")
	errInflated  = errors.New("is larger than a batch can be")
)

// Next returns the next batch, or ErrEnd. After any error it must not be called again before Reset.
func (s *Scanner) Next() (RawBatch, error) {
	for want := s.chunk; ; want = min(2*want, blob.MaxAppend) {
		if s.fill(want); s.readErr != nil {
			return RawBatch{}, s.readErr
		}
		if len(s.window) == 0 {
			return RawBatch{}, ErrEnd
		}
		n, err := s.inflate()
		switch {
		case err == nil:
			b := RawBatch{s.window[:n], s.raw}
			s.window = s.window[n:]
			s.offset += int64(n)
			return b, nil
		case !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF):
			return RawBatch{}, err
		case len(s.window) >= blob.MaxAppend:
			return RawBatch{}, errOversized
		case s.ended:
			return RawBatch{}, fmt.Errorf("does not decompress: %w", io.ErrUnexpectedEOF)
		}
	}
}

// fill reads until the window has at least want bytes, or all that are left.
func (s *Scanner) fill(want int) {
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

// inflate decompresses the window's first gzip member into raw and returns the member's length, which is exact
// because a bytes.Reader gives gzip no more bytes than it asks for.
func (s *Scanner) inflate() (int, error) {
	s.input.Reset(s.window[:min(len(s.window), blob.MaxAppend)])
	whole := s.input.Len()
	if err := s.gz.Reset(&s.input); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return 0, io.ErrUnexpectedEOF
		}
		return 0, fmt.Errorf("is not in gzip format: %w", err)
	}
	s.gz.Multistream(false)
	s.raw = s.raw[:0]
	for {
		if len(s.raw) == cap(s.raw) {
			s.raw = append(make([]byte, 0, max(64<<10, min(2*cap(s.raw), MaxRaw+1))), s.raw...)
		}
		n, err := s.gz.Read(s.raw[len(s.raw):cap(s.raw)])
		s.raw = s.raw[:len(s.raw)+n]
		switch {
		case len(s.raw) > MaxRaw:
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
