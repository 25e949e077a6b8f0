package journal

import (
	"context"
	"time"

	"aoaigateway/handler/journal/manifest"
)

// run commits groups of lines. It ends when the writer is closed and the queue is empty, or
// when ctx ends.
func (w *Writer) run(ctx context.Context, c *committer) {
	defer close(w.stopped)
	defer w.abandon()
	for w.waitForLines(ctx, c) {
		group := w.take()
		if len(group) == 0 { // an earlier group has taken the lines already
			continue
		}
		started := time.Now()
		for ; len(group) > 0; group = w.takeFull() {
			if !c.commit(ctx, group) {
				return
			}
			w.release(group)
		}
		w.pause(ctx, started)
	}
	if ctx.Err() == nil {
		c.closeFile()
	}
}

// waitForLines waits until there are lines to commit and returns true. It returns false if
// no more lines will come.
func (w *Writer) waitForLines(ctx context.Context, c *committer) bool {
	var idle <-chan time.Time
	if w.manifest != nil && c.file != nil {
		timer := time.NewTimer(manifest.CloseIdleAfter)
		defer timer.Stop()
		idle = timer.C
	}
	for {
		select {
		case <-w.wake:
			return ctx.Err() == nil
		case <-ctx.Done():
			return false
		case <-idle: // closes the file: without writes, other processes would take this process for dead
			c.closeFile()
		case <-w.closing:
			used, _ := w.Backlog()
			return used > 0 && ctx.Err() == nil
		}
	}
}

// pause waits until an Interval has passed since the last commit began.
func (w *Writer) pause(ctx context.Context, started time.Time) {
	timer := time.NewTimer(w.o.Interval - time.Since(started))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.closing:
	case <-ctx.Done():
	}
}

// take removes lines from the queue, as many as fit into one batch.
func (w *Writer) take() []*Pending {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, size := 0, int64(0)
	for _, p := range w.queue {
		if size+p.size() > MaxLine {
			break
		}
		size += p.size()
		n++
	}
	group := w.queue[:n:n]
	w.queue = append([]*Pending(nil), w.queue[n:]...)
	w.queued -= size
	return group
}

// takeFull returns the next group if more than one batch of lines is waiting. Such a group
// need not wait for more lines.
func (w *Writer) takeFull() []*Pending {
	w.mu.Lock()
	full := w.queued > MaxLine
	w.mu.Unlock()
	if !full {
		w.wakeForRest()
		return nil
	}
	return w.take()
}

// wakeForRest restores the wake-up token if take has left lines in the queue.
func (w *Writer) wakeForRest() {
	w.mu.Lock()
	left := len(w.queue)
	w.mu.Unlock()
	if left > 0 {
		w.wakeUp()
	}
}

// release frees the backlog that a durable group used. Only then does it tell the waiters,
// so that they can rely on the free backlog.
func (w *Writer) release(group []*Pending) {
	var size int64
	for _, p := range group {
		size += p.size()
		p.line = nil
	}
	w.mu.Lock()
	w.backlog -= size
	w.mu.Unlock()
	for _, p := range group {
		close(p.done)
	}
}
