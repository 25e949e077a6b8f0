package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"aoaigateway/handler/blob"
	"aoaigateway/handler/gateway"
	"aoaigateway/handler/journal/format"
	"aoaigateway/handler/journal/manifest"
)

// fileCheck is a file as its manifest entry has it, and what was found in its blob.
type fileCheck struct {
	manifest.File
	hasEntry, hasBlob bool

	batches, records, bodies, beyondCheckpoint int

	bytes       int64
	first, last *chainLink
	whole       bool // read to its end, so that last is its head
	breaks      []*format.BreakError
	newer       []string
	err         error // of the stores

	compared map[string]bool // bodies
}

// addBreak notes b, unless the same place has a break already.
func (c *fileCheck) addBreak(b *format.BreakError) {
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

// fail notes a break of the file itself.
func (c *fileCheck) fail(reason string, args ...any) {
	c.addBreak((&chainLink{name: c.Name, index: format.FileItself}).breakf(reason, args...))
}

func (c *fileCheck) addNewer(err *gateway.VersionError) {
	c.newer = append(c.newer, c.Name+": "+err.Error())
}

// check compares the blob with the entry. It may use s, which belongs to the caller.
func (c *fileCheck) check(ctx context.Context, blobs blob.Store, s *format.Scanner) {
	if len(c.newer) > 0 {
		return
	}
	content, err := blobs.Open(ctx, c.Name, 0)
	switch {
	case errors.Is(err, blob.ErrNotFound):
		if c.whole = c.Length == 0; !c.whole {
			c.fail("is gone; its checkpoint covers %d bytes", c.Length)
		}
		return
	case err != nil:
		c.err = fmt.Errorf("journal: %s: %w", c.Name, err)
		return
	}
	defer func() { _ = content.Close() }()
	c.hasBlob = true
	if !c.hasEntry {
		c.fail("has no manifest entry")
	}
	s.Reset(content)
	for c.err == nil && !c.whole {
		l := &chainLink{name: c.Name, index: c.batches, offset: s.Offset()}
		b, err := s.Next()
		switch {
		case errors.Is(err, format.ErrEnd):
			c.whole = true
			c.checkEnd(l)
			continue
		case s.ReadErr() != nil:
			c.err = fmt.Errorf("journal: %s cannot be read: %w", c.Name, s.ReadErr())
			return
		case err == nil:
			err = c.checkBatch(ctx, blobs, l, b)
		}
		if newer, ok := errors.AsType[*gateway.VersionError](err); ok {
			c.addNewer(newer)
			return
		}
		if err != nil {
			c.addBreak(l.breakf("%v", err))
			return
		}
	}
}

// checkBatch counts and compares one batch. An error says that the bytes are no batch that this program can read.
func (c *fileCheck) checkBatch(ctx context.Context, blobs blob.Store, l *chainLink, b format.RawBatch) error {
	h, lines, err := format.ParseHeader(c.Name, b.Lines)
	if err != nil {
		return err
	}
	l.seq, l.prev, l.hash = h.Seq, h.Prev, b.Hash()
	if c.first == nil {
		c.first = l
	} else {
		c.addBreak(l.follows(c.last))
	}
	c.last = l
	c.bytes += int64(len(b.Data))
	c.batches++
	c.records += bytes.Count(lines, []byte{'\n'})
	c.checkCheckpoint(l, l.offset+int64(len(b.Data)))
	c.compareBodies(ctx, blobs, l, lines)
	return nil
}

// checkCheckpoint compares a batch that ends at end with the checkpoint.
func (c *fileCheck) checkCheckpoint(l *chainLink, end int64) {
	switch {
	case c.Adopted || !c.hasEntry || end > c.Length && l.offset >= c.Length && c.State == manifest.Open:
		c.beyondCheckpoint++
	case end == c.Length && (l.seq != c.Seq || l.hash != c.Hash):
		c.addBreak(l.breakf("is not the batch %d that the checkpoint names", c.Seq))
	case end == c.Length:
		l.checkpointed = true
	case end > c.Length && l.offset < c.Length:
		c.addBreak(l.breakf("continues after byte %d, where a batch ends according to the checkpoint", c.Length))
	case end > c.Length:
		c.addBreak(l.breakf("stands after byte %d, where the file ends according to the checkpoint", c.Length))
	}
}

// checkEnd compares the place where the file ends with the checkpoint.
func (c *fileCheck) checkEnd(l *chainLink) {
	if l.offset < c.Length {
		c.addBreak(l.breakf("is missing: the file ends here, but the checkpoint covers %d bytes up to batch %d of the process", c.Length, c.Seq))
	}
}

// chainLink is what the chain needs of a batch.
type chainLink struct {
	name         string
	index        int
	offset       int64
	seq          int64
	prev         string
	hash         string
	checkpointed bool
}

func (l *chainLink) breakf(reason string, args ...any) *format.BreakError {
	return &format.BreakError{Name: l.name, Index: l.index, Offset: l.offset, Reason: fmt.Sprintf(reason, args...)}
}

// follows returns what is wrong between l and the batch before, which is nil for the first of a process. If the batch
// before is not checkpointed, then that one has changed: a change of l would show in the batch after l.
func (l *chainLink) follows(last *chainLink) *format.BreakError {
	switch {
	case last == nil && l.seq != 0:
		return l.breakf("is the first of its process but has sequence %d", l.seq)
	case (l.seq == 0) != (l.prev == ""):
		return l.breakf("has sequence %d but names %q as the batch before", l.seq, l.prev)
	case last == nil:
		return nil
	case l.seq != last.seq+1:
		return l.breakf("has sequence %d after %d (%s)", l.seq, last.seq, last.name)
	case l.prev != last.hash && last.checkpointed:
		return l.breakf("names %.12s… as the batch before, but that is %.12s… (%s)", l.prev, last.hash, last.name)
	case l.prev != last.hash:
		return last.breakf("is %.12s…, but the next names %.12s… as the batch before", last.hash, l.prev)
	}
	return nil
}
