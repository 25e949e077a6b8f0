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

// Capture records the body of an answer. Only the request's goroutine uses it.
type Capture struct {
	log           *Log
	name          string
	contentType   string
	size          int64
	hash          hash.Hash
	buf           []byte  // the whole body so far, while it is not larger than gateway.MaxInline
	upload        *upload // the upload of a larger body
	err           error   // error of the upload; after it no content is kept
	assembled     json.RawMessage
	metadataOnly  bool // keep no content, only size and hash
	assembledOnly bool // keep no content of the stream, because Assembled will give the object
	rules         *redact.Rules
	redactor      *redact.Writer // redacts what goes to stored; nil = there are no rules
	stored        *hashingWriter // counts and hashes what is stored, after redaction
	redactions    int            // number of matches of the rules
}

// ExpectAssembled announces that Assembled will be called. It must be called before the
// first byte is written. It reports whether the record will have only the assembled object.
// That is so if there are redaction rules, because two events of the stream can each
// contain a part of a match.
func (c *Capture) ExpectAssembled() bool {
	c.assembledOnly = c.rules != nil
	return c.assembledOnly
}

// Write records p. If the upload of a large body is slow, Write waits for it, at most for
// the log's Wait. If the bytes cannot be recorded, it returns an error, and the answer must
// be cut off. In relaxed mode it returns no error and continues without the content.
func (c *Capture) Write(p []byte) (int, error) {
	c.size += int64(len(p))
	_, _ = c.hash.Write(p)
	if err := c.keep(p); err != nil && !c.log.o.Relaxed {
		return 0, unavailable("The answer could not be recorded, so it was cut off. Try again.", err)
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

// Assembled gives the object that the stream is equivalent to. If the object is at most 1
// MiB, it is recorded as the content of the stream, together with the size and hash of the
// stream itself. Invalid JSON is ignored.
func (c *Capture) Assembled(obj json.RawMessage) {
	if c.metadataOnly {
		return
	}
	if c.rules != nil {
		obj, c.redactions = c.rules.JSON(obj)
	}
	c.assembled, _ = gateway.OneLine(obj)
}

// finish returns the description of the body for the record. A large body is durable before
// finish returns.
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

// finishUpload completes the blob of a large body.
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
	err := c.log.putBody(ctx, c.name, inMemory(content))
	if err == nil {
		b.Blob = c.name
	}
	return err
}
