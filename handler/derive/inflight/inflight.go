// Package inflight tracks which requests are in flight at a position in the journal. It
// completes lines with fields from earlier lines of the same requests.
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

// Limits of the memory for earlier lines.
const (
	maxHeldBytes = 16 << 20 // bytes of begin lines; beyond this the oldest are dropped, and read again when needed
	maxEnded     = 4096     // number of end records whose locations are kept, because amends may follow
)

// location is the place of a line in the journal.
type location struct {
	file   string
	offset int64 // of the line's batch; -1 = not known
}

// request is what is known about one request.
type request struct {
	begin     location
	end       location
	beginLine []byte // nil = dropped; it can be read again
}

// Set has the requests that are in flight at a reader's position, and those that ended most
// recently. If it needs a line that is no longer in memory, it reads the line again.
type Set struct {
	blobs     blob.Store
	requests  map[string]*request
	heldBytes int64
	heldIDs   []string // ids of requests with a begin line in memory, oldest first; some may have ended
	ended     map[string]*request
	endedIDs  []string // the keys of ended, oldest first
}

// New returns an empty Set. It reads lines from blobs when it needs them.
func New(blobs blob.Store) *Set {
	return &Set{blobs: blobs, requests: map[string]*request{}, ended: map[string]*request{}}
}

// At returns the Set for the position end of a file. It reads the file up to there.
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

// IDs returns the sorted ids of the requests in flight.
func (f *Set) IDs() []string { return slices.Sorted(maps.Keys(f.requests)) }

// AddListed adds the requests that the first batch of a file lists as in flight.
func (f *Set) AddListed(b format.Batch) {
	for file, ids := range b.InFlight {
		for _, id := range ids {
			if f.requests[id] == nil {
				f.requests[id] = &request{begin: location{file, -1}}
			}
		}
	}
}

// AddBegin adds a request with its begin line. If the request is known already, nothing
// changes.
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
	if len(f.heldIDs) > 2*len(f.requests)+64 { // most of these requests have ended
		f.heldIDs = slices.DeleteFunc(f.heldIDs, func(id string) bool { return f.requests[id] == nil })
	}
}

func (f *Set) dropLine(r *request) {
	if r != nil {
		f.heldBytes -= int64(len(r.beginLine))
		r.beginLine = nil
	}
}

// Remove moves a request from those in flight to those that ended. Of an ended request the
// set keeps only where its lines are in the journal.
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

// SetEnd notes the location of a request's end record. The request may be unknown, because
// a request that is refused early has no begin record.
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

// BeginLine returns the begin line of a request; nil = there is none.
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

// locate reads a file to find the batches of all begin lines that are in it at an unknown
// place.
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

// readLine reads a line from its file. It returns nil if the line is not there.
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

// ignoreLost returns nil for errors that trying again cannot repair.
func ignoreLost(err error) error {
	if _, broken := errors.AsType[*format.BreakError](err); broken || errors.Is(err, blob.ErrNotFound) {
		return nil
	}
	return err
}

// Kind returns a line's type and id without parsing the whole line. They are its first
// fields.
func Kind(raw []byte) (t gateway.LineType, id string) {
	return gateway.LineType(gjson.GetBytes(raw, "type").Str), gjson.GetBytes(raw, "id").Str
}
