package jsonscan

import (
	"unicode/utf16"
	"unicode/utf8"
)

// literal reads one of true, false and null.
func (s *Scanner) literal(want string) bool {
	for i := range len(want) {
		if c, ok := s.peek(); !ok || c != want[i] {
			return false
		}
		s.pos++
	}
	return true
}

// number reads a number as RFC 8259 defines it.
func (s *Scanner) number() bool {
	if c, _ := s.peek(); c == '-' {
		s.pos++
	}
	switch c, ok := s.peek(); {
	case !ok:
		return false
	case c == '0':
		s.pos++
	case c >= '1' && c <= '9':
		s.digits()
	default:
		return false
	}
	if c, ok := s.peek(); ok && c == '.' {
		s.pos++
		if !s.digits() {
			return false
		}
	}
	if c, ok := s.peek(); ok && c|0x20 == 'e' {
		s.pos++
		if c, ok := s.peek(); ok && (c == '+' || c == '-') {
			s.pos++
		}
		return s.digits()
	}
	return true
}

// digits reads at least one digit.
func (s *Scanner) digits() bool {
	found := false
	for {
		c, ok := s.peek()
		if !ok || c < '0' || c > '9' {
			return found
		}
		s.pos++
		found = true
	}
}

// str reads a string. It hashes the characters of a name, so that two spellings of one name
// have the same hash.
func (s *Scanner) str(t *Token, hash bool) bool {
	s.pos++ // the quote
	if hash {
		s.hash.Reset()
	}
	for {
		if s.pos >= len(s.buf) && s.fill() != nil {
			return false
		}
		from := s.pos
		for s.pos < len(s.buf) && plain[s.buf[s.pos]] {
			s.pos++
		}
		if hash {
			_, _ = s.hash.Write(s.buf[from:s.pos])
		}
		if s.pos >= len(s.buf) {
			continue
		}
		switch c := s.buf[s.pos]; {
		case c == '"':
			s.pos++
			return true
		case c == '\\':
			if !s.escape(t, hash) {
				return false
			}
		case c < utf8.RuneSelf: // a control character
			return false
		default:
			if !s.runes(hash) {
				return false
			}
		}
	}
}

// plain are the bytes that stand for themselves in a string and are ASCII.
var plain = func() (p [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		p[c] = c != '"' && c != '\\'
	}
	return p
}()

// runes reads characters that are not ASCII.
func (s *Scanner) runes(hash bool) bool {
	for {
		b := s.buf[s.pos:]
		if !utf8.FullRune(b) {
			b = s.need(utf8.UTFMax)
		}
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n <= 1 {
			return false
		}
		if hash {
			_, _ = s.hash.Write(b[:n])
		}
		s.pos += n
		if s.pos >= len(s.buf) || s.buf[s.pos] < utf8.RuneSelf {
			return true
		}
	}
}

// escape reads an escape sequence, or two if they are a surrogate pair. If it fails, the
// position stays at the first backslash.
func (s *Scanner) escape(t *Token, hash bool) bool {
	b := s.need(12) // "\uD83D\uDE00"
	r, n := decodeEscape(b)
	if n == 0 {
		return false
	}
	t.Hides = t.Hides || n == 6 && b[2] == '0' && b[3] == '0' && b[4] >= '4' && b[4] <= '7'
	if hash {
		var enc [utf8.UTFMax]byte
		_, _ = s.hash.Write(enc[:utf8.EncodeRune(enc[:], r)])
	}
	s.pos += n
	return true
}

// decodeEscape returns the character that the escape at the beginning of b stands for, and
// the length of the escape; 0 = it is not valid.
func decodeEscape(b []byte) (r rune, n int) {
	if len(b) < 2 {
		return 0, 0
	}
	switch b[1] {
	case '"', '\\', '/':
		return rune(b[1]), 2
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
	default:
		return 0, 0
	}
	r, ok := hex4(b)
	switch {
	case !ok:
		return 0, 0
	case !utf16.IsSurrogate(r):
		return r, 6
	}
	second, ok := hex4(b[6:])
	if r = utf16.DecodeRune(r, second); !ok || r == utf8.RuneError {
		return 0, 0
	}
	return r, 12
}

// hex4 reads the four digits of a \u escape.
func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	for _, c := range b[2:6] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}
