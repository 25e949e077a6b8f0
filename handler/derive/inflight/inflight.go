// Package inflight knows the requests in flight at a place in the journal, and completes lines with what other lines
// have of the same request.
package inflight

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/tidwall/gjson"

	"aoaigateway/handler/blob"
	"aoaigateway/handler/gateway"
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

// Set has the requests that are in flight at a reader's position, and the last ones that ended. It reads lines that it
// does not hold again.
type Set struct {
	blobs     blob.Store
	requests  map[string]*request
	heldBytes int64
	heldIDs   []string // of requests whose begin line is or was held, oldest first
	ended     map[string]*request
	endedIDs  []string // of ended, oldest first
}

// New returns a set without requests, which reads lines from blobs.
func New(blobs blob.Store) *Set {
	return &Set{blobs: blobs, requests: map[string]*request{}, ended: map[string]*request{}}
}

// At reads a file for the requests that are in flight at end.
func At(ctx context.Context, blobs blob.Store, name string, end int64) (*Set, error) {
	found := New(blobs)
	if end == 0 {
		return found, nil
	}
	for b, err := range format.Read(ctx, blobs, name, 0) {
		if err != nil {
			return found, ignoreLost(err)
		}
		if b.Offset >= end {
			break
		}
		found.AddListed(b)
		for _, raw := range b.Records {
			switch t, id := Kind(raw); t {
			case gateway.Begin:
				found.AddBegin(id, name, b.Offset, raw)
			case gateway.End:
				found.Remove(id)
			case gateway.Amend, gateway.Incomplete:
			}
		}
	}
	return found, nil
}

// IDs returns the ids of the requests in flight, in order.
func (f *Set) IDs() []string { return slices.Sorted(maps.Keys(f.requests)) }

// AddListed adds the requests that a file's first batch lists as in flight.
func (f *Set) AddListed(b format.Batch) {
	for file, ids := range b.InFlight {
		for _, id := range ids {
			if f.requests[id] == nil {
				f.requests[id] = &request{begin: location{file, -1}}
			}
		}
	}
}

// AddBegin adds a request with its begin line. Adding it again has no effect.
func (f *Set) AddBegin(id, file string, offset int64, line []byte) {
	if f.requests[id] != nil {
		return
	}
	f.requests[id] = &request{begin: location{file, offset}, beginLine: bytes.Clone(line)}
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

func (f *Set) dropLine(r *request) {
	if r != nil {
		f.heldBytes -= int64(len(r.beginLine))
		r.beginLine = nil
	}
}

// Remove moves a request to the ended ones, of which only the locations are kept.
func (f *Set) Remove(id string) {
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

// SetEnd notes where the end of a request is. A request that was refused early has no begin.
func (f *Set) SetEnd(id, file string, offset int64) {
	r := f.requests[id]
	if r == nil {
		r = &request{begin: location{"", -1}}
		f.requests[id] = r
	}
	r.end = location{file, offset}
}

func (f *Set) find(id string) *request {
	if r := f.requests[id]; r != nil {
		return r
	}
	return f.ended[id]
}

// BeginLine returns the begin line of a request, or nil if there is none.
func (f *Set) BeginLine(ctx context.Context, id string) ([]byte, error) {
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
func (f *Set) locate(ctx context.Context, file string) error {
	for b, err := range format.Read(ctx, f.blobs, file, 0) {
		if err != nil {
			return ignoreLost(err)
		}
		for _, raw := range b.Records {
			if t, id := Kind(raw); t == gateway.Begin {
				if r := f.find(id); r != nil && r.begin.file == file {
					r.begin.offset = b.Offset
				}
			}
		}
	}
	return nil
}

// readLine reads a line again. It returns nil if the line is not there.
func (f *Set) readLine(ctx context.Context, at location, t gateway.LineType, id string) (found []byte, err error) {
	for b, err := range format.Read(ctx, f.blobs, at.file, at.offset) {
		if err != nil {
			return nil, ignoreLost(err)
		}
		for _, raw := range b.Records {
			if lt, lid := Kind(raw); lt == t && lid == id {
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

// Kind reads a line's type and id, which are cheap to find because they are its first fields.
func Kind(raw []byte) (t gateway.LineType, id string) {
	return gateway.LineType(gjson.GetBytes(raw, "type").Str), gjson.GetBytes(raw, "id").Str
}
