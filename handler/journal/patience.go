package journal

import (
	"context"
	"io"
	"time"

	"aoaigateway/handler/blob"
)

const readPatience = 10 * time.Second // with one read; what is done with it between two does not count

// patient is a blob whose reads fail when one takes too long: connections can fall silent.
type patient struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func openPatiently(ctx context.Context, b blob.Store, name string, offset int64) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancel(ctx)
	timer := time.AfterFunc(readPatience, cancel)
	defer timer.Stop()
	r, err := b.Open(ctx, name, offset)
	if err != nil {
		cancel()
		return nil, err
	}
	return patient{r, cancel}, nil
}

func (p patient) Read(b []byte) (int, error) {
	timer := time.AfterFunc(readPatience, p.cancel)
	defer timer.Stop()
	return p.ReadCloser.Read(b)
}

func (p patient) Close() error {
	defer p.cancel()
	return p.ReadCloser.Close()
}
