package audit

import (
	"context"
	"encoding/hex"
	"hash"
	"io"
	"time"

	"aoaigateway/handler/gateway"
)

// upload stores a blob through a pipe. The pipe holds no bytes, so the writer waits for the reader.
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
		_ = r.CloseWithError(u.err) // a writer that is still writing gets the error
	}()
	return u
}

// write passes p on. If that takes longer than limit, it aborts the upload.
func (u *upload) write(p []byte, limit time.Duration) error {
	timer := time.AfterFunc(limit, u.abort)
	defer timer.Stop()
	_, err := u.w.Write(p)
	return err
}

// abort ends the upload without a blob.
func (u *upload) abort() {
	_ = u.w.CloseWithError(context.DeadlineExceeded)
	u.stop()
}

// finish marks the end of the bytes and waits until the blob is durable or ctx ends.
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

// uploadWriter is an upload as an io.Writer.
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
