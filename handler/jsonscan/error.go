package jsonscan

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Mistake says what is wrong with a text.
type Mistake int

// The mistakes of a text.
const (
	Syntax Mistake = iota
	DuplicateName
	TooManyNames // more than 65,536 names in objects that are open at one time
)

// Error says where a text is no JSON.
type Error struct {
	Mistake Mistake
	Offset  int64  // the byte at which the mistake was found
	Line    int    // its line, from 1
	Pointer string // the value that contains it, as a JSON pointer; names are cut to 64 bytes
}

func (e *Error) Error() string {
	return fmt.Sprintf("jsonscan: mistake %d at byte %d, line %d, within %q", e.Mistake, e.Offset, e.Line, e.Pointer)
}

// fail returns the error for the present position. depth is how many names and indices its
// pointer has. If the reader has failed, fail returns the reader's error.
func (s *Scanner) fail(depth int) error {
	if s.readErr != nil {
		return s.readErr
	}
	line := 1 + s.lines + bytes.Count(s.buf[:min(s.pos, len(s.buf))], []byte{'\n'})
	return &Error{Offset: s.offset(), Line: line, Pointer: s.pointer(depth)}
}

// at changes an error of fail: the mistake was found at the beginning of the last token, a
// name, which contains no line break.
func (s *Scanner) at(err error, offset int64, m Mistake) error {
	if e, ok := err.(*Error); ok { //nolint:errorlint // fail returns it as it is
		e.Offset, e.Mistake = offset, m
	}
	return err
}

func (s *Scanner) pointer(depth int) string {
	var b strings.Builder
	for i := range min(depth, len(s.stack)) {
		b.WriteByte('/')
		if !s.stack[i].object {
			b.WriteString(strconv.FormatInt(s.stack[i].index, 10))
			continue
		}
		name, _ := jsontext.AppendUnquote(nil, s.nameAt(i)) // of a cut name it returns the beginning
		_, _ = strings.NewReplacer("~", "~0", "/", "~1").WriteString(&b, string(name))
	}
	return b.String()
}
