package audit

import (
	"context"
	"encoding/json"
	"hash"
	"io"
	"time"

	"aoaigateway/handler/gateway"
)

// Capture records an answer's bytes. It belongs to the request's goroutine.
type Capture struct {
	log         *Log
	name        string
	contentType string
	size        int64
	hash        hash.Hash
	buf         []byte  // all bytes so far, while they are at most maxInline
	up          *upload // takes all bytes once they are more
	err         error   // the upload failed; nothing is kept from then on
	assembled   json.RawMessage
	figures     bool // keep nothing
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
	case c.figures:
		return nil
	case c.err != nil:
		return c.err
	case c.up == nil && len(c.buf)+len(p) <= maxInline:
		c.buf = append(c.buf, p...)
		return nil
	case c.up == nil:
		c.up = c.log.upload(c.name)
		if c.err = c.up.write(c.buf, c.log.o.Wait); c.err != nil {
			return c.err
		}
		c.buf = nil
	}
	c.err = c.up.write(p, c.log.o.Wait)
	return c.err
}

// Assembled gives the whole object a stream is equivalent to. A stream up to 1 MiB is then
// recorded as that object, beside its own size and hash. What is no valid JSON is ignored.
func (c *Capture) Assembled(obj json.RawMessage) {
	if !c.figures {
		c.assembled, _ = oneLine(obj)
	}
}

// finish makes the body durable where it is large, and describes it.
func (c *Capture) finish(ctx context.Context) (*gateway.Body, error) {
	b := &gateway.Body{Size: c.size, SHA256: hexSum(c.hash.Sum(nil)), ContentType: c.contentType}
	if len(c.assembled) <= maxInline {
		b.Assembled = c.assembled
	}
	buf := c.buf
	c.buf = nil
	err := c.err
	switch {
	case c.up != nil:
		if ferr := c.up.finish(ctx); err == nil {
			err = ferr
		}
	case len(c.assembled) > maxInline:
		err = c.log.put(ctx, c.name, buf)
	default:
		if b.Assembled == nil && !c.figures {
			fill(b, buf)
		}
		return b, nil
	}
	if err == nil {
		b.Blob = c.name
	}
	return b, err
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
