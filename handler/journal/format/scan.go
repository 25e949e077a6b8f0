package format

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"

	"aoaigateway/handler/blob"
)

// Scanner splits a file into its batches. It keeps at most a few megabytes in memory.
type Scanner struct {
	r       io.Reader
	offset  int64 // where the next batch begins
	chunk   int   // how many bytes are read before decompression is tried; a small number needs less memory
	window  []byte
	buf     []byte // the memory that window uses
	ended   bool
	readErr error // an error of the blob, not of its content

	input bytes.Reader
	gz    gzip.Reader
	raw   []byte
}

// NewScanner returns a Scanner of a file. r contains the file from offset on. The Scanner
// reads chunk bytes at a time.
func NewScanner(r io.Reader, offset int64, chunk int) *Scanner {
	return &Scanner{r: r, offset: offset, chunk: chunk}
}

// Reset makes the Scanner read another file from its beginning.
func (s *Scanner) Reset(r io.Reader) {
	s.r, s.offset, s.window, s.ended, s.readErr = r, 0, nil, false, nil
}

// Offset returns where the next batch begins in the file.
func (s *Scanner) Offset() int64 { return s.offset }

// ReadErr returns the reader's error that ended the scan, or nil.
func (s *Scanner) ReadErr() error { return s.readErr }

// RawBatch is a batch as it stands in the file. Its bytes are valid until the next call of
// a method of the Scanner.
type RawBatch struct {
	Data  []byte // compressed
	Lines []byte // decompressed
}

// Hash returns the SHA-256 of the compressed bytes in hex.
func (b RawBatch) Hash() string { return hash(b.Data) }

const smallChunk = 256 << 10

// ErrEnd says that the file has no more batches.
var ErrEnd = errors.New("no more batches")

var (
	errOversized = errors.New("has more compressed bytes than one append can have")
	errInflated  = errors.New("has more decompressed bytes than a batch can have")
)

// Next returns the next batch, or ErrEnd. After an error, Reset must be called before Next
// is called again.
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
			return RawBatch{}, fmt.Errorf("cannot be decompressed: %w", io.ErrUnexpectedEOF)
		}
	}
}

// fill reads until the window has want bytes, or until the end of the file.
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

// inflate decompresses the first gzip member in the window into raw and returns the
// member's length. The length is exact because gzip takes no more bytes from a bytes.Reader
// than it needs.
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
		case err == io.EOF: //nolint:errorlint // io.Reader returns io.EOF itself
			return whole - s.input.Len(), nil
		case err != nil:
			return 0, fmt.Errorf("cannot be decompressed: %w", err)
		}
	}
}
