package derive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tidwall/gjson"

	"aoaigateway/handler/blob"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal"
	"aoaigateway/handler/journal/format"
)

// Bounds of the memory that completing ends and amends may take.
const (
	maxHeldBytes = 16 << 20 // of begin lines; the oldest are dropped and read again when needed
	maxEnded     = 4096     // locations of ends, for amends that may follow
)

// location says where a line is.
type location struct {
	file   string
	offset int64 // of its batch; -1 = somewhere in the file
}

// request is one request that the journal knows.
type request struct {
	begin     location
	end       location
	beginLine []byte // nil when it was dropped
}

// inFlight has the requests that are in flight at a reader's position, and the last ones that ended. Lines that it
// does not hold it reads again.
type inFlight struct {
	blobs     blob.Store
	requests  map[string]*request
	heldBytes int64
	heldIDs   []string // of requests whose begin line is or was held, oldest first
	ended     map[string]*request
	endedIDs  []string // of ended, oldest first
}

func newInFlight(blobs blob.Store) *inFlight {
	return &inFlight{blobs: blobs, requests: map[string]*request{}, ended: map[string]*request{}}
}

// addListed adds the requests that a file's first batch lists as in flight.
func (f *inFlight) addListed(b format.Batch) {
	for file, ids := range b.InFlight {
		for _, id := range ids {
			if f.requests[id] == nil {
				f.requests[id] = &request{begin: location{file, -1}}
			}
		}
	}
}

// addBegin adds a request with its begin line. Adding it again has no effect.
func (f *inFlight) addBegin(id string, at location, line []byte) {
	if f.requests[id] != nil {
		return
	}
	f.requests[id] = &request{begin: at, beginLine: bytes.Clone(line)}
	f.heldBytes += int64(len(line))
	f.heldIDs = append(f.heldIDs, id)
	for f.heldBytes > maxHeldBytes {
		f.dropLine(f.requests[f.heldIDs[0]])
		f.heldIDs = f.heldIDs[1:]
	}
	if len(f.heldIDs) > 2*len(f.requests)+64 { // most have ended
		f.heldIDs = slices.DeleteFunc(f.heldIDs, func(id string) bool { return f.requests[id] == nil })
	}
}

func (f *inFlight) dropLine(r *request) {
	if r != nil {
		f.heldBytes -= int64(len(r.beginLine))
		r.beginLine = nil
	}
}

// remove moves a request to the ended ones, of which only the locations are kept.
func (f *inFlight) remove(id string) {
	r := f.requests[id]
	if r == nil {
		return
	}
	f.dropLine(r)
	delete(f.requests, id)
	f.ended[id] = r
	f.endedIDs = append(f.endedIDs, id)
	if len(f.endedIDs) > maxEnded {
		delete(f.ended, f.endedIDs[0])
		f.endedIDs = f.endedIDs[1:]
	}
}

// setEnd notes where the end of a request is. A request that was refused early has no begin.
func (f *inFlight) setEnd(id string, at location) {
	r := f.requests[id]
	if r == nil {
		r = &request{begin: location{"", -1}}
		f.requests[id] = r
	}
	r.end = at
}

func (f *inFlight) find(id string) *request {
	if r := f.requests[id]; r != nil {
		return r
	}
	return f.ended[id]
}

// beginLine returns the begin line of a request, or nil if there is none.
func (f *inFlight) beginLine(ctx context.Context, id string) ([]byte, error) {
	r := f.find(id)
	switch {
	case r == nil || r.begin.file == "":
		return nil, nil
	case r.beginLine != nil:
		return r.beginLine, nil
	case r.begin.offset < 0:
		if err := f.locate(ctx, r.begin.file); err != nil || r.begin.offset < 0 {
			return nil, err
		}
	}
	return f.readLine(ctx, r.begin, gateway.Begin, id)
}

// locate reads a file to find the batches of the begins that are known to be in it.
func (f *inFlight) locate(ctx context.Context, file string) error {
	for b, err := range format.Read(ctx, f.blobs, file, 0) {
		if err != nil {
			return ignoreLost(err)
		}
		for _, raw := range b.Records {
			if t, id := kind(raw); t == gateway.Begin {
				if r := f.find(id); r != nil && r.begin.file == file {
					r.begin.offset = b.Offset
				}
			}
		}
	}
	return nil
}

// readLine reads a line again. It returns nil if the line is not there.
func (f *inFlight) readLine(ctx context.Context, at location, t gateway.LineType, id string) (found []byte, err error) {
	for b, err := range format.Read(ctx, f.blobs, at.file, at.offset) {
		if err != nil {
			return nil, ignoreLost(err)
		}
		for _, raw := range b.Records {
			if lt, lid := kind(raw); lt == t && lid == id {
				found = raw
			}
		}
		break
	}
	return bytes.Clone(found), nil
}

// ignoreLost returns nil for errors that no repetition can mend.
func ignoreLost(err error) error {
	if _, broken := errors.AsType[*format.BreakError](err); broken || errors.Is(err, blob.ErrNotFound) {
		return nil
	}
	return err
}

// kind reads a line's type and id, which are cheap to find because they are its first fields.
func kind(raw []byte) (t gateway.LineType, id string) {
	return gateway.LineType(gjson.GetBytes(raw, "type").Str), gjson.GetBytes(raw, "id").Str
}

var errMalformed = errors.New("derive: the line is no record")

// complete parses a line and adds what other lines have of it.
func (f *inFlight) complete(ctx context.Context, raw []byte) (gateway.Line, error) {
	line, err := gateway.ParseLine(raw)
	if _, newer := errors.AsType[*gateway.VersionError](err); newer {
		return line, err
	}
	if err != nil {
		return line, fmt.Errorf("%w: %w", errMalformed, err)
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
	found, err := f.beginLine(ctx, line.ID)
	if err != nil || found == nil {
		return line, err
	}
	if begin, err := gateway.ParseLine(found); err == nil && begin.Request != nil {
		r.CopyContent(begin.Request)
	}
	return line, nil
}

// amended returns the end that the amend corrects with the amend's outcome, or the amend itself if the end is unknown.
func (f *inFlight) amended(ctx context.Context, amend gateway.Line) (gateway.Line, error) {
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

// incomplete returns the record of a request whose process died: its begin with another type.
func incomplete(id string, begin []byte) ([]byte, error) {
	if rest, ok := bytes.CutPrefix(begin, beginPrefix); ok && len(begin) < journal.MaxLine-64 {
		return append([]byte(`{"type":"incomplete"`), rest...), nil
	}
	return gateway.Line{Type: gateway.Incomplete, Record: gateway.Record{ID: id}}.Encode(false)
}
