package journal

import (
	"context"

	"aoaigateway/handler/journal/format"
	"aoaigateway/handler/journal/manifest"
)

// committer writes groups of lines as batches into files. Only the writer's goroutine uses
// it, so only one append is in flight at a time.
type committer struct {
	Options
	process  string
	chain    chain
	file     *file    // the open file; nil = none, before the first batch or after the previous file was retired
	files    int      // how many file numbers were used
	inserted int      // how many of them the manifest has an entry for, or may have one
	retired  []string // names of files that take no more batches; they are sealed after the next file has its first batch
	manifest *manifest.Writer
	inFlight inFlight
	packer   format.Packer
}

// chain is the end of a process's chain of batches.
type chain struct {
	seq  int64  // sequence number of the next batch
	prev string // hash of the last durable batch
}

// commit makes all lines of group durable. It returns false only if ctx ended first;
// without that it never gives up.
func (c *committer) commit(ctx context.Context, group []*Pending) bool {
	for {
		if !c.ensureFile(ctx) {
			return false
		}
		result := applied
		if c.file.appends == 0 && c.inFlight.len() > 0 {
			result = c.append(ctx, c.inFlight.list(c.Logger), nil)
		}
		if result == applied {
			result = c.append(ctx, nil, group)
		}
		switch result {
		case applied:
			c.inFlight.update(group, c.file.name)
			return true
		case fileClosed:
			c.retireFile()
		case resultUnknown, notApplied: // only possible after ctx ended
			return false
		}
	}
}

// append tries to make one batch durable in the open file, and returns the result.
func (c *committer) append(ctx context.Context, inFlight map[string][]string, group []*Pending) appendResult {
	records := make([][]byte, len(group))
	for i, p := range group {
		records[i] = p.line
	}
	h := format.Header{Process: c.process, File: c.file.number, Seq: c.chain.seq, Prev: c.chain.prev, InFlight: inFlight}
	batch := c.packer.Pack(h, records)
	result := c.appendUntilKnown(ctx, batch.Data)
	if result == applied {
		c.advance(batch)
	}
	return result
}

// advance moves the end of the chain past a durable batch. Only now are the retired files
// sealed, because the first batch of this file lists the requests in flight.
func (c *committer) advance(batch format.Packed) {
	c.file.length += int64(len(batch.Data))
	c.file.appends++
	c.manifest.Checkpoint(c.file.name, manifest.Head{Seq: c.chain.seq, Length: c.file.length, Hash: batch.Hash})
	c.chain = chain{seq: c.chain.seq + 1, prev: batch.Hash}
	c.sealRetired()
}

func (c *committer) sealRetired() {
	for _, name := range c.retired {
		c.manifest.Seal(name)
	}
	c.retired = nil
}
