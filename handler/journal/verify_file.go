package journal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"aoaigateway/handler/blob"
	"aoaigateway/handler/gateway"
)

// checked is a file as its row has it, and what was found in its blob.
type fileCheck struct {
	File
	hasEntry, hasBlob bool

	batches, records, bodies, beyondCheckpoint int

	bytes       int64
	first, last *chainLink
	whole       bool // read to its end, so that last is its head
	breaks      []*BreakError
	err         error // of the stores

	seen map[string]bool // bodies already compared
}

// linked is what a chain needs of a member.
type chainLink struct {
	name         string
	index        int
	offset       int64
	seq          int64
	prev         string
	hash         string
	checkpointed bool // by its row
}

func (m *chainLink) breakf(reason string, args ...any) *BreakError {
	return &BreakError{Name: m.name, Index: m.index, Offset: m.offset, Reason: fmt.Sprintf(reason, args...)}
}

// broken notes b, unless something is known to be wrong there already.
func (c *fileCheck) addBreak(b *BreakError) {
	if b == nil {
		return
	}
	for _, known := range c.breaks {
		if known.Index == b.Index && known.Name == b.Name {
			return
		}
	}
	c.breaks = append(c.breaks, b)
}

func (c *fileCheck) fail(reason string, args ...any) {
	c.addBreak((&chainLink{name: c.Name, index: fileItself}).breakf(reason, args...))
}

// read compares the blob with the row. s is the caller's to use again.
func (c *fileCheck) check(ctx context.Context, blobs blob.Store, s *scanner) {
	content, err := blobs.Open(ctx, c.Name, 0)
	switch {
	case errors.Is(err, blob.ErrNotFound):
		if c.whole = c.Length == 0; !c.whole {
			c.fail("is gone; its row vouches for %d bytes", c.Length)
		}
		return
	case err != nil:
		c.err = fmt.Errorf("journal: %s: %w", c.Name, err)
		return
	}
	defer func() { _ = content.Close() }()
	c.hasBlob = true
	if !c.hasEntry {
		c.fail("has no row")
	}
	s.reset(content)
	for c.err == nil && !c.whole {
		m := &chainLink{name: c.Name, index: c.batches, offset: s.offset}
		b, err := s.next()
		switch {
		case errors.Is(err, errEnd):
			c.whole = true
			c.checkEnd(m)
			continue
		case s.readErr != nil:
			c.err = fmt.Errorf("journal: %s: %w", c.Name, s.readErr)
			return
		case err == nil:
			err = c.checkBatch(ctx, blobs, m, b)
		}
		if err != nil {
			c.addBreak(m.breakf("%v", err))
			return
		}
	}
}

// member counts and compares one member; an error says that it is none.
func (c *fileCheck) checkBatch(ctx context.Context, blobs blob.Store, m *chainLink, b rawBatch) error {
	h, lines, err := (&Batch{Name: c.Name}).head(b.raw)
	if err != nil {
		return err
	}
	m.seq, m.prev, m.hash = h.Seq, h.Prev, hash(b.data)
	if c.first == nil {
		c.first = m
	} else {
		c.addBreak(m.follows(c.last))
	}
	c.last = m
	c.bytes += int64(len(b.data))
	c.batches++
	c.records += bytes.Count(lines, []byte{'\n'})
	c.checkCheckpoint(m, b.offset+int64(len(b.data)))
	c.compareBodies(ctx, blobs, m, lines)
	return nil
}

// anchor compares a member that ends at end with what the row vouches for.
func (c *fileCheck) checkCheckpoint(m *chainLink, end int64) {
	switch {
	case c.Adopted || !c.hasEntry || end > c.Length && m.offset >= c.Length && c.State == Open:
		c.beyondCheckpoint++
	case end == c.Length && (m.seq != c.Seq || m.hash != c.Hash):
		c.addBreak(m.breakf("is not the member %d that its row vouches for", c.Seq))
	case end == c.Length:
		m.checkpointed = true
	case end > c.Length && m.offset < c.Length:
		c.addBreak(m.breakf("goes on after byte %d, where its row says a member ends", c.Length))
	case end > c.Length:
		c.addBreak(m.breakf("stands after the end of the file that its row vouches for, byte %d", c.Length))
	}
}

// end is where a member would begin and the file ends.
func (c *fileCheck) checkEnd(m *chainLink) {
	if m.offset < c.Length {
		c.addBreak(m.breakf("is missing: the file ends here, and its row vouches for %d bytes up to member %d of the process", c.Length, c.Seq))
	}
}

// follows says what is wrong between m and the member before; nil for last means that
// there is none. If the row does not vouch for the one before, that is the one that
// changed: a change to m would show in what follows m.
func (m *chainLink) follows(last *chainLink) *BreakError {
	switch {
	case last == nil && m.seq != 0:
		return m.breakf("is the first of its process and has sequence %d", m.seq)
	case (m.seq == 0) != (m.prev == ""):
		return m.breakf("has sequence %d and names %q as the member before", m.seq, m.prev)
	case last == nil:
		return nil
	case m.seq != last.seq+1:
		return m.breakf("has sequence %d after %d (%s)", m.seq, last.seq, last.name)
	case m.prev != last.hash && last.checkpointed:
		return m.breakf("names %.12s… as the member before, which is %.12s… (%s)", m.prev, last.hash, last.name)
	case m.prev != last.hash:
		return last.breakf("is %.12s…, and the next names %.12s… as the member before", last.hash, m.prev)
	}
	return nil
}

// inBlob stands in every record whose body is a blob: inside a string its quotes would
// be escaped.
var inBlob = []byte(`"blob":"bodies/`)

// bodiesOf reads the blobs that the member's records name.
func (c *fileCheck) compareBodies(ctx context.Context, blobs blob.Store, m *chainLink, lines []byte) {
	for c.err == nil {
		at := bytes.Index(lines, inBlob)
		if at < 0 {
			return
		}
		start := bytes.LastIndexByte(lines[:at], '\n') + 1
		stop := at + bytes.IndexByte(lines[at:], '\n')
		line, err := gateway.ParseLine(lines[start:stop])
		lines = lines[stop:]
		if err != nil {
			c.addBreak(m.breakf("has a record that cannot be read: %v", err))
			continue
		}
		for _, b := range []*gateway.Body{line.Request, line.Response} {
			if b != nil && b.Blob != "" {
				c.compareBody(ctx, blobs, m, b)
			}
		}
	}
}

// body compares a blob with what the record says of it, once a file.
func (c *fileCheck) compareBody(ctx context.Context, blobs blob.Store, m *chainLink, b *gateway.Body) {
	key := b.Blob + " " + b.InBlob().SHA256
	if c.seen[key] {
		return
	}
	if c.seen == nil {
		c.seen = map[string]bool{}
	}
	c.seen[key] = true
	r, err := blobs.Open(ctx, b.Blob, 0)
	if errors.Is(err, blob.ErrNotFound) {
		c.addBreak(m.breakf("names %s, which is gone", b.Blob))
		return
	}
	sum, size := sha256.New(), int64(0)
	if err == nil {
		size, err = io.Copy(sum, r)
		_ = r.Close()
	}
	if err != nil {
		c.err = fmt.Errorf("journal: %s: %w", b.Blob, err)
		return
	}
	c.bodies++
	want, got := b.InBlob(), gateway.Digest{Size: size, SHA256: hex.EncodeToString(sum.Sum(nil))}
	if got != want {
		c.addBreak(m.breakf("names %s with %d bytes and SHA-256 %.12s…, which has %d and %.12s…", b.Blob, want.Size, want.SHA256, got.Size, got.SHA256))
	}
}
