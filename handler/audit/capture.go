package audit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash"
	"io"
	"time"

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
	upload        *upload // takes all bytes once they are more
	err           error   // the upload failed; nothing is kept from then on
	assembled     json.RawMessage
	metadataOnly  bool // keep nothing
	assembledOnly bool // keep nothing of what is written: Assembled will come
	rules         *redact.Rules
	redactor      *redact.Writer // in front of up; nil without rules
	stored        *hashingWriter // what went into up, behind the redactor
	redactions    int            // by the rules
}

// digest counts and hashes what passes.
type hashingWriter struct {
	w    io.Writer
	size int64
	hash hash.Hash
}

func (d *hashingWriter) Write(p []byte) (int, error) {
	d.size += int64(len(p))
	_, _ = d.hash.Write(p)
	return d.w.Write(p)
}

func (d *hashingWriter) sum() *gateway.Digest {
	return &gateway.Digest{Size: d.size, SHA256: hex.EncodeToString(d.hash.Sum(nil))}
}

// Assembles says, before the first byte, that Assembled will be called, and tells whether
// nothing but that object will be kept. So it is under rules of redaction: in the stream
// itself a word may be in two events.
func (c *Capture) Assembles() bool {
	c.assembledOnly = c.rules != nil
	return c.assembledOnly
}

// Write records p. It blocks while a large answer's blob does not keep up, but no longer
// than the log's Wait; an error says that the answer cannot be recorded and must be cut.
// A relaxed log counts and hashes on instead.
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

// uploading is an upload as a writer.
type uploadWriter struct {
	up    *upload
	limit time.Duration
}

func (u uploadWriter) Write(p []byte) (int, error) { return len(p), u.up.write(p, u.limit) }

// Assembled gives the whole object a stream is equivalent to. A stream up to 1 MiB is then
// recorded as that object, beside its own size and hash. What is no valid JSON is ignored.
func (c *Capture) Assembled(obj json.RawMessage) {
	if c.metadataOnly {
		return
	}
	if c.rules != nil {
		obj, c.redactions = c.rules.JSON(obj)
	}
	c.assembled, _ = gateway.OneLine(obj)
}

// finish makes the body durable where it is large, and describes it.
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
		c.fill(b, buf)
	}
	return b, c.err
}

// finishUpload ends the blob that took the bytes as they came.
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

func (c *Capture) fill(b *gateway.Body, body []byte) {
	if c.rules != nil {
		redact := c.rules.Text
		if jsonLike(c.contentType) {
			redact = c.rules.JSON
		}
		body, c.redactions = redact(body)
	}
	b.SetContent(body)
}

// upload feeds a blob through a pipe, which holds nothing: the writer waits for the reader.
type upload struct {
	w    *io.PipeWriter
	stop context.CancelFunc
	done chan struct{}
	err  error // of Put, once done is closed
}

func (l *Log) upload(name string) *upload {
	ctx, stop := context.WithCancel(context.Background())
	r, w := io.Pipe()
	u := &upload{w: w, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(u.done)
		defer stop()
		u.err = l.o.Bodies.Put(ctx, name, r)
		_ = r.CloseWithError(u.err) // a writer still writing gets it
	}()
	return u
}

// write passes p on, or gives the blob up when that takes longer than limit.
func (u *upload) write(p []byte, limit time.Duration) error {
	timer := time.AfterFunc(limit, u.abort)
	defer timer.Stop()
	_, err := u.w.Write(p)
	return err
}

// abort ends the upload so that no blob comes of it.
func (u *upload) abort() {
	_ = u.w.CloseWithError(context.DeadlineExceeded)
	u.stop()
}

// finish ends the bytes and waits until the blob is durable or ctx ends.
func (u *upload) finish(ctx context.Context) error {
	_ = u.w.Close()
	select {
	case <-u.done:
	case <-ctx.Done():
		u.abort()
		<-u.done
	}
	return u.err
}
