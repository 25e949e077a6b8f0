package audit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash"

	"aoaigateway/handler/gateway"
	"aoaigateway/handler/redact"
)

// Capture records an answer's bytes. It belongs to the request's goroutine.
type Capture struct {
	log           *Log
	name          string
	contentType   string
	size          int64
	hash          hash.Hash
	buf           []byte  // all bytes so far, while they are at most gateway.MaxInline
	upload        *upload // takes all bytes once they are more than that
	err           error   // of the upload; no content is kept from then on
	assembled     json.RawMessage
	metadataOnly  bool // keep no content
	assembledOnly bool // keep no content of what is written, because Assembled will be called
	rules         *redact.Rules
	redactor      *redact.Writer // in front of stored; nil without rules
	stored        *hashingWriter // in front of upload, behind the redactor
	redactions    int            // matches of the rules
}

// ExpectAssembled must be called before the first byte if Assembled will be called. It reports whether only that object
// will be kept, which is so under rules of redaction, because a word can be split over two events of the stream.
func (c *Capture) ExpectAssembled() bool {
	c.assembledOnly = c.rules != nil
	return c.assembledOnly
}

// Write records p. It blocks while the upload of a large answer is slow, but at most for the log's Wait. An error says
// that the answer cannot be recorded and must be cut. A relaxed log returns no error and continues with metadata.
func (c *Capture) Write(p []byte) (int, error) {
	c.size += int64(len(p))
	_, _ = c.hash.Write(p)
	if err := c.keep(p); err != nil && !c.log.o.Relaxed {
		return 0, unavailable("The answer could not be recorded, so it is cut; try again.", err)
	}
	return len(p), nil
}

func (c *Capture) keep(p []byte) error {
	switch {
	case c.metadataOnly || c.assembledOnly:
		return nil
	case c.err != nil:
		return c.err
	case c.upload == nil && len(c.buf)+len(p) <= gateway.MaxInline:
		c.buf = append(c.buf, p...)
		return nil
	case c.upload == nil:
		c.startUpload()
		if c.err = c.send(c.buf); c.err != nil {
			return c.err
		}
		c.buf = nil
	}
	c.err = c.send(p)
	return c.err
}

func (c *Capture) startUpload() {
	c.upload = c.log.upload(c.name)
	if c.rules != nil {
		c.stored = &hashingWriter{w: uploadWriter{c.upload, c.log.o.Wait}, hash: sha256.New()}
		c.redactor = c.rules.Writer(c.stored, jsonLike(c.contentType))
	}
}

func (c *Capture) send(p []byte) error {
	if c.redactor == nil {
		return c.upload.write(p, c.log.o.Wait)
	}
	_, err := c.redactor.Write(p)
	return err
}

// Assembled gives the whole object that a stream is equivalent to. If the object is not over 1 MiB, it is recorded as
// the stream's content, with the size and hash of the stream. Invalid JSON is ignored.
func (c *Capture) Assembled(obj json.RawMessage) {
	if c.metadataOnly {
		return
	}
	if c.rules != nil {
		obj, c.redactions = c.rules.JSON(obj)
	}
	c.assembled, _ = gateway.OneLine(obj)
}

// finish describes the body, and makes a large one durable.
func (c *Capture) finish(ctx context.Context) (*gateway.Body, error) {
	b := &gateway.Body{Size: c.size, SHA256: hex.EncodeToString(c.hash.Sum(nil)), ContentType: c.contentType}
	if len(c.assembled) <= gateway.MaxInline {
		b.Assembled = c.assembled
	}
	buf := c.buf
	c.buf = nil
	switch {
	case c.upload != nil:
		return c.finishUpload(ctx, b)
	case len(c.assembled) > gateway.MaxInline && c.assembledOnly:
		b.Stored = new(gateway.DigestOf(c.assembled))
		return b, c.put(ctx, b, c.assembled)
	case len(c.assembled) > gateway.MaxInline:
		return b, c.put(ctx, b, buf)
	case b.Assembled == nil && !c.metadataOnly:
		buf, c.redactions = redactBody(c.rules, c.contentType, buf)
		b.SetContent(buf)
	}
	return b, c.err
}

// finishUpload ends the blob that took the bytes as they arrived.
func (c *Capture) finishUpload(ctx context.Context, b *gateway.Body) (*gateway.Body, error) {
	err := c.err
	if c.redactor != nil {
		if cerr := c.redactor.Close(); err == nil {
			err = cerr
		}
		c.redactions += c.redactor.Count()
		b.Stored = c.stored.sum()
	}
	if ferr := c.upload.finish(ctx); err == nil {
		err = ferr
	}
	if err == nil {
		b.Blob = c.name
	}
	return b, err
}

func (c *Capture) put(ctx context.Context, b *gateway.Body, content []byte) error {
	err := c.log.putBody(ctx, c.name, content)
	if err == nil {
		b.Blob = c.name
	}
	return err
}
