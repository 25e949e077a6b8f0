// Package sse reads and writes event streams. Reader cuts a stream into its events without
// changing a byte of it; Writer sends events at once and keeps a silent stream alive.
//
// The framing is the HTML standard's "server-sent events": lines end with LF, CRLF or
// CR, a blank line ends an event, lines that start with a colon are comments. Raw is
// what came over the wire, so that the concatenation of all Raws is the stream.
package sse

import (
	"bytes"
	"errors"
	"io"
	"slices"
)

// maxEvent bounds one event. The last event of a Responses stream holds the whole
// answer, images included.
const maxEvent = 32 << 20

// errTooLong says that an event grew over maxEvent.
var errTooLong = errors.New("sse: event longer than 32 MiB")

// Event is one event. Its slices are valid until the next call of Next.
type Event struct {
	Raw  []byte // as sent, the blank line at its end included
	Name []byte // the event field; empty for unnamed events
	Data []byte // the data fields joined by LF; nil when there was none, as in a comment
	Half bool   // the stream ended before the blank line: a reader is to drop it
}

// Reader yields the events of one stream. It does not read ahead: an event is returned as
// soon as its last byte has come.
type Reader struct {
	src  io.Reader
	buf  []byte
	from int // first byte of the event being collected
	line int // first byte of its current line
	scan int // first byte not looked at yet
	err  error
	data []byte // scratch for events with several data fields
	read bool   // an event was returned before: a byte order mark is data now
}

// NewReader returns a Reader over src.
func NewReader(src io.Reader) *Reader {
	return &Reader{src: src, buf: make([]byte, 0, 4<<10)}
}

// Next returns the next event. At a clean end it returns io.EOF, after handing out
// whatever followed the last blank line. When the source fails, the event it broke off
// in is dropped and the source's error returned.
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

// findEnd returns the end of the first whole event in the buffer, or -1. A CR at the
// very end of the buffer waits for the next byte: an LF would belong to it.
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
