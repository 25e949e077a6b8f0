package audit

import (
	"context"
	"encoding/hex"
	"hash"
	"io"
	"time"

	"aoaigateway/handler/gateway"
)

// upload stores a blob while its bytes arrive, through a pipe. The pipe has no buffer, so
// the writer waits for the reader.
type upload struct {
	w    *io.PipeWriter
	stop context.CancelFunc
	done chan struct{}
	err  error // the result of Put; set before done is closed
}

func (l *Log) upload(name string) *upload {
	ctx, stop := context.WithCancel(context.Background())
	r, w := io.Pipe()
	u := &upload{w: w, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(u.done)
		defer stop()
		u.err = l.o.Bodies.Put(ctx, name, r)
		_ = r.CloseWithError(u.err) // a blocked writer returns with this error
	}()
	return u
}

// write adds p to the blob. If that takes longer than limit, it aborts the upload and
// fails.
func (u *upload) write(p []byte, limit time.Duration) error {
	timer := time.AfterFunc(limit, u.abort)
	defer timer.Stop()
	_, err := u.w.Write(p)
	return err
}

// abort ends the upload. No blob is stored.
func (u *upload) abort() {
	_ = u.w.CloseWithError(context.DeadlineExceeded)
	u.stop()
}

// finish marks the end of the blob, and waits until the blob is durable or ctx ends.
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

// uploadWriter makes an upload usable as an io.Writer.
type uploadWriter struct {
	up    *upload
	limit time.Duration
}

func (u uploadWriter) Write(p []byte) (int, error) { return len(p), u.up.write(p, u.limit) }

// hashingWriter counts and hashes the bytes that it passes on.
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
