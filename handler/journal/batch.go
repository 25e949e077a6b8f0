package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"github.com/klauspost/compress/gzip"

	"aoaigateway/handler/blob"
)

// The bounds of a member. gzip stores what it cannot compress with less than 1 KiB of
// framing for 4 MiB, so a member of maxRaw bytes fits an append.
const (
	maxRaw    = blob.MaxAppend - 16<<10
	maxHeader = 4 << 10
)

const batchType = "member"

// header is a member's first line.
type header struct {
	Type    string `json:"type"`
	Process string `json:"process"`
	File    int    `json:"file"`
	Seq     int64  `json:"seq"`
	Prev    string `json:"prev"`

	InFlight map[string][]string `json:"open,omitempty"` // ids by the name of the file with their begin
}

// member is a packed group. data is the packer's and good until it packs again.
type packedBatch struct {
	data []byte
	hash string // SHA-256 of data, hex
}

// packer compresses groups, keeping its window and buffer between them.
type packer struct {
	buf bytes.Buffer
	gz  *gzip.Writer
}

func (p *packer) pack(h header, group []*Pending) packedBatch {
	p.buf.Reset()
	if p.gz == nil {
		p.gz, _ = gzip.NewWriterLevel(&p.buf, gzip.BestSpeed) // fails for unknown levels only
	} else {
		p.gz.Reset(&p.buf)
	}
	first, _ := json.Marshal(h) // strings and numbers
	p.line(first)
	for _, l := range group {
		p.line(l.line)
	}
	_ = p.gz.Close() // writes to memory
	return packedBatch{data: p.buf.Bytes(), hash: hash(p.buf.Bytes())}
}

func (p *packer) line(line []byte) {
	_, _ = p.gz.Write(line)
	_, _ = p.gz.Write([]byte{'\n'})
}

func hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
