package journal

import (
	"context"

	"aoaigateway/handler/journal/format"
	"aoaigateway/handler/journal/manifest"
)

// committer turns groups of lines into batches of files. It belongs to the writer's one goroutine, so one append is in
// flight at a time.
type committer struct {
	Options
	process  string
	chain    chain
	file     *file    // nil before the first batch and after a file that takes no more
	files    int      // numbers used
	inserted int      // numbers whose manifest entry was inserted or attempted
	retired  []string // files that take no more; they are sealed once the next file has a batch
	manifest *manifest.Writer
	inFlight inFlight
	packer   format.Packer
}

// chain is the head of a process's chain of batches.
type chain struct {
	seq  int64  // of the next batch
	prev string // hash of the last durable one
}

// commit returns true once every line of group is durable, and false only when ctx ended first. It tries for as long
// as the process lives.
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
		case resultUnknown, notApplied: // ctx ended
			return false
		}
	}
}

// append makes one batch durable in the open file, or returns why it is not.
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

// advance moves the head past a durable batch. Only now are the retired files given up to recovery, because this
// file's first batch lists what is in flight.
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
