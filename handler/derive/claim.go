package derive

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"time"

	"aoaigateway/handler/journal/manifest"
)

// claim is this process's right to recover a file of a dead process. It is renewed until
// release is called.
type claim struct {
	manifest *manifest.Manifest
	cancel   context.CancelCauseFunc
	ended    chan struct{}

	mu   sync.Mutex
	file manifest.File
}

const renewEvery = 20 * time.Second // a third of manifest.RecoveryClaim

// newClaim claims f. It fails with manifest.ErrTaken if the manifest entry has changed
// since f was read: another recovery has claimed the file, or its writer is alive. The
// context that it returns ends when the claim is lost.
func newClaim(ctx context.Context, m *manifest.Manifest, f manifest.File) (*claim, context.Context, error) {
	c := &claim{manifest: m, file: f, ended: make(chan struct{})}
	f.Owner, f.Until = "recovery-"+rand.Text(), m.Now().Add(manifest.RecoveryClaim)
	claimed, err := m.Replace(ctx, f)
	if err != nil {
		return nil, nil, err
	}
	c.file = claimed
	ctx, c.cancel = context.WithCancelCause(ctx)
	go c.renew(ctx)
	return c, ctx, nil
}

// renew renews the claim every renewEvery until release is called.
func (c *claim) renew(ctx context.Context) {
	defer close(c.ended)
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_ = c.update(ctx, func(*manifest.File) {}) // if this fails, there are two more tries before the claim expires
		}
	}
}

// update changes the manifest entry and renews the claim with the same write.
func (c *claim) update(ctx context.Context, change func(*manifest.File)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.file
	change(&f)
	f.Until = c.manifest.Now().Add(manifest.RecoveryClaim)
	written, err := c.manifest.Replace(ctx, f)
	if err == nil {
		c.file = written
	}
	if errors.Is(err, manifest.ErrTaken) {
		c.cancel(err)
	}
	return err
}

func (c *claim) current() manifest.File {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.file
}

func (c *claim) release() {
	c.cancel(nil)
	<-c.ended
}
