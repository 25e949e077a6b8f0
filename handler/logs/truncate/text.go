package truncate

import (
	"bytes"
	"strconv"
	"unicode/utf8"
)

func (w *walker) scalar() {
	start := w.pos
	w.skip()
	if n := w.pos - start; n > minString {
		w.puts(`"` + omitted(n, "bytes") + `"`) // too long: a number with hundreds of digits
		return
	}
	w.put(w.src[start:w.pos]...)
}

// text handles a string. When writing, it removes the middle of the string so that at most
// longest bytes remain between the quotes.
func (w *walker) text(longest int) {
	raw := w.raw()
	if !w.writing {
		if n := len(raw) - 2; n > minString {
			w.lengths = append(w.lengths, n)
			w.size += 2
		} else {
			w.size += len(raw)
		}
		return
	}
	if len(raw)-2 <= longest {
		w.put(raw...)
		return
	}
	room := longest - maxOmitted
	head, tail, dropped := parts(raw[1:len(raw)-1], room-room/3, room/3)
	w.put('"')
	w.put(head...)
	w.puts(omitted(dropped, "bytes"))
	w.put(tail...)
	w.put('"')
}

// raw skips a string and returns its source, including the quotes.
func (w *walker) raw() []byte {
	start := w.pos
	for w.pos++; ; w.pos++ {
		w.pos += bytes.IndexByte(w.src[w.pos:], '"')
		before := w.pos - 1
		for w.src[before] == '\\' {
			before--
		}
		if (w.pos-before)%2 == 1 { // preceded by an even number of backslashes, so this quote ends the string
			break
		}
	}
	w.pos++
	return w.src[start:w.pos]
}

// skip skips a value.
func (w *walker) skip() {
	w.space()
	for depth := 0; ; {
		switch w.src[w.pos] {
		case '"':
			w.raw()
		case '{', '[':
			depth++
			w.pos++
		case '}', ']':
			depth--
			w.pos++
		case ',', ':', ' ', '\t', '\r', '\n':
			w.pos++
			continue
		default:
			w.literal()
		}
		if depth == 0 {
			return
		}
	}
}

// literal handles a number, true, false or null.
func (w *walker) literal() {
	for w.pos < len(w.src) {
		switch w.src[w.pos] {
		case ',', ':', ']', '}', ' ', '\t', '\r', '\n':
			return
		}
		w.pos++
	}
}

// maxOmitted is the greatest length in bytes of what omitted returns.
const maxOmitted = 48

// omitted returns the text that replaces the part that was left out.
func omitted(n int, of string) string { return "…[" + strconv.Itoa(n) + " " + of + " left out]…" }

// parts removes the middle of a string's source and returns the rest. It keeps at most head
// bytes before the gap and tail bytes after it. It never cuts inside a character, an escape
// sequence, or a pair of escapes for one character.
func parts(s []byte, head, tail int) (before, after []byte, dropped int) {
	end := 0
	for next := charLength(s); next <= head; next += charLength(s[next:]) {
		end = next
	}
	start := boundary(s, end, len(s)-tail)
	return s[:end], s[start:], start - end
}

// boundary returns the first end of a character that is at the index at or after it. from
// must be an end of a character, and not after at.
func boundary(s []byte, from, at int) int {
	const near = 2 * maxCharLength
	if i := at - near; i > from && bytes.IndexByte(s[i:at], '\\') < 0 { // no escape sequence is near enough to reach up to at
		for at < len(s) && !utf8.RuneStart(s[at]) {
			at++
		}
		return at
	}
	for from < at {
		from += charLength(s[from:])
	}
	return from
}

// maxCharLength is the length in bytes of the longest source of one character, which is a
// pair of escapes.
const maxCharLength = 12

// charLength returns the number of bytes of the first character in the source s.
func charLength(s []byte) int {
	if s[0] != '\\' {
		if s[0] < utf8.RuneSelf {
			return 1
		}
		_, n := utf8.DecodeRune(s)
		return n
	}
	if len(s) < 6 || s[1] != 'u' {
		return 2
	}
	if (s[2] == 'd' || s[2] == 'D') && bytes.IndexByte([]byte("89abAB"), s[3]) >= 0 && len(s) >= maxCharLength {
		return maxCharLength // this escape is the first half of a surrogate pair
	}
	return 6
}
