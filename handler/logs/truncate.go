package logs

import (
	"bytes"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// maxValue bounds a value in bytes of UTF-8, of which UTF-16 never has more units. The
// service cuts at 64 KB.
const maxValue = 64_000

// minString is the least a string is cut down to: below that, structure goes.
const minString = 96

// Shorten returns a JSON value of at most 64,000 bytes that stands for body, a valid JSON
// value without duplicate names; false means that it is none. What does not fit is cut out
// of the longest strings, each of which then says how many bytes are missing. Only where
// everything but the strings is too long already, elements and members go too, but never
// the top level's id, object, model and usage.
func Truncate(body []byte) ([]byte, bool) {
	if !jsontext.Value(body).IsValid() {
		return nil, false
	}
	if len(body) <= maxValue {
		return body, true
	}
	for _, l := range levels {
		m := walker{src: body, level: l}
		m.value(0)
		if longest, ok := m.fit(maxValue); ok {
			w := walker{src: body, level: l, writing: true, longest: longest, out: make([]byte, 0, maxValue)}
			w.value(0)
			return w.out, true
		}
	}
	return []byte(`"` + omitted(len(body), "bytes") + `"`), true
}

// level says how much of the structure is kept.
type level struct {
	items, members, depth, name int
	bare                        bool // of the top level only the members in kept
}

const all = math.MaxInt

var levels = []level{
	{items: all, members: all, depth: all, name: all},
	{items: 1024, members: 4096, depth: 64, name: 1024},
	{items: 128, members: 512, depth: 32, name: 256},
	{items: 16, members: 64, depth: 16, name: 128},
	{items: 4, members: 16, depth: 6, name: 96},
	{items: 4, members: 16, depth: 3, name: 96, bare: true},
}

// kept are the members of the top level that are never left out.
var keptMembers = []string{`"id"`, `"object"`, `"model"`, `"usage"`}

// walker goes over a valid value once: measuring, or writing with every string cut to
// longest. Only the source's offsets move; nothing is decoded.
type walker struct {
	src     []byte
	pos     int
	level   level
	writing bool
	longest int
	out     []byte

	size    int   // of all but the strings in lengths
	lengths []int // of strings longer than minString
}

// fit finds the length to which strings must be cut so that all is within limit.
func (w *walker) fit(limit int) (longest int, ok bool) {
	slices.SortFunc(w.lengths, func(a, b int) int { return b - a })
	room, total := limit-w.size, 0
	for _, n := range w.lengths {
		total += n
	}
	if room < 0 {
		return 0, false
	}
	if total <= room {
		return all, true
	}
	for i, n := range w.lengths { // the i+1 longest are cut, the others are not
		total -= n
		next := minString
		if i+1 < len(w.lengths) {
			next = w.lengths[i+1]
		}
		if each := (room - total) / (i + 1); each >= next {
			return each, true
		}
	}
	return 0, false
}

func (w *walker) put(b ...byte) {
	if w.writing {
		w.out = append(w.out, b...)
	} else {
		w.size += len(b)
	}
}

func (w *walker) puts(s string) {
	if w.writing {
		w.out = append(w.out, s...)
	} else {
		w.size += len(s)
	}
}

func (w *walker) space() {
	for w.pos < len(w.src) {
		switch w.src[w.pos] {
		case ' ', '\t', '\r', '\n':
			w.pos++
		default:
			return
		}
	}
}

func (w *walker) value(depth int) {
	w.space()
	switch c := w.src[w.pos]; {
	case c == '"':
		w.text(w.longest)
	case c != '{' && c != '[':
		w.scalar()
	case depth >= w.level.depth:
		start := w.pos
		w.skip()
		w.puts(`"` + omitted(w.pos-start, "bytes") + `"`)
	case c == '{':
		w.object(depth)
	default:
		w.array(depth)
	}
}

func (w *walker) array(depth int) {
	w.pos++
	w.put('[')
	n := 0
	for w.more(']') {
		if n++; n > w.level.items {
			w.skip()
			continue
		}
		w.comma(n)
		w.value(depth + 1)
	}
	if n > w.level.items {
		w.puts(`,"` + omitted(n-w.level.items, "items") + `"`)
	}
	w.put(']')
}

func (w *walker) object(depth int) {
	w.pos++
	w.put('{')
	n, dropped := 0, 0
	for w.more('}') {
		name := w.raw()
		must := depth == 0 && slices.Contains(keptMembers, string(name))
		if !must && (n >= w.level.members || depth == 0 && w.level.bare) {
			dropped++
			w.more(':')
			w.skip()
			continue
		}
		n++
		w.comma(n)
		w.name(name, n)
		w.put(':')
		w.more(':')
		w.value(depth + 1)
	}
	if dropped > 0 {
		w.comma(n + 1)
		w.puts(`"…":"` + omitted(dropped, "members") + `"`)
	}
	w.put('}')
}

// more steps over separators and says whether there is something before end, over which
// it steps as well. For a colon there is nothing to find out.
func (w *walker) more(end byte) bool {
	w.space()
	if c := w.src[w.pos]; c == ',' || c == ':' {
		w.pos++
		w.space()
	}
	if w.src[w.pos] == end {
		w.pos++
		return false
	}
	return true
}

func (w *walker) comma(n int) {
	if n > 1 {
		w.put(',')
	}
}

// name writes a member's name, cut where a level wants it; its place keeps it unique.
func (w *walker) name(raw []byte, place int) {
	if len(raw)-2 <= w.level.name {
		w.put(raw...)
		return
	}
	head, _, gone := parts(raw[1:len(raw)-1], w.level.name, 0)
	w.put('"')
	w.put(head...)
	w.puts(omitted(gone, "bytes") + "#" + strconv.Itoa(place) + `"`)
}

func (w *walker) scalar() {
	start := w.pos
	w.skip()
	if n := w.pos - start; n > minString {
		w.puts(`"` + omitted(n, "bytes") + `"`) // a number of hundreds of digits
		return
	}
	w.put(w.src[start:w.pos]...)
}

// text writes a string, cut inside to at most longest bytes between its quotes.
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
	head, tail, gone := parts(raw[1:len(raw)-1], room-room/3, room/3)
	w.put('"')
	w.put(head...)
	w.puts(omitted(gone, "bytes"))
	w.put(tail...)
	w.put('"')
}

