// Package format is the format of a journal file: the names of files, the batches in them, and how they are read.
// The documentation of package journal describes it.
package format

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"github.com/klauspost/compress/gzip"

	"aoaigateway/handler/blob"
)

// Version is the format version of the batches that this program writes, and the newest that it reads.
const Version = 1

// The bounds of a batch. Data that gzip cannot compress grows by less than 1 KiB for 4 MiB, so
// a batch of MaxRaw bytes fits one append. MaxHeader bounds its header line.
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
	File    int    `json:"file"` // the writer's count of files
	Seq     int64  `json:"seq"`  // the writer's count of batches
	Prev    string `json:"prev"` // Hash of the batch before

	// InFlight lists the requests in flight when the file was opened, by the file that has their begin. Only the first
	// batch of a file may have it.
	InFlight map[string][]string `json:"inFlight,omitempty"`
}

// Packed is a compressed batch. Data belongs to the packer and is valid until it packs again.
type Packed struct {
	Data []byte
	Hash string // SHA-256 of Data, hex
}

// Packer compresses batches. It keeps its window and its buffer between them.
type Packer struct {
	buf bytes.Buffer
	gz  *gzip.Writer
}

// Pack makes one batch of a header and records, which are JSON objects without line breaks.
func (p *Packer) Pack(h Header, records [][]byte) Packed {
	p.buf.Reset()
	if p.gz == nil {
		p.gz, _ = gzip.NewWriterLevel(&p.buf, gzip.BestSpeed) // fails for unknown levels only
	} else {
		p.gz.Reset(&p.buf)
	}
	h.Type, h.Version = batchType, Version
	first, _ := json.Marshal(h) // strings and numbers: cannot fail
	p.line(first)
	for _, r := range records {
		p.line(r)
	}
	_ = p.gz.Close() // writes to memory
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
