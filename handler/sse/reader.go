// Package sse reads and writes event streams. A Reader splits a stream into events and
// changes no byte. A Writer sends events at once, and sends comments while there are no
// events.
//
// The format is that of "server-sent events" in the HTML standard: lines end with LF, CRLF
// or CR; a blank line ends an event; lines that begin with a colon are comments. Event.Raw
// has the unchanged bytes of an event, so that all Raws together are the stream.
package sse

import (
	"bytes"
	"errors"
	"io"
	"slices"
)

// maxEvent is the largest size of an event in bytes. The last event of a Responses stream
// contains the whole answer, including images.
const maxEvent = 32 << 20

// errTooLong says that an event is longer than maxEvent.
var errTooLong = errors.New("sse: an event is longer than 32 MiB")

// Event is one event. Its slices are valid until the next call of Next.
type Event struct {
	Raw  []byte // unchanged bytes, including the blank line at the end
	Name []byte // value of the event field; empty = the event has no name
	Data []byte // values of the data fields, joined by LF; nil = the event has none, as in a comment
	Half bool   // the stream ended before the blank line, so the standard says to ignore the event
}

// Reader returns the events of one stream. It does not read ahead: it returns an event as
// soon as the event's last byte has arrived.
type Reader struct {
	src  io.Reader
	buf  []byte
	from int // index of the first byte of the current event
	line int // index of the first byte of the event's current line
	scan int // index of the first byte that was not examined yet
	err  error
	data []byte // memory to join several data fields
	read bool   // an event was returned already; a byte order mark after it is data
}

// NewReader returns a Reader of src.
func NewReader(src io.Reader) *Reader {
	return &Reader{src: src, buf: make([]byte, 0, 4<<10)}
}

// Next returns the next event. At the end of the stream it first returns what follows the
// last blank line, and then io.EOF. If src fails, Next discards the incomplete event and
// returns the error of src.
func (r *Reader) Next() (Event, error) {
	for {
		if end := r.findEnd(); end >= 0 {
			return r.take(end), nil
		}
		if r.err != nil {
			return r.last()
		}
		r.fill()
	}
}

func (r *Reader) last() (Event, error) {
	if errors.Is(r.err, io.EOF) && r.from < len(r.buf) {
		e := r.take(len(r.buf))
		e.Half = true
		return e, nil
	}
	return Event{}, r.err
}

// findEnd returns the index after the first complete event in the buffer, or -1. If the
// buffer ends with a CR, findEnd waits for the next byte, because an LF would belong to the
// same line end.
func (r *Reader) findEnd() int {
	for {
		i := bytes.IndexAny(r.buf[r.scan:], "\r\n")
		if i < 0 {
			r.scan = len(r.buf)
			return -1
		}
		eol := r.scan + i
		next := eol + 1
		if r.buf[eol] == '\r' {
			if next == len(r.buf) && r.err == nil {
				r.scan = eol
				return -1
			}
			if next < len(r.buf) && r.buf[next] == '\n' {
				next++
			}
		}
		blank := eol == r.line
		r.line, r.scan = next, next
		if blank {
			return next
		}
	}
}

func (r *Reader) take(end int) Event {
	raw := r.buf[r.from:end]
	r.from, r.line, r.scan = end, end, end
	e := Event{Raw: raw}
	e.Name, e.Data = r.fields(raw)
	r.read = true
	return e
}

func (r *Reader) fill() {
	if r.from > 0 {
		n := copy(r.buf, r.buf[r.from:])
		r.buf = r.buf[:n]
		r.line -= r.from
		r.scan -= r.from
		r.from = 0
	}
	if len(r.buf) >= maxEvent {
		r.err = errTooLong
		return
	}
	if len(r.buf) == cap(r.buf) {
		r.buf = append(r.buf, 0)[:len(r.buf)]
	}
	n, err := r.src.Read(r.buf[len(r.buf):cap(r.buf)])
	r.buf = r.buf[:len(r.buf)+n]
	r.err = err
}

var bom = []byte("\xef\xbb\xbf")

func (r *Reader) fields(raw []byte) (name, data []byte) {
	if !r.read {
		raw = bytes.TrimPrefix(raw, bom)
	}
	r.data = r.data[:0]
	several := false
	for len(raw) > 0 {
		var line []byte
		line, raw = cutLine(raw)
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "event":
			name = value
		case "data":
			if data == nil {
				data = slices.Clip(value)
				continue
			}
			if !several {
				r.data = append(r.data, data...)
				several = true
			}
			r.data = append(append(r.data, '\n'), value...)
			data = r.data
		}
	}
	return name, data
}

func cutLine(b []byte) (line, rest []byte) {
	i := bytes.IndexAny(b, "\r\n")
	if i < 0 {
		return b, nil
	}
	rest = b[i+1:]
	if b[i] == '\r' && len(rest) > 0 && rest[0] == '\n' {
		rest = rest[1:]
	}
	return b[:i], rest
}