// raw steps over a string and returns it as it is spelled, quotes and all.
func (w *walker) raw() []byte {
	start := w.pos
	for w.pos++; ; w.pos++ {
		w.pos += bytes.IndexByte(w.src[w.pos:], '"')
		before := w.pos - 1
		for w.src[before] == '\\' {
			before--
		}
		if (w.pos-before)%2 == 1 { // the backslashes before it pair up
			break
		}
	}
	w.pos++
	return w.src[start:w.pos]
}

// skip steps over a value.
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

// literal steps over a number, true, false or null.
func (w *walker) literal() {
	for w.pos < len(w.src) {
		switch w.src[w.pos] {
		case ',', ':', ']', '}', ' ', '\t', '\r', '\n':
			return
		}
		w.pos++
	}
}

// markRoom is the most that left makes of a count of bytes.
const maxOmitted = 48

// left is what stands in the place of what was cut.
func omitted(n int, of string) string { return "…[" + strconv.Itoa(n) + " " + of + " left out]…" }

// parts cuts the middle out of a spelled string: at most head bytes before and tail bytes
// after, never inside a character, an escape or a pair of escapes that is one character.
func parts(s []byte, head, tail int) (before, after []byte, gone int) {
	end := 0
	for next := charLength(s); next <= head; next += charLength(s[next:]) {
		end = next
	}
	start := boundary(s, end, len(s)-tail)
	return s[:end], s[start:], start - end
}

// boundary is the first end of a character at or after at; from is one before it.
func boundary(s []byte, from, at int) int {
	const near = 2 * maxCharLength
	if i := at - near; i > from && bytes.IndexByte(s[i:at], '\\') < 0 { // no escape reaches at
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

// maxUnit is the longest unit.
const maxCharLength = 12

// unit is the length of the first character of s as it is spelled.
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
	if high := s[2] == 'd' || s[2] == 'D'; high && (s[3] >= '8' && s[3] <= '9' || s[3] == 'a' || s[3] == 'b' || s[3] == 'A' || s[3] == 'B') && len(s) >= maxCharLength {
		return maxCharLength
	}
	return 6
}
