// Package jsonscan reads one JSON value in pieces. Its memory does not depend on the size of
// the value. It accepts exactly what package jsontext accepts by default, and refuses the
// same text at the same byte: duplicate names, invalid UTF-8, unpaired surrogates and text
// after the value are errors. Only an object with very many names is refused here alone.
package jsonscan

import (
	"bytes"
	"hash/maphash"
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

// Limits of a Scanner. The largest depth is that of package jsontext.
const (
	maxDepth = 10_000
	maxNames = 1 << 16 // names of all objects that are open at one time
	maxPath  = 64      // bytes of a name that an error's pointer shows
	window   = 32 << 10

	usualDepth = 8
)

// Kind is the kind of a token: its first byte, except that 0 stands for a number.
type Kind byte

// The kinds of tokens.
const (
	String      Kind = '"'
	Number      Kind = '0'
	True        Kind = 't'
	False       Kind = 'f'
	Null        Kind = 'n'
	BeginObject Kind = '{'
	EndObject   Kind = '}'
	BeginArray  Kind = '['
	EndArray    Kind = ']'
)

// Token is one token. Text is valid until the next call of Next.
type Token struct {
	Kind       Kind
	IsName     bool   // the name of a member
	Depth      int    // the number of objects and arrays around the token
	Start, End int64  // where the token begins and ends
	Text       []byte // a string, number or literal as it is written, or its first bytes
	Hides      bool   // the string contains letters that are written as \u escapes
}

// Whole reports whether Text is the whole token.
func (t *Token) Whole() bool { return int64(len(t.Text)) == t.End-t.Start }

// Unquoted returns the string that a token stands for, or the beginning of a string of which
// Text is not the whole. It returns "" for other tokens.
func (t *Token) Unquoted() string {
	if t.Kind != String {
		return ""
	}
	if end := len(t.Text) - 1; end > 0 && t.Whole() && bytes.IndexByte(t.Text, '\\') < 0 {
		return string(t.Text[1:end])
	}
	s, _ := jsontext.AppendUnquote(nil, t.Text) // fails only for a string that was cut, after its beginning
	return string(s)
}

// frame is an object or array that has begun and not ended.
type frame struct {
	object bool
	index  int64               // elements of the array before the present one
	path   int                 // where the present name begins in Scanner.path
	names  int                 // where the hashes of the names begin in Scanner.names
	many   map[uint64]struct{} // the hashes if there are many
}

// state says what may come next.
type state int

const (
	wantValue   state = iota
	wantFirst         // a value or the end of the array
	wantNameEnd       // a name or the end of the object
	wantName
	wantColon
	wantCommaEnd
	wantEOF
)

// Scanner reads one value. It is not safe for concurrent use.
type Scanner struct {
	r       io.Reader // nil = buf is the whole value
	buf     []byte
	pos     int
	base    int64 // offset of buf[0]
	lines   int   // line breaks before buf[0]
	mark    int   // where the present token begins in buf; -1 = no token, or its beginning is in text
	text    []byte
	maxText int
	readErr error

	state state
	stack []frame
	path  []byte   // the present names of all open objects
	names []uint64 // the hashes of the names of all open objects
	hash  maphash.Hash
}

// New returns a Scanner of what r returns. maxText is how many bytes of a token its Text has
// at most.
func New(r io.Reader, maxText int) *Scanner {
	return &Scanner{r: r, buf: make([]byte, 0, window), mark: -1, maxText: maxText, stack: make([]frame, 0, usualDepth)}
}

// NewBytes returns a Scanner of a value in memory.
func NewBytes(value []byte, maxText int) *Scanner {
	return &Scanner{buf: value, mark: -1, maxText: maxText, stack: make([]frame, 0, usualDepth)}
}

// fill reads more bytes. It fails with io.EOF at the end.
func (s *Scanner) fill() error {
	if s.r == nil {
		return io.EOF
	}
	if s.mark >= 0 {
		s.text = append(s.text, s.buf[s.mark:s.pos]...)
		s.text = s.text[:min(len(s.text), s.maxText)]
		s.mark = 0
	}
	s.lines += bytes.Count(s.buf[:s.pos], []byte{'\n'})
	s.base += int64(s.pos)
	s.buf = s.buf[:copy(s.buf[:cap(s.buf)], s.buf[s.pos:])]
	s.pos = 0
	for range 100 {
		n, err := s.r.Read(s.buf[len(s.buf):cap(s.buf)])
		s.buf = s.buf[:len(s.buf)+n]
		if n > 0 {
			return nil
		}
		if err != nil {
			if err != io.EOF {
				s.readErr = err
			}
			return err
		}
	}
	return io.ErrNoProgress
}

// peek returns the byte at the present position, or ok = false at the end.
func (s *Scanner) peek() (c byte, ok bool) {
	for s.pos >= len(s.buf) {
		if s.fill() != nil {
			return 0, false
		}
	}
	return s.buf[s.pos], true
}

// need makes n bytes available at the present position. It returns fewer at the end.
func (s *Scanner) need(n int) []byte {
	for len(s.buf)-s.pos < n {
		if s.fill() != nil {
			break
		}
	}
	return s.buf[s.pos:min(len(s.buf), s.pos+n)]
}

func (s *Scanner) offset() int64 { return s.base + int64(s.pos) }

// skipSpace returns the next byte that is no white space.
func (s *Scanner) skipSpace() (c byte, ok bool) {
	for {
		for s.pos < len(s.buf) {
			switch c := s.buf[s.pos]; c {
			case ' ', '\t', '\r', '\n':
				s.pos++
			default:
				return c, true
			}
		}
		if s.fill() != nil {
			return 0, false
		}
	}
}

// Next returns the next token. After the value and nothing else it returns io.EOF. Any other
// error is an *Error, or an error of the reader.
func (s *Scanner) Next() (t Token, err error) {
	for {
		c, ok := s.skipSpace()
		if !ok {
			if s.state == wantEOF && s.readErr == nil {
				return t, io.EOF
			}
			return t, s.fail(s.pathAfter())
		}
		switch s.state {
		case wantEOF:
			return t, s.fail(0)
		case wantColon:
			if c != ':' {
				return t, s.fail(len(s.stack))
			}
			s.pos++
			s.state = wantValue
			continue
		case wantCommaEnd:
			if c == ',' {
				s.pos++
				s.state = wantValue
				if top := &s.stack[len(s.stack)-1]; top.object {
					s.state = wantName
				} else {
					top.index++
				}
				continue
			}
			return s.end(c)
		case wantFirst, wantNameEnd:
			if c == ']' && s.state == wantFirst || c == '}' && s.state == wantNameEnd {
				return s.end(c)
			}
		case wantValue, wantName:
		}
		if s.state == wantName || s.state == wantNameEnd {
			return s.name(c)
		}
		return s.value(c)
	}
}

// pathAfter returns how many names and indices the pointer of an error at the end of the
// text has.
func (s *Scanner) pathAfter() int {
	if s.state == wantColon || s.state == wantValue && len(s.stack) > 0 && s.stack[len(s.stack)-1].object {
		return len(s.stack)
	}
	return max(len(s.stack)-1, 0)
}

// end ends the object or array with the byte c.
func (s *Scanner) end(c byte) (t Token, err error) {
	top := &s.stack[len(s.stack)-1]
	if c != '}' && top.object || c != ']' && !top.object {
		return t, s.fail(len(s.stack) - 1)
	}
	s.names, s.path = s.names[:top.names], s.path[:top.path]
	s.stack = s.stack[:len(s.stack)-1]
	at := s.offset()
	s.pos++
	s.afterValue()
	return Token{Kind: Kind(c), Depth: len(s.stack), Start: at, End: at + 1}, nil
}

func (s *Scanner) afterValue() {
	s.state = wantCommaEnd
	if len(s.stack) == 0 {
		s.state = wantEOF
	}
}

// value reads the value that begins with the byte c, or the beginning of an object or array.
func (s *Scanner) value(c byte) (t Token, err error) {
	t = Token{Kind: Kind(c), Depth: len(s.stack), Start: s.offset()}
	s.mark, s.text = s.pos, s.text[:0]
	var ok bool
	switch c {
	case '{', '[':
		return s.begin(t)
	case '"':
		ok = s.str(&t, false)
	case 't':
		ok = s.literal("true")
	case 'f':
		ok = s.literal("false")
	case 'n':
		ok = s.literal("null")
	default:
		t.Kind = Number
		ok = s.number()
	}
	if !ok {
		err = s.fail(len(s.stack))
		if _, more := s.peek(); !more && t.Kind == Number {
			err = s.at(err, t.Start, Syntax)
		}
		return t, err
	}
	s.finish(&t)
	s.afterValue()
	return t, nil
}

func (s *Scanner) begin(t Token) (Token, error) {
	s.mark = -1
	if len(s.stack) == maxDepth {
		return t, s.fail(len(s.stack))
	}
	s.stack = append(s.stack, frame{object: t.Kind == BeginObject, path: len(s.path), names: len(s.names)})
	s.pos++
	s.state = wantFirst
	if t.Kind == BeginObject {
		s.state = wantNameEnd
	}
	t.End = s.offset()
	return t, nil
}

// finish sets the end and the text of a token.
func (s *Scanner) finish(t *Token) {
	t.End = s.offset()
	if len(s.text) == 0 {
		t.Text = s.buf[s.mark:min(s.pos, s.mark+s.maxText)]
	} else {
		if more := s.maxText - len(s.text); more > 0 {
			s.text = append(s.text, s.buf[:min(s.pos, more)]...)
		}
		t.Text = s.text
	}
	s.mark = -1
}

// name reads the name of a member.
func (s *Scanner) name(c byte) (t Token, err error) {
	t = Token{Kind: String, IsName: true, Depth: len(s.stack), Start: s.offset()}
	if c != '"' {
		return t, s.fail(len(s.stack) - 1)
	}
	s.mark, s.text = s.pos, s.text[:0]
	if !s.str(&t, true) {
		return t, s.fail(len(s.stack) - 1)
	}
	s.finish(&t)
	top := &s.stack[len(s.stack)-1]
	s.path = append(s.path[:top.path], t.Text[:min(len(t.Text), maxPath)]...)
	switch s.addName(top, s.hash.Sum64()) {
	case nameIsNew:
	case nameIsTwice:
		e := s.fail(len(s.stack))
		return t, s.at(e, t.Start, DuplicateName)
	case namesAreTooMany:
		e := s.fail(len(s.stack) - 1)
		return t, s.at(e, t.Start, TooManyNames)
	}
	s.state = wantColon
	return t, nil
}
