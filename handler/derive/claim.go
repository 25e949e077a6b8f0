package derive

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"time"

	"aoaigateway/handler/journal"
)

// claim is a dead process's file in this sweep's hands, for as long as it is renewed.
type claim struct {
	rows   *journal.Rows
	cancel context.CancelCauseFunc
	ended  chan struct{}

	mu   sync.Mutex
	file journal.File
}

const renewEvery = 20 * time.Second

// take claims f as it was read; journal.ErrTaken says that somebody was faster, or that
// its writer lives. The context ends when the claim is lost.
func take(ctx context.Context, rows *journal.Rows, f journal.File) (*claim, context.Context, error) {
	c := &claim{rows: rows, file: f, ended: make(chan struct{})}
	f.Owner, f.Until = "sweep-"+rand.Text(), rows.Now().Add(journal.SweepLives)
	row, err := rows.Replace(ctx, f)
	if err != nil {
		return nil, nil, err
	}
	c.file = row
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
			_ = c.update(ctx, func(*journal.File) {}) // there are two more tries
		}
	}
}

// update changes the row, and renews the claim with it.
func (c *claim) update(ctx context.Context, change func(*journal.File)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.file
	change(&f)
	f.Until = c.rows.Now().Add(journal.SweepLives)
	row, err := c.rows.Replace(ctx, f)
	if err == nil {
		c.file = row
	}
	if errors.Is(err, journal.ErrTaken) {
		c.cancel(err)
	}
	return err
}

func (c *claim) now() journal.File {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.file
}

func (c *claim) release() {
	c.cancel(nil)
	<-c.ended
}
