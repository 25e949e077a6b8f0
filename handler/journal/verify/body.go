package verify

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

// blobField occurs in every record whose body is in a blob. It cannot occur inside a
// string, where quotes are escaped.
var blobField = []byte(`"blob":"bodies/`)

// compareBodies compares the blobs that the records of a batch name with these records.
func (c *fileCheck) compareBodies(ctx context.Context, blobs blob.Store, l *chainLink, lines []byte) {
	for c.err == nil {
		at := bytes.Index(lines, blobField)
		if at < 0 {
			return
		}
		start := bytes.LastIndexByte(lines[:at], '\n') + 1
		stop := at + bytes.IndexByte(lines[at:], '\n')
		line, err := gateway.ParseLine(lines[start:stop])
		lines = lines[stop:]
		if newer, ok := errors.AsType[*gateway.VersionError](err); ok {
			c.addNewer(newer)
			continue
		}
		if err != nil {
			c.addBreak(l.breakf("has a record that cannot be parsed: %v", err))
			continue
		}
		for _, b := range []*gateway.Body{line.Request, line.Response} {
			if b != nil && b.Blob != "" {
				c.compareBody(ctx, blobs, l, b)
			}
		}
	}
}

// compareBody compares a blob with its record. It reads a blob only once per file.
func (c *fileCheck) compareBody(ctx context.Context, blobs blob.Store, l *chainLink, b *gateway.Body) {
	want := b.InBlob()
	key := b.Blob + " " + want.SHA256
	if c.compared[key] {
		return
	}
	if c.compared == nil {
		c.compared = map[string]bool{}
	}
	c.compared[key] = true
	got, err := digest(ctx, blobs, b.Blob)
	if errors.Is(err, blob.ErrNotFound) {
		c.addBreak(l.breakf("names the body %s, which does not exist", b.Blob))
		return
	}
	if err != nil {
		c.err = fmt.Errorf("journal: %s: %w", b.Blob, err)
		return
	}
	c.bodies++
	if got != want {
		c.addBreak(l.breakf("names the body %s with %d bytes and SHA-256 %.12s…, but the blob has %d bytes and %.12s…",
			b.Blob, want.Size, want.SHA256, got.Size, got.SHA256))
	}
}

func digest(ctx context.Context, blobs blob.Store, name string) (gateway.Digest, error) {
	r, err := blobs.Open(ctx, name, 0)
	if err != nil {
		return gateway.Digest{}, err
	}
	defer func() { _ = r.Close() }()
	sum := sha256.New()
	size, err := io.Copy(sum, r)
	return gateway.Digest{Size: size, SHA256: hex.EncodeToString(sum.Sum(nil))}, err
}
