package inflight

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal"
)

// ErrMalformed says that a line is no record.
var ErrMalformed = errors.New("derive: the line is no record")

// Complete parses a line and adds what other lines have of it.
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

// amended returns the end that the amend corrects with the amend's outcome, or the amend itself if the end is unknown.
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
		return amend, nil //nolint:nilerr // the amend alone has the outcome
	}
	end.Type, end.Outcome = gateway.Amend, amend.Outcome
	return end, nil
}

var beginPrefix = []byte(`{"type":"begin"`)

// Incomplete returns the record of a request whose process died: its begin with another type.
func Incomplete(id string, begin []byte) ([]byte, error) {
	if rest, ok := bytes.CutPrefix(begin, beginPrefix); ok && len(begin) < journal.MaxLine-64 {
		return append([]byte(`{"type":"incomplete"`), rest...), nil
	}
	return gateway.Line{Type: gateway.Incomplete, Record: gateway.Record{ID: id}}.Encode(false)
}
