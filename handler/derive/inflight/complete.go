package inflight

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal"
)

// ErrMalformed says that a line of the journal is not a record.
var ErrMalformed = errors.New("derive: the line is not a record")

// Complete parses a line. It adds the fields that only earlier lines of the same request
// have: an end record gets the fields of its begin record, an amend record those of its end
// record.
func (f *Set) Complete(ctx context.Context, raw []byte) (gateway.Line, error) {
	line, err := gateway.ParseLine(raw)
	if _, newer := errors.AsType[*gateway.VersionError](err); newer {
		return line, err
	}
	if err != nil {
		return line, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if line.Type == gateway.Amend {
		if line, err = f.amended(ctx, line); err != nil {
			return line, err
		}
	}
	r := line.Request
	if line.Type == gateway.Incomplete || r == nil || r.Size == 0 || r.HasContent() || r.Blob != "" {
		return line, nil
	}
	found, err := f.BeginLine(ctx, line.ID)
	if err != nil || found == nil {
		return line, err
	}
	if begin, err := gateway.ParseLine(found); err == nil && begin.Request != nil {
		r.CopyContent(begin.Request)
	}
	return line, nil
}

// amended returns the end record that the amend corrects, with the amend's outcome. If the
// end record cannot be found, it returns the amend.
func (f *Set) amended(ctx context.Context, amend gateway.Line) (gateway.Line, error) {
	r := f.find(amend.ID)
	if r == nil || r.end.file == "" {
		return amend, nil
	}
	raw, err := f.readLine(ctx, r.end, gateway.End, amend.ID)
	if err != nil || raw == nil {
		return amend, err
	}
	end, err := gateway.ParseLine(raw)
	if err != nil {
		return amend, nil //nolint:nilerr // without its end record the amend still has the outcome
	}
	end.Type, end.Outcome = gateway.Amend, amend.Outcome
	return end, nil
}

var beginPrefix = []byte(`{"type":"begin"`)

// Incomplete returns the line for a request whose process died: its begin line with the
// type "incomplete".
func Incomplete(id string, begin []byte) ([]byte, error) {
	if rest, ok := bytes.CutPrefix(begin, beginPrefix); ok && len(begin) < journal.MaxLine-64 {
		return append([]byte(`{"type":"incomplete"`), rest...), nil
	}
	return gateway.Line{Type: gateway.Incomplete, Record: gateway.Record{ID: id}}.Encode(false)
}
