package truncate

import (
	"errors"
	"io"
)

// Limits of Stream in bytes: for the input, for one string, and for the result.
const (
	maxStream       = 128 << 20
	maxStreamString = 16 << 10
	maxStreamResult = 4 << 20
)

var errTooLarge = errors.New("logs: the body is too large to be shortened to the length that Log Analytics accepts")

// Stream reads JSON from r in one pass, with bounded memory, and shortens long strings. The
// result is valid JSON if the input is.
func Stream(r io.Reader) ([]byte, error) {
	c := streamTruncator{out: make([]byte, 0, 64<<10)}
	buf := make([]byte, 64<<10)
	for total := 0; ; {
		n, err := r.Read(buf)
		if total += n; total > maxStream {
			return nil, errTooLarge
		}
		for _, b := range buf[:n] {
			c.byte(b)
		}
		switch {
		case len(c.out) > maxStreamResult:
			return nil, errTooLarge
		case errors.Is(err, io.EOF):
			return c.out, nil
		case err != nil:
			return nil, err
		}
	}
}

// streamTruncator copies JSON. If a string is too long, it omits the rest of that string.
type streamTruncator struct {
	out     []byte
	inside  bool // the position is inside a string
	escaped bool // the next byte is part of an escape that begins with a backslash
	start   int  // index in out of the string's first byte
	dropped int
}

func (c *streamTruncator) byte(b byte) {
	switch {
	case !c.inside:
		c.out = append(c.out, b)
		c.inside, c.start, c.dropped = b == '"', len(c.out), 0
		return
	case c.escaped:
		c.escaped = false
	case b == '\\':
		c.escaped = true
	case b == '"':
		c.end()
		return
	}
	if len(c.out)-c.start < maxStreamString {
		c.out = append(c.out, b)
	} else {
		c.dropped++
	}
}

func (c *streamTruncator) end() {
	c.inside = false
	if c.dropped > 0 {
		cut := c.out[c.start:]
		keep := wholeChars(cut)
		c.dropped += len(cut) - keep
		c.out = append(c.out[:c.start+keep], omitted(c.dropped, "bytes")...)
	}
	c.out = append(c.out, '"')
}

// wholeChars returns the length of s without an incomplete character at its end.
func wholeChars(s []byte) int {
	i := 0
	for i+maxCharLength <= len(s) {
		i += charLength(s[i:])
	}
	return i
}
