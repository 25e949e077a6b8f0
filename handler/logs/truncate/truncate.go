// Package truncate shortens JSON values to the length that a column of Log Analytics
// accepts. The result is valid JSON.
package truncate

import (
	"math"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// MaxSize is the greatest length of a value, in bytes of UTF-8. The service cuts values at
// 64 KB of UTF-16; a value never has more units of UTF-16 than bytes of UTF-8.
const MaxSize = 64_000

// minString is the length in bytes below which no string is cut. If that does not shorten
// the value enough, elements and members are left out.
const minString = 96

// JSON returns body shortened to at most MaxSize bytes, or false if body is not valid JSON
// or has duplicate names. It shortens the longest strings, and each of them says how many
// bytes are missing. If the value is too long even without these strings, it also leaves
// out elements and members, but never the members id, object, model and usage of the top
// level.
func JSON(body []byte) ([]byte, bool) {
	if !jsontext.Value(body).IsValid() {
		return nil, false
	}
	if len(body) <= MaxSize {
		return body, true
	}
	for _, l := range levels {
		m := walker{src: body, level: l}
		m.value(0)
		if longest, ok := m.fit(MaxSize); ok {
			w := walker{src: body, level: l, writing: true, longest: longest, out: make([]byte, 0, MaxSize)}
			w.value(0)
			return w.out, true
		}
	}
	return []byte(`"` + omitted(len(body), "bytes") + `"`), true
}

// level says how much of the structure is kept: the number of items and members, the depth,
// and the length of names.
type level struct {
	items, members, depth, name int
	bare                        bool // of the top level, keep only keptMembers
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

// keptMembers are the members of the top level that are kept at every level.
var keptMembers = []string{`"id"`, `"object"`, `"model"`, `"usage"`}

// walker walks through a valid JSON value once. It either measures the value, or writes it
// with every string cut to longest bytes. It does not decode the value.
type walker struct {
	src     []byte
	pos     int
	level   level
	writing bool
	longest int
	out     []byte

	size    int   // bytes of everything except the strings in lengths
	lengths []int // lengths of the strings that are longer than minString
}

// fit returns the length to which strings must be cut so that the whole value has at most
// limit bytes. It returns false if that is not possible.
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
	for i, n := range w.lengths { // try to cut the i+1 longest strings to the same length
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

// more skips separators and reports whether there is another element before end. If end is
// next, it skips end too. When it is called to skip a colon, the result has no meaning.
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

// name writes a member's name. If the level allows only short names, it cuts the name and
// adds number, so that names remain unique.
func (w *walker) name(raw []byte, number int) {
	if len(raw)-2 <= w.level.name {
		w.put(raw...)
		return
	}
	head, _, dropped := parts(raw[1:len(raw)-1], w.level.name, 0)
	w.put('"')
	w.put(head...)
	w.puts(omitted(dropped, "bytes") + "#" + strconv.Itoa(number) + `"`)
}
