package derive

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"time"

	"aoaigateway/handler/journal"
)

// claim is this recovery's hold on a dead process's file. It is renewed until release.
type claim struct {
	manifest *journal.Manifest
	cancel   context.CancelCauseFunc
	ended    chan struct{}

	mu   sync.Mutex
	file journal.File
}

const renewEvery = 20 * time.Second // a third of journal.RecoveryClaim

// newClaim claims f as it was read. journal.ErrTaken says that another recovery was faster, or that the writer lives.
// The context that it returns ends when the claim is lost.
func newClaim(ctx context.Context, manifest *journal.Manifest, f journal.File) (*claim, context.Context, error) {
	c := &claim{manifest: manifest, file: f, ended: make(chan struct{})}
	f.Owner, f.Until = "recovery-"+rand.Text(), manifest.Now().Add(journal.RecoveryClaim)
	claimed, err := manifest.Replace(ctx, f)
	if err != nil {
		return nil, nil, err
	}
	c.file = claimed
	ctx, c.cancel = context.WithCancelCause(ctx)
	go c.renew(ctx)
	return c, ctx, nil
}

// renew keeps the claim until release.
func (c *claim) renew(ctx context.Context) {
	defer close(c.ended)
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_ = c.update(ctx, func(*journal.File) {}) // two more attempts follow before the claim ends
		}
	}
}

// update changes the manifest entry and renews the claim with the same write.
func (c *claim) update(ctx context.Context, change func(*journal.File)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.file
	change(&f)
	f.Until = c.manifest.Now().Add(journal.RecoveryClaim)
	written, err := c.manifest.Replace(ctx, f)
	if err == nil {
		c.file = written
	}
	if errors.Is(err, journal.ErrTaken) {
		c.cancel(err)
	}
	return err
}

func (c *claim) current() journal.File {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.file
}

func (c *claim) release() {
	c.cancel(nil)
	<-c.ended
}
