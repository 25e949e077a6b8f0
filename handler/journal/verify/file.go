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

// fileCheck is a file with its manifest entry and the results of checking its blob.
type fileCheck struct {
	manifest.File
	hasEntry, hasBlob bool

	batches, records, bodies, beyondCheckpoint int

	bytes       int64
	first, last *chainLink
	whole       bool // the file was read to its end, so last is its last batch
	breaks      []*format.BreakError
	newer       []string
	err         error // an error of the store

	compared map[string]bool // names of the bodies that were compared
}

// addBreak adds b to the results, unless there is a break for the same batch already.
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

// fail adds a break that concerns the file itself.
func (c *fileCheck) fail(reason string, args ...any) {
	c.addBreak((&chainLink{name: c.Name, index: format.FileItself}).breakf(reason, args...))
}

func (c *fileCheck) addNewer(err *gateway.VersionError) {
	c.newer = append(c.newer, c.Name+": "+err.Error())
}

// check compares the blob with the manifest entry. It uses the scanner s, which belongs to
// the caller.
func (c *fileCheck) check(ctx context.Context, blobs blob.Store, s *format.Scanner) {
	if len(c.newer) > 0 {
		return
	}
	content, err := blobs.Open(ctx, c.Name, 0)
	switch {
	case errors.Is(err, blob.ErrNotFound):
		if c.whole = c.Length == 0; !c.whole {
			c.fail("does not exist, although its checkpoint covers %d bytes", c.Length)
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

// checkBatch checks one batch and counts it. An error means that this program cannot read
// the batch.
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

// checkCheckpoint compares a batch with the checkpoint. The batch ends at the offset end.
func (c *fileCheck) checkCheckpoint(l *chainLink, end int64) {
	switch {
	case c.Adopted || !c.hasEntry || end > c.Length && l.offset >= c.Length && c.State == manifest.Open:
		c.beyondCheckpoint++
	case end == c.Length && (l.seq != c.Seq || l.hash != c.Hash):
		c.addBreak(l.breakf("is not batch %d with the hash that the checkpoint has", c.Seq))
	case end == c.Length:
		l.checkpointed = true
	case end > c.Length && l.offset < c.Length:
		c.addBreak(l.breakf("reaches beyond byte %d, where a batch must end according to the checkpoint", c.Length))
	case end > c.Length:
		c.addBreak(l.breakf("begins at or after byte %d, where the file must end according to the checkpoint", c.Length))
	}
}

// checkEnd checks that the file does not end before the checkpoint.
func (c *fileCheck) checkEnd(l *chainLink) {
	if l.offset < c.Length {
		c.addBreak(l.breakf("is missing: the file ends here, but the checkpoint covers %d bytes up to batch %d of the process", c.Length, c.Seq))
	}
}

// chainLink has the facts about a batch that are needed to check the chain.
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
		return l.breakf("is the first batch of its process but has the number %d, not 0", l.seq)
	case (l.seq == 0) != (l.prev == ""):
		return l.breakf("has the number %d but names %q as the hash of the previous batch", l.seq, l.prev)
	case last == nil:
		return nil
	case l.seq != last.seq+1:
		return l.breakf("has the number %d but follows the batch with the number %d (%s)", l.seq, last.seq, last.name)
	case l.prev != last.hash && last.checkpointed:
		return l.breakf("names %.12s… as the hash of the previous batch, but that batch has %.12s… (%s)", l.prev, last.hash, last.name)
	case l.prev != last.hash:
		return last.breakf("has the hash %.12s…, but the next batch names %.12s… as the hash of its previous batch", last.hash, l.prev)
	}
	return nil
}
