package derive

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/tidwall/gjson"

	"aoaigateway/handler/blob"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal"
)

// Bounds of what is held to complete ends and amends.
const (
	heldBegins = 16 << 20 // bytes of begin lines; others are read again
	heldEnds   = 4096     // places of ends, for amends that may follow
)

// place is where a line stands.
type place struct {
	file   string
	offset int64 // of its member; -1 = somewhere in the file
}

// exchange is a request that the journal tells of.
type exchange struct {
	begin place
	end   place
	raw   []byte // the begin line, while it is held
}

// begins knows the requests that are open where a reader stands, and a few that just
// ended. Lines that it does not hold it reads again.
type begins struct {
	blobs  blob.Store
	open   map[string]*exchange
	held   int64
	lines  []string // ids whose begin line is or was held, oldest first
	ended  map[string]*exchange
	leaves []string // ids of ended, oldest first
}

func newBegins(blobs blob.Store) *begins {
	return &begins{blobs: blobs, open: map[string]*exchange{}, ended: map[string]*exchange{}}
}

// listed notes what a file's first member says is open.
func (b *begins) listed(m journal.Member) {
	for file, ids := range m.Open {
		for _, id := range ids {
			if b.open[id] == nil {
				b.open[id] = &exchange{begin: place{file, -1}}
			}
		}
	}
}

// begun notes a begin; to note it twice is to note it once.
func (b *begins) begun(id string, at place, line []byte) {
	if b.open[id] != nil {
		return
	}
	b.open[id] = &exchange{begin: at, raw: bytes.Clone(line)}
	b.held += int64(len(line))
	b.lines = append(b.lines, id)
	for b.held > heldBegins {
		b.drop(b.open[b.lines[0]])
		b.lines = b.lines[1:]
	}
	if len(b.lines) > 2*len(b.open)+64 { // most have ended
		b.lines = slices.DeleteFunc(b.lines, func(id string) bool { return b.open[id] == nil })
	}
}

func (b *begins) drop(x *exchange) {
	if x != nil {
		b.held -= int64(len(x.raw))
		x.raw = nil
	}
}

// left forgets an ended request, but for where its lines are.
func (b *begins) left(id string) {
	x := b.open[id]
	if x == nil {
		return
	}
	b.drop(x)
	delete(b.open, id)
	b.ended[id] = x
	b.leaves = append(b.leaves, id)
	if len(b.leaves) > heldEnds {
		delete(b.ended, b.leaves[0])
		b.leaves = b.leaves[1:]
	}
}

// endAt notes where the end of id stands; early refusals have no begin.
func (b *begins) endAt(id string, at place) {
	x := b.open[id]
	if x == nil {
		x = &exchange{begin: place{"", -1}}
		b.open[id] = x
	}
	x.end = at
}

func (b *begins) find(id string) *exchange {
	if x := b.open[id]; x != nil {
		return x
	}
	return b.ended[id]
}

// beginLine returns the begin line of id, nil when there is none.
func (b *begins) beginLine(ctx context.Context, id string) ([]byte, error) {
	x := b.find(id)
	switch {
	case x == nil || x.begin.file == "":
		return nil, nil
	case x.raw != nil:
		return x.raw, nil
	case x.begin.offset < 0:
		if err := b.locate(ctx, x.begin.file); err != nil || x.begin.offset < 0 {
			return nil, err
		}
	}
	return b.line(ctx, x.begin, gateway.Begin, id)
}

// locate reads a file for the begins that are only known to stand in it.
func (b *begins) locate(ctx context.Context, file string) error {
	for m, err := range journal.ReadFrom(ctx, b.blobs, file, 0) {
		if err != nil {
			return orGone(err)
		}
		for _, raw := range m.Records {
			if t, id := kind(raw); t == gateway.Begin {
				if x := b.find(id); x != nil && x.begin.file == file {
					x.begin.offset = m.Offset
				}
			}
		}
	}
	return nil
}

// line reads a line again; nil when it is not there.
func (b *begins) line(ctx context.Context, at place, t gateway.LineType, id string) (found []byte, err error) {
	for m, err := range journal.ReadFrom(ctx, b.blobs, at.file, at.offset) {
		if err != nil {
			return nil, orGone(err)
		}
		for _, raw := range m.Records {
			if lt, lid := kind(raw); lt == t && lid == id {
				found = raw
			}
		}
		break
	}
	return bytes.Clone(found), nil
}

// orGone makes nothing of errors that will not go away.
func orGone(err error) error {
	if _, broken := errors.AsType[*journal.BreakError](err); broken || errors.Is(err, blob.ErrNotFound) {
		return nil
	}
	return err
}

// kind is cheap: both names stand at the line's start.
func kind(raw []byte) (t gateway.LineType, id string) {
	return gateway.LineType(gjson.GetBytes(raw, "type").Str), gjson.GetBytes(raw, "id").Str
}

// complete makes a line self-contained.
func (b *begins) complete(ctx context.Context, raw []byte) (gateway.Line, error) {
	line, err := gateway.ParseLine(raw)
	if _, newer := errors.AsType[*gateway.VersionError](err); newer {
		return line, err
	}
	if err != nil {
		return line, errNoLine
	}
	if line.Type == gateway.Amend {
		if line, err = b.amended(ctx, line); err != nil {
			return line, err
		}
	}
	r := line.Request
	if line.Type == gateway.Incomplete || r == nil || r.Size == 0 || r.HasContent() || r.Blob != "" {
		return line, nil
	}
	found, err := b.beginLine(ctx, line.ID)
	if err != nil || found == nil {
		return line, err
	}
	if begin, err := gateway.ParseLine(found); err == nil && begin.Request != nil {
		r.CopyContent(begin.Request)
	}
	return line, nil
}

// amended is the end that the amend corrects, or the amend as it is.
func (b *begins) amended(ctx context.Context, amend gateway.Line) (gateway.Line, error) {
	x := b.find(amend.ID)
	if x == nil || x.end.file == "" {
		return amend, nil
	}
	raw, err := b.line(ctx, x.end, gateway.End, amend.ID)
	if err != nil || raw == nil {
		return amend, err
	}
	end, err := gateway.ParseLine(raw)
	if err != nil {
		return amend, nil //nolint:nilerr // the amend alone still tells something
	}
	end.Type, end.Outcome = gateway.Amend, amend.Outcome
	return end, nil
}

var errNoLine = errors.New("derive: no line of the journal")

var beginHead = []byte(`{"type":"begin"`)

// incomplete is the record of a request whose process died: its begin, under its own type.
func incomplete(id string, begin []byte) []byte {
	if rest, ok := bytes.CutPrefix(begin, beginHead); ok && len(begin) < journal.MaxLine-64 {
		return append([]byte(`{"type":"incomplete"`), rest...)
	}
	line, _ := gateway.Line{Type: gateway.Incomplete, Record: gateway.Record{ID: id}}.Encode(false) // cannot fail
	return line
}
