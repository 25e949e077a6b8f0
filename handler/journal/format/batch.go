// Package format defines the format of a journal file: the names of files, the batches in
// them, and how to read them. The documentation of package journal describes it.
package format

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"github.com/klauspost/compress/gzip"

	"aoaigateway/handler/blob"
)

// Version is the format version of the batches that this program writes, and the newest
// version that it can read.
const Version = 1

// Limits of a batch. Data that cannot be compressed grows by less than 1 KiB per 4 MiB, so
// a batch of MaxRaw bytes fits into one append. MaxHeader is the limit for its header line.
const (
	MaxRaw    = blob.MaxAppend - 16<<10
	MaxHeader = 4 << 10
)

const batchType = "batch"

// Header is the first line of a batch.
type Header struct {
	Type    string `json:"type"`
	Version int    `json:"version"`
	Process string `json:"process"`
	File    int    `json:"file"` // number of the file among those of its process
	Seq     int64  `json:"seq"`  // number of the batch among those of its process
	Prev    string `json:"prev"` // hash of the process's previous batch

	// InFlight lists the requests that were in flight when the file was opened, by the name
	// of the file that has their begin records. Only the first batch of a file may have it.
	InFlight map[string][]string `json:"inFlight,omitempty"`
}

// Packed is a compressed batch. Its Data is valid until the next call of the Packer that
// made it.
type Packed struct {
	Data []byte
	Hash string // SHA-256 of Data in hex
}

// Packer compresses batches. It reuses its memory.
type Packer struct {
	buf bytes.Buffer
	gz  *gzip.Writer
}

// Pack makes a batch of a header and records. The records must be JSON objects without line
// breaks.
func (p *Packer) Pack(h Header, records [][]byte) Packed {
	p.buf.Reset()
	if p.gz == nil {
		p.gz, _ = gzip.NewWriterLevel(&p.buf, gzip.BestSpeed) // fails only for unknown levels
	} else {
		p.gz.Reset(&p.buf)
	}
	h.Type, h.Version = batchType, Version
	first, _ := json.Marshal(h) // cannot fail: only strings and numbers
	p.line(first)
	for _, r := range records {
		p.line(r)
	}
	_ = p.gz.Close() // cannot fail: it writes to memory
	return Packed{Data: p.buf.Bytes(), Hash: hash(p.buf.Bytes())}
}

func (p *Packer) line(line []byte) {
	_, _ = p.gz.Write(line)
	_, _ = p.gz.Write([]byte{'\n'})
}

func hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
