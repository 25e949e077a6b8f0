package redact

import (
	"fmt"
	"io"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// window is how many bytes of text are searched at a time. overlap is how many bytes at its
// end are searched again together with the next ones.
const (
	window  = 64 << 10
	overlap = 4 << 10
)

// Writer replaces personal data in what is written to it and passes the result on. It holds
// back at most one window.
type Writer struct {
	rules  *Rules
	to     io.Writer
	json   bool
	inside bool   // the position is inside a JSON string; always true for plain text
	escape []byte // an escape sequence whose end has not arrived yet
	high   rune   // the first half of a surrogate pair whose second half has not arrived yet; 0 = none
	text   []byte // decoded text that was not searched yet
	out    []byte
	count  int
}

// Writer returns a Writer that writes to to. inJSON says whether the data is JSON or plain
// text. Close passes on what was held back.
func (r *Rules) Writer(to io.Writer, inJSON bool) *Writer {
	return &Writer{rules: r, to: to, json: inJSON, inside: !inJSON}
}

// Count returns the number of matches found so far.
func (w *Writer) Count() int { return w.count }

// Write redacts p. An error comes from the writer that it writes to.
func (w *Writer) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		if w.json {
			rest = w.readToken(rest)
		} else {
			n := min(len(rest), window)
			w.text, rest = append(w.text, rest[:n]...), rest[n:]
		}
		if len(w.text) >= window {
			w.redactText(false)
		}
		if err := w.flush(window); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// Close passes on what was held back. It does not close the writer that it writes to.
func (w *Writer) Close() error {
	w.text = append(w.endSurrogate(), w.escape...)
	w.escape = nil
	w.redactText(true)
	return w.flush(0)
}

func (w *Writer) flush(more int) error {
	if len(w.out) <= more {
		return nil
	}
	_, err := w.to.Write(w.out)
	w.out = w.out[:0]
	return err
}

// readToken takes the next part of JSON from p: bytes outside strings, a part of a string,
// or an escape sequence.
func (w *Writer) readToken(p []byte) []byte {
	switch {
	case !w.inside:
		i := 0
		for i < len(p) && i < window && p[i] != '"' {
			i++
		}
		if i < len(p) && p[i] == '"' {
			w.inside = true
			i++
		}
		w.out = append(w.out, p[:i]...)
		return p[i:]
	case len(w.escape) > 0:
		w.escape = append(w.escape, p[0])
		w.unescape()
		return p[1:]
	case p[0] == '\\':
		w.escape = append(w.escape, '\\')
		return p[1:]
	case p[0] == '"':
		w.text = w.endSurrogate()
		w.redactText(true)
		w.out = append(w.out, '"')
		w.inside = false
		return p[1:]
	}
	i := 0
	for i < len(p) && i < window && p[i] != '"' && p[i] != '\\' {
		i++
	}
	w.text = append(w.endSurrogate(), p[:i]...)
	return p[i:]
}

// unescape adds the character that a complete escape sequence stands for to the text.
func (w *Writer) unescape() {
	e := w.escape
	if e[1] == 'u' && len(e) < 6 {
		return
	}
	w.escape = w.escape[:0]
	if e[1] != 'u' {
		w.text = append(w.endSurrogate(), simpleEscape(e[1]))
		return
	}
	r := utf8.RuneError
	if code, err := strconv.ParseUint(string(e[2:]), 16, 16); err == nil {
		r = rune(code)
	}
	switch pair := utf16.DecodeRune(w.high, r); {
	case w.high != 0 && pair != utf8.RuneError:
		w.high = 0
		w.text = utf8.AppendRune(w.text, pair)
	case r >= 0xD800 && r < 0xDC00:
		w.text = w.endSurrogate()
		w.high = r
	default:
		w.text = utf8.AppendRune(w.endSurrogate(), r)
	}
}

// endSurrogate returns the text. If the second half of a surrogate pair is missing, it adds
// a replacement character.
func (w *Writer) endSurrogate() []byte {
	if w.high != 0 {
		w.high = 0
		w.text = utf8.AppendRune(w.text, utf8.RuneError)
	}
	return w.text
}

func simpleEscape(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c // the escapes of " \ and / stand for these characters themselves
}

// redactText redacts the text and passes it on. Unless last is true, it keeps the end of
// the text, which may be the beginning of a match.
func (w *Writer) redactText(last bool) {
	found := w.rules.find(w.text)
	cut := len(w.text)
	if !last {
		cut = w.cut(found)
	}
	at := 0
	for _, s := range found {
		if s.from >= cut {
			break
		}
		w.appendText(w.text[at:s.from])
		w.out = append(w.out, s.mark...)
		w.count++
		at = s.to
	}
	if at < cut {
		w.appendText(w.text[at:cut])
		at = cut
	}
	w.text = w.text[:copy(w.text, w.text[at:])]
}

// cut returns how much of the text can be passed on without splitting a match or a word.
func (w *Writer) cut(found []span) int {
	cut := len(w.text) - overlap
	for i := cut; i > cut-overlap; i-- {
		if c := w.text[i]; c <= ' ' {
			cut = i
			break
		}
	}
	for cut > 0 && !utf8.RuneStart(w.text[cut]) {
		cut--
	}
	for _, s := range found {
		if s.from < cut && s.to > cut {
			if s.from == 0 {
				return s.to // this match is longer than the window
			}
			return s.from
		}
	}
	return cut
}

// appendText adds text to the output, either as plain text or as part of a JSON string.
func (w *Writer) appendText(text []byte) {
	if !w.json {
		w.out = append(w.out, text...)
		return
	}
	from := 0
	for i, c := range text {
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		w.out = append(w.out, text[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			w.out = append(w.out, '\\', c)
		case '\n':
			w.out = append(w.out, `\n`...)
		case '\t':
			w.out = append(w.out, `\t`...)
		case '\r':
			w.out = append(w.out, `\r`...)
		default:
			w.out = fmt.Appendf(w.out, `\u%04x`, c)
		}
	}
	w.out = append(w.out, text[from:]...)
}
